"""From actors to learner: a bounded queue of unrolls, and batches of them.

The bound keeps the data fresh: an actor that is ahead of the learner waits in `enqueue_many`.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.system import machine
from impala_tf.transport.wire_format import WireFormat

# Which dimension of a time-major batch is that of its unrolls.
BATCH_AXIS = {
  'level': 0,
  'policy_version': 0,
  'agent_state': 0,
  'step_outputs': 1,
  'agent_outputs': 1,
}
_ids = itertools.count()


class Sent(NamedTuple):
  """Unrolls and who sent them.

  Attributes:
    sender: int32, a number for each unroll.
    unrolls: `structs.Unroll` with a leading [n] on every leaf.
  """

  sender: Any
  unrolls: Any


class UnrollQueue:
  """A bounded first-in-first-out queue whose elements are single unrolls.

  The queue is found by its name on `device`; the methods may be called eagerly or inside a
  tf.function, by any thread.

  Attributes:
    wire_format: `WireFormat` of its elements, each a `Sent`; None if they are unrolls as they are.
  """

  def __init__(
    self,
    unroll_spec: structs.Unroll,
    capacity: int,
    device: str = '/CPU:0',
    shared_name: str | None = None,
    serialized: bool = False,
    sender: int = 0,
  ):
    """Describes the queue, which is made by the first call.

    Args:
      unroll_spec: of `tf.TensorSpec`, one unroll: [T+1, ...] for step and agent outputs.
      capacity: how many unrolls it holds before `enqueue_many` waits.
      device: where it lives.
      shared_name: its name there; a name of its own by default.
      serialized: whether unrolls lie in it in their `WireFormat`, for a way over a network.
      sender: number of this process, which goes with what it sends over a network.

    Raises:
      ValueError: if the capacity is below 1.
    """
    if capacity < 1:
      raise ValueError(f'The queue needs room for at least one unroll, got capacity={capacity}.')
    self.capacity = capacity
    self._spec = unroll_spec
    self._device = device
    self._shared_name = shared_name or f'unrolls_{next(_ids)}'
    self._sender = sender
    self.wire_format = None
    if serialized:
      self.wire_format = WireFormat(Sent(tf.TensorSpec([], tf.int32), unroll_spec))
    elements = self.wire_format.specs if self.wire_format else tree.flatten(unroll_spec)
    self._dtypes = [element.dtype for element in elements]
    self._shapes = [element.shape for element in elements]
    leaves = tree.flatten(unroll_spec)

    # Traced here: where threads call it for the first time together, TensorFlow warns of retracing.
    signature = [tf.TensorSpec([None, *leaf.shape], leaf.dtype) for leaf in leaves]
    self._enqueue_many = tf.function(
      self._build_enqueue_many, input_signature=[signature], autograph=False
    ).get_concrete_function()

  def _queue(self):
    # Made again in each function: a queue object made eagerly would destroy the shared resource
    # when it is collected.
    with tf.device(self._device):
      handle = tf.raw_ops.FIFOQueueV2(
        component_types=self._dtypes,
        shapes=self._shapes,
        capacity=self.capacity,
        shared_name=self._shared_name,
      )
      return tf.queue.QueueBase(self._dtypes, self._shapes, None, handle)

  def enqueue_many(self, unrolls: structs.Unroll) -> None:
    """Adds n unrolls and waits while the queue is full.

    Args:
      unrolls: `structs.Unroll` with a leading [n] on every leaf.

    Raises:
      tf.errors.CancelledError: if the queue is closed, before or meanwhile.
    """
    tree.assert_same_structure(unrolls, self._spec)
    self._enqueue_many(tree.flatten(unrolls))

  def _build_enqueue_many(self, leaves):
    if self.wire_format:
      with tf.device(machine.local_cpu()):
        sender = tf.fill(tf.shape(leaves[0])[:1], self._sender)
        sent = Sent(sender, tree.unflatten_as(self._spec, leaves))
        leaves = self.wire_format.serialize(sent)
    self._queue().enqueue_many(leaves)

  @tf.function(autograph=False)
  def dequeue_batch(self, batch_size: int) -> structs.Unroll:
    """Waits for the next `batch_size` unrolls.

    Args:
      batch_size: B, not a tensor.

    Returns:
      `structs.Unroll`, time-major: [T+1, B, ...] for step and agent outputs, [B, ...] for the rest.

    Raises:
      tf.errors.OutOfRangeError: if the queue was closed and holds fewer.
    """
    with tf.device(self._device):
      return as_batch(self.dequeue_sent(batch_size).unrolls)

  def dequeue_sent(self, count: int) -> 'Sent':
    """Waits for the next `count` unrolls, [count, T+1, ...], with their senders; for use inside a
    tf.function.

    Args:
      count: not a tensor.

    Raises:
      tf.errors.OutOfRangeError: if the queue was closed and holds fewer.
    """
    with tf.device(self._device):
      elements = self._queue().dequeue_many(count)
      if not isinstance(elements, list):  # TensorFlow gives a single one so.
        elements = [elements]
      if self.wire_format:
        return self.wire_format.deserialize(elements)
      return Sent(tf.fill([count], self._sender), tree.unflatten_as(self._spec, elements))

  @tf.function(autograph=False)
  def size(self) -> tf.Tensor:
    """Counts the unrolls that wait, an int32 scalar."""
    return self._queue().size()

  @tf.function(autograph=False)
  def close(self) -> None:
    """Ends the flow: waiting and later calls of `enqueue_many` fail, and `dequeue_batch` fails once
    too little is left.
    """
    self._queue().close(cancel_pending_enqueues=True)


def time_major(nest: Any) -> Any:
  """Swaps the first two dimensions of each tensor of a nest: [B, T, ...] and [T, B, ...]."""
  return tree.map_structure(lambda t: tf.transpose(t, [1, 0, *range(2, t.shape.rank)]), nest)


def as_batch(unrolls: structs.Unroll) -> structs.Unroll:
  """Turns unrolls of [n, T+1, ...] into a batch as the learner takes it: time-major, [T+1, n, ...]
  for step and agent outputs.
  """
  return map_batches(lambda axis, tensor: time_major(tensor) if axis else tensor, unrolls)


def map_batches(function: Callable[..., Any], *batches: structs.Unroll) -> structs.Unroll:
  """Returns what function(axis of the batch, *tensors) makes of the tensors that have the same
  place in several time-major batches, of tensors or arrays.
  """

  def mapped(name, axis):
    parts = [getattr(batch, name) for batch in batches]
    return tree.map_structure(functools.partial(function, axis), *parts)

  return structs.Unroll(**{name: mapped(name, axis) for name, axis in BATCH_AXIS.items()})
