"""The intake of a cluster's learner: unrolls from its queue that it can learn from.

Actors check what they send by the settings that they share with the learner, but an unroll may come
from a machine with a defect, or from a program that is not this one. One level that does not exist,
or one number that makes the loss infinite, would end the training, so such unrolls are left out.

    intake = Intake(queue, num_actions, len(levels), actors)
    batch = intake.batch(32)                            # waits; 32 sound unrolls, time-major
"""

from typing import Any

import numpy as np
import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.system import machine
from impala_tf.transport import unroll_queue

# Larger numbers may overflow in the loss or in its gradient, whose squares are summed. No
# environment has such rewards; all else passes functions that are bounded.
_MAX_REWARD = 1e9
_MAX_NUMBER = 1e30


class Intake:
  """The learner's end of its queue."""

  def __init__(
    self, queue: unroll_queue.UnrollQueue, num_actions: int, num_levels: int, actors: Any
  ):
    """Describes it.

    Args:
      queue: of the learner.
      num_actions: of the agent.
      num_levels: of the run.
      actors: hears of what is taken in and left out, `learner.RemoteActors`.
    """
    self._queue = queue
    self._num_actions = num_actions
    self._num_levels = num_levels
    self._actors = actors

  def batch(self, size: int) -> structs.Unroll:
    """Waits for the next `size` unrolls that are sound.

    Args:
      size: B.

    Returns:
      `structs.Unroll`, time-major: [T+1, B, ...] for step and agent outputs, [B, ...] for the rest.

    Raises:
      tf.errors.OutOfRangeError: if the queue was closed and holds fewer.
    """
    batch, missing = self._take(size)
    while missing:
      more, missing = self._take(missing)
      batch = unroll_queue.map_batches(lambda axis, *two: tf.concat(two, axis), batch, more)
    self._actors.count(batch.level.numpy().tolist())
    return batch

  def _take(self, count):
    """Returns the sound ones of the next `count` unrolls, and how many were not."""
    batch, senders, found = self._dequeue(count)
    faults = {name: is_faulty.numpy() for name, is_faulty in found.items()}
    is_sound = ~np.any(list(faults.values()), axis=0)
    if is_sound.all():
      return batch, 0

    for b in np.flatnonzero(~is_sound):
      names = [name for name, is_faulty in faults.items() if is_faulty[b]]
      self._actors.left_out(int(senders[b]), f'{", ".join(names)}; level {int(batch.level[b])}')

    kept = np.flatnonzero(is_sound)
    batch = unroll_queue.map_batches(lambda axis, tensor: tf.gather(tensor, kept, axis=axis), batch)
    return batch, count - len(kept)

  @tf.function(autograph=False)
  def _dequeue(self, count):
    with tf.device(machine.local_cpu()):
      sent = self._queue.dequeue_sent(count)
      faults = find_faults(sent.unrolls, self._num_actions, self._num_levels)
      return unroll_queue.as_batch(sent.unrolls), sent.sender, faults


def find_faults(unrolls: structs.Unroll, num_actions: int, num_levels: int) -> dict[str, tf.Tensor]:
  """Looks for what would end the learner.

  Args:
    unrolls: with a leading [n] on every leaf.
    num_actions: of the agent.
    num_levels: of the run.

  Returns:
    By the name of a fault the unrolls that have it, bool [n].
  """

  def of_unrolls(tensor):
    """Returns whether any element of each unroll is true."""
    return tf.reduce_any(tf.reshape(tensor, [tf.shape(tensor)[0], -1]), axis=1)

  def are_beyond(numbers, limit):
    numbers = tf.cast(numbers, tf.float32)
    # NaN needs an operation of its own: TensorFlow turns the negation of <= into >.
    return of_unrolls(~tf.math.is_finite(numbers) | (tf.abs(numbers) > limit))

  action = unrolls.agent_outputs.action
  numbers = [leaf for leaf in tree.flatten(unrolls) if leaf.dtype.is_floating]
  beyond = [are_beyond(leaf, _MAX_NUMBER) for leaf in numbers]
  beyond.append(are_beyond(unrolls.step_outputs.reward, _MAX_REWARD))
  return {
    'a level that the run does not have': (unrolls.level < 0) | (unrolls.level >= num_levels),
    'an action that the agent does not have': of_unrolls((action < 0) | (action >= num_actions)),
    'a number that is not finite, or too large': tf.reduce_any(beyond, axis=0),
  }
