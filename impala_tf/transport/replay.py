"""Experience replay (Section 5.2.2, Table D.3): a part of each batch is drawn from the last 10,000
unrolls.

    batches = make(unroll_spec, config, seed)
    queue.enqueue_many(batches.pack(unrolls))
    batch = batches.extend(queue.dequeue_batch(config.fresh_per_batch))

A buffer lives in the learner's memory, in the types of the environment, with frames of stacks kept
once (`frame_stacks`). It fills up to 1.7 GB on Atari (10,000 unrolls of T = 20) and 21 GB on
DMLab-30 (T = 100). It is not in checkpoints: a run that goes on starts with an empty one, which is
full again after 10,000 new unrolls (0.8 million frames on Atari, 4 million on DMLab-30).
"""

import numpy as np
import tensorflow as tf
import tree

from impala_tf.transport import frame_stacks


def make(unroll_spec, config, seed, over_network=False):
  """A `ReplayedBatches`, or if nothing is to be replayed a `FreshBatches` or `PackedBatches`.

  Args:
    unroll_spec: `structs.Unroll` of `tf.TensorSpec`, one unroll.
    config: the run's `config.Config`.
    seed: list of int, of what is drawn.
    over_network: whether unrolls come over a network, which makes packing worth its while.
  """
  packing = frame_stacks.FrameStacks(unroll_spec, config.frame_stack)
  if not config.replay_fraction:
    return PackedBatches(packing) if over_network else FreshBatches(unroll_spec)
  buffer = Buffer(packing.packed_spec, config.replay_capacity, seed)
  return ReplayedBatches(unroll_spec, packing, buffer, config.replayed_per_batch)


class Buffer:
  """The last unrolls that were added, as many as there is room for."""

  def __init__(self, spec, capacity, seed):
    """Makes room, which takes memory only as it is filled.

    Args:
      spec: `structs.Unroll` of `tf.TensorSpec`, one unroll.
      capacity: int, unrolls.
      seed: list of int.
    """
    as_numpy = lambda dtype: object if dtype == tf.string else dtype.as_numpy_dtype
    self._arrays = tree.map_structure(
      lambda leaf: np.empty([capacity, *leaf.shape], as_numpy(leaf.dtype)), spec
    )
    self._capacity = capacity
    self._random = np.random.default_rng(seed)
    self._added = 0

  def __len__(self):
    return min(self._added, self._capacity)

  def add(self, unrolls):
    """Takes the place of the oldest ones; `unrolls` are arrays with a leading [n]."""
    # Of more than there is room for, the last would stay.
    unrolls = tree.map_structure(lambda array: array[-self._capacity :], unrolls)
    count = len(tree.flatten(unrolls)[0])
    places = np.arange(self._added, self._added + count) % self._capacity
    for array, new in zip(tree.flatten(self._arrays), tree.flatten(unrolls), strict=True):
      array[places] = new
    self._added += count

  def sample(self, count):
    """Draws uniformly, each of the `count` independently of the others; arrays with a leading
    [count].
    """
    places = self._random.integers(len(self), size=count)
    return tree.map_structure(lambda array: array[places], self._arrays)


class FreshBatches:
  """Batches without replay: nothing is packed, nothing added.

  spec: `structs.Unroll` of `tf.TensorSpec`, one unroll.
  """

  def __init__(self, unroll_spec):
    """Takes the spec of an unroll."""
    self.spec = unroll_spec

  def pack(self, unrolls):
    """As they are."""
    return unrolls

  def extend(self, batch):
    """As it is."""
    return batch


class PackedBatches:
  """Batches of packed unrolls, without replay.

  spec: `structs.Unroll` of `tf.TensorSpec`, one packed unroll.
  """

  def __init__(self, packing):
    """Takes a `frame_stacks.FrameStacks`."""
    self.spec = packing.packed_spec
    self._unpack = tf.function(packing.unpack, autograph=False)

  def extend(self, batch):
    """Unpacks a time-major batch."""
    with tf.device('/CPU:0'):
      return self._unpack(batch)


class ReplayedBatches:
  """Adds replayed unrolls to batches of new ones.

  spec: `structs.Unroll` of `tf.TensorSpec`, one packed unroll.
  """

  def __init__(self, unroll_spec, packing, buffer, replayed):
    """Binds the parts.

    Args:
      unroll_spec: `structs.Unroll` of `tf.TensorSpec`, one unroll.
      packing: its `frame_stacks.FrameStacks`.
      buffer: `Buffer` of packed unrolls.
      replayed: int, how many to add to each batch.
    """
    self.spec = packing.packed_spec
    # With a signature, as threads that call it for the first time would each trace a function of
    # their own.
    signature = tree.map_structure(
      lambda leaf: tf.TensorSpec([None, *leaf.shape], leaf.dtype), unroll_spec
    )
    self.pack = tf.function(packing.pack, input_signature=[signature], autograph=False)
    self._unpack = tf.function(packing.unpack, autograph=False)
    self._buffer = buffer
    self._replayed = replayed

  def extend(self, batch):
    """A batch of new unrolls with replayed ones behind them.

    The new ones are in the buffer by then and may be drawn, so that the first batch of a run
    repeats its own.

    Args:
      batch: packed `structs.Unroll`, time-major.

    Returns:
      `structs.Unroll`, time-major, unpacked.
    """
    fresh = tree.map_structure(np.asarray, batch)
    self._buffer.add(_swapped(fresh))
    replayed = _swapped(self._buffer.sample(self._replayed))
    over_time = lambda new, old: tree.map_structure(
      lambda *arrays: np.concatenate(arrays, 1), new, old
    )
    once = lambda new, old: tree.map_structure(lambda *arrays: np.concatenate(arrays), new, old)
    together = type(batch)(
      level=once(fresh.level, replayed.level),
      policy_version=once(fresh.policy_version, replayed.policy_version),
      agent_state=once(fresh.agent_state, replayed.agent_state),
      step_outputs=over_time(fresh.step_outputs, replayed.step_outputs),
      agent_outputs=over_time(fresh.agent_outputs, replayed.agent_outputs),
    )
    with tf.device('/CPU:0'):
      return self._unpack(tree.map_structure(tf.convert_to_tensor, together))


def _swapped(batch):
  """Time-major arrays with the batch first, and back."""
  swap = lambda nest: tree.map_structure(lambda array: np.swapaxes(array, 0, 1), nest)
  return batch._replace(
    step_outputs=swap(batch.step_outputs), agent_outputs=swap(batch.agent_outputs)
  )
