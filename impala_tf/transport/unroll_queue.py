"""From actors to learner: a bounded queue of unrolls, and a staging area with the learner's next
batch.

The bound keeps the data fresh: an actor that is ahead of the learner waits in `enqueue_many`.
"""

import itertools
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.system import machine
from impala_tf.transport import packing

_ids = itertools.count()


class Sent(NamedTuple):
  """Unrolls and who sent them.

  sender: int32, a number for each unroll.
  unrolls: `structs.Unroll` with a leading [n] on every leaf.
  """

  sender: Any
  unrolls: Any


class UnrollQueue:
  """A bounded first-in-first-out queue whose elements are single unrolls.

  The queue is found by its name on `device`; the methods may be called eagerly or inside a
  tf.function, by any thread.

  wire_format: `packing.WireFormat` of its elements, each a `Sent`; None if they are unrolls as they
    are.
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
      serialized: whether unrolls lie in it in their `packing.WireFormat`, for a way over a network.
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
      self.wire_format = packing.WireFormat(Sent(tf.TensorSpec([], tf.int32), unroll_spec))
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
  return unrolls._replace(
    step_outputs=time_major(unrolls.step_outputs), agent_outputs=time_major(unrolls.agent_outputs)
  )


class StagingArea:
  """Holds the learner's next batch, already on its device, while the learner works on the present
  one.

  A thread of its own fills it. The batch waits in Python and not in TensorFlow's Stage operation: a
  learner blocked there would neither notice a failed actor nor be stopped by a signal, and it would
  hold a thread of the inter-op pool. The next batch leaves the queue once the learner has taken the
  one before, no sooner, so that the area adds one update to the policy lag, as the authors' does.

      staging = StagingArea(lambda: unrolls.dequeue_batch(32))
      staging.start()
      batch, episodes = staging.get(timeout=1.0)     # None if there was no batch in time
  """

  def __init__(
    self,
    dequeue: Callable[[], structs.Unroll],
    on_host: Callable[[structs.Unroll], Any] = lambda batch: None,
  ):
    """Describes the area.

    Args:
      dequeue: gives the next batch, blocking; ends the flow by tf.errors.OutOfRangeError or
        CancelledError.
      on_host: computes, from a batch that is still on the host, what `get` returns beside it.
    """
    self._dequeue = dequeue
    self._on_host = on_host
    self._staged: queue.SimpleQueue = queue.SimpleQueue()
    self._room = threading.Semaphore(1)
    self._closed = threading.Event()
    self._error = None
    self._thread = threading.Thread(target=self._fill, name='staging', daemon=True)

  def start(self) -> None:
    """Begins to fetch batches."""
    self._thread.start()

  def _fill(self):
    try:
      while self._wait_for_room():
        batch = self._dequeue()
        beside = self._on_host(batch)
        self._staged.put((tree.map_structure(tf.identity, batch), beside))
        del batch, beside  # The next ones take their memory.
    except (tf.errors.OutOfRangeError, tf.errors.CancelledError):
      pass
    except Exception as error:  # Of any kind: the learner's thread is where it can be handled.
      self._error = error

  def _wait_for_room(self):
    """Returns True once the batch before was taken, False after `close`."""
    while not self._closed.is_set():
      if self._room.acquire(timeout=0.5):
        return not self._closed.is_set()
    return False

  def get(self, timeout: float) -> tuple[structs.Unroll, Any] | None:
    """Takes the next batch, on the learner's device, and what `on_host` made of it.

    Returns:
      Both, or None if `timeout` seconds passed without a batch.

    Raises:
      Exception: the error that ended the thread that fetches batches.
    """
    try:
      staged = self._staged.get(timeout=timeout)
    except queue.Empty:
      if self._error is not None:
        raise self._error from None
      return None
    self._room.release()
    return staged

  def close(self) -> None:
    """Stops fetching. Close the queue of unrolls first: the thread may be waiting for it."""
    self._closed.set()
    self._room.release()
    if self._thread.ident is not None:
      self._thread.join()
