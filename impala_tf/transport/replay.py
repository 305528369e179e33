"""The learner's batches of new unrolls, and experience replay (Section 5.2.2, Table D.3), which
adds unrolls drawn from the last 10,000.

    batches = make(unroll_spec, config, seed)
    queue.enqueue_many(batches.unstack_frames(unrolls))                           # actors
    batch = batches.complete(queue.dequeue_batch(config.fresh_per_batch))         # learner

A buffer lives in the learner's memory, in the types of the environment, with frames of stacks kept
once (`frame_stacks`). It fills up to 1.7 GB on Atari (10,000 unrolls of T = 20) and 21 GB on
DMLab-30 (T = 100). It is not in checkpoints: a run that is resumed starts with an empty one, which
is full again after 10,000 new unrolls (0.8 million frames on Atari, 4 million on DMLab-30).
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tree

from impala_tf import config as config_lib
from impala_tf import structs
from impala_tf.transport import frame_stacks, unroll_queue


def make(
  unroll_spec: structs.Unroll,
  config: config_lib.Config,
  seed: Sequence[int],
  over_network: bool = False,
) -> 'FreshBatches':
  """Makes the batches of a run, `FreshBatches` or `ReplayedBatches`.

  Args:
    unroll_spec: of `tf.TensorSpec`, one unroll.
    config: the run's.
    seed: of the replayed unrolls that are drawn.
    over_network: whether unrolls come over a network, where fewer bytes are worth the work.
  """
  # Unstacked frames save memory in a replay and bytes on a network. Without either, whole stacks
  # cost nothing, and to unstack them would cost time.
  is_unstacked = over_network or config.replay_fraction
  stacks = frame_stacks.FrameStacks(unroll_spec, config.frame_stack if is_unstacked else 1)
  if not config.replay_fraction:
    return FreshBatches(stacks)
  buffer = Buffer(stacks.unstacked_spec, config.replay_capacity, seed)
  return ReplayedBatches(stacks, buffer, config.replayed_per_batch)


class FreshBatches:
  """Batches of new unrolls alone.

  Attributes:
    spec: `structs.Unroll` of `tf.TensorSpec`, one unroll on its way through the queue.
  """

  def __init__(self, stacks: frame_stacks.FrameStacks):
    """Takes what makes unrolls smaller for their way."""
    self.spec = stacks.unstacked_spec
    self._stacks = stacks

  def unstack_frames(self, unrolls: structs.Unroll) -> structs.Unroll:
    """Makes unrolls of an actor, [n, T+1, ...], ready for the queue."""
    return self._stacks.unstack_frames(unrolls)

  def complete(self, batch: structs.Unroll) -> structs.Unroll:
    """Makes a batch from the queue, time-major, ready for the learner."""
    return self._stacks.stack_frames(batch)


class ReplayedBatches(FreshBatches):
  """Batches of new unrolls with replayed ones behind them."""

  def __init__(self, stacks: frame_stacks.FrameStacks, buffer: 'Buffer', replayed: int):
    """Takes a buffer of unstacked unrolls, and how many of them to add to each batch."""
    super().__init__(stacks)
    self._buffer = buffer
    self._replayed = replayed

  def complete(self, batch: structs.Unroll) -> structs.Unroll:
    """Adds the replayed unrolls.

    The new ones are in the buffer by then and may be drawn, so that the first batch of a run
    repeats its own.
    """
    fresh = tree.map_structure(np.asarray, batch)
    self._buffer.add(_swapped(fresh))
    replayed = _swapped(self._buffer.sample(self._replayed))

    def joined(axis, *arrays):
      return tf.convert_to_tensor(np.concatenate(arrays, axis))

    with tf.device('/CPU:0'):
      together = unroll_queue.map_batches(joined, fresh, replayed)

    return super().complete(together)


class Buffer:
  """The last unrolls that were added, as many as there is room for."""

  def __init__(self, spec: structs.Unroll, capacity: int, seed: Sequence[int]):
    """Makes room for `capacity` unrolls of a spec, which takes memory only as it is filled."""

    def room(leaf):
      dtype = object if leaf.dtype == tf.string else leaf.dtype.as_numpy_dtype
      return np.empty([capacity, *leaf.shape], dtype)

    self._arrays = tree.map_structure(room, spec)
    self._capacity = capacity
    self._random = np.random.default_rng(seed)
    self._added = 0

  def __len__(self):
    return min(self._added, self._capacity)

  def add(self, unrolls: structs.Unroll) -> None:
    """Puts unrolls, arrays with a leading [n], in the place of the oldest ones."""
    # Of more than there is room for, the last stay.
    unrolls = tree.map_structure(lambda array: array[-self._capacity :], unrolls)
    count = len(tree.flatten(unrolls)[0])
    places = np.arange(self._added, self._added + count) % self._capacity
    for array, new in zip(tree.flatten(self._arrays), tree.flatten(unrolls), strict=True):
      array[places] = new
    self._added += count

  def sample(self, count: int) -> structs.Unroll:
    """Draws uniformly, each independently of the others; gives arrays with a leading [count]."""
    places = self._random.integers(len(self), size=count)
    return tree.map_structure(lambda array: array[places], self._arrays)


def _swapped(batch):
  """Swaps time and batch of a batch of arrays."""
  return unroll_queue.map_batches(lambda axis, array: np.swapaxes(array, 0, axis), batch)
