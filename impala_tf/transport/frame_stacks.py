"""Unrolls with each frame of stacks kept once.

Of an Atari observation, uint8 [84, 84, 4], three quarters were in the observation before.
Unstacked, an unroll keeps the whole stack of row 0 and of every other row the newest frame. An
unroll of 20 steps then has 169 kB of frames instead of 593 kB: 10,000 of them, as in the paper's
replay, are 1.7 GB instead of 5.9 GB, and a network carries as much less. Observations of DMLab,
[72, 96, 3], are not stacks: an unroll of 100 steps has 2.1 MB, and 10,000 have 21 GB.

    stacks = FrameStacks(unroll_spec, config.frame_stack)
    queue = unroll_queue.UnrollQueue(stacks.unstacked_spec, capacity)
    queue.enqueue_many(stacks.unstack_frames(unrolls))       # [n, T+1, ...], as actors make them
    batch = stacks.stack_frames(queue.dequeue_batch(32))     # [T+1, B, ...], bit by bit the same

Observations that are not stacks of four frames pass as they are.

The rows themselves say what was in a stack: after a reset the older frames are zero, and a reset
lies before each row that ended an episode (`info.finished`) or began with the start of its process
(`info.episode_steps` of 0). The loss of a life is `done` as well, but the game and its frames
continue.
"""

import numpy as np
import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.config import ConfigurationError

_STACK = 4  # As many as there are bytes in the words from which stacks are put together.


class FrameStacks:
  """Unstacks the frames of unrolls, and stacks them again.

  Attributes:
    unstacked_spec: `structs.Unroll` of `tf.TensorSpec`, one unstacked unroll. It differs from the
      other in the frame, uint8 [T+4, height, width]: the four of row 0, oldest first, then the
      newest of each other row.
  """

  def __init__(self, unroll_spec: structs.Unroll, frame_stack: int):
    """Describes the unrolls.

    Args:
      unroll_spec: of `tf.TensorSpec`, one unroll: frames of [T+1, height, width, channels].
      frame_stack: how many frames an observation has; 1 if it is not a stack.
    """
    frame = unroll_spec.step_outputs.observation.frame
    self._is_stack = frame_stack == _STACK == frame.shape[-1] and frame.dtype == tf.uint8
    self._is_checked = False
    self.unstacked_spec = unroll_spec
    if not self._is_stack:
      return

    rows, height, width, _ = frame.shape
    self.unstacked_spec = _with_frame(
      unroll_spec, tf.TensorSpec([rows + _STACK - 1, height, width], tf.uint8)
    )
    # Traced here: where threads call it for the first time together, TensorFlow warns of retracing.
    signature = tree.map_structure(
      lambda leaf: tf.TensorSpec([None, *leaf.shape], leaf.dtype), unroll_spec
    )
    self._unstack = tf.function(
      _unstack, input_signature=[signature], autograph=False
    ).get_concrete_function()
    self._stack = tf.function(self._build_stack, autograph=False)

  def unstack_frames(self, unrolls: structs.Unroll) -> structs.Unroll:
    """Keeps each frame once.

    Args:
      unrolls: with a leading [n] on every leaf: [n, T+1, ...] for step and agent outputs.

    Returns:
      The same unstacked, as `unstacked_spec` with a leading [n].

    Raises:
      ConfigurationError: if the frames are not stacks as described above. That is looked at until
        an episode has ended in the middle of an unroll.
    """
    if not self._is_stack:
      return unrolls
    if not self._is_checked:
      self._check(unrolls.step_outputs)
    return self._unstack(unrolls)

  def _check(self, step_outputs):
    """Compares the older frames of each row with the row before."""
    info = step_outputs.info
    resets = np.asarray(info.finished[:, 1:] | tf.equal(info.episode_steps[:, 1:], 0))
    frames = np.asarray(step_outputs.observation.frame)
    expected = np.where(resets[:, :, None, None, None], 0, frames[:, :-1, ..., 1:])
    if not np.array_equal(frames[:, 1:, ..., :-1], expected):
      raise ConfigurationError(
        f'Observations are sent as stacks of frame_stack={_STACK} frames, and are not such stacks: '
        'the newest frame must be the last, those before it must be those of the row before, and '
        'zero where they were before a reset. Have the environment stack them so, or name the '
        'option otherwise than frame_stack.'
      )
    self._is_checked = bool(resets.any())

  def stack_frames(self, batch: structs.Unroll) -> structs.Unroll:
    """Puts the stacks of a batch together again.

    Args:
      batch: unstacked, time-major: frames of [T+4, B, height, width], the rest [T+1, B, ...] for
        step and agent outputs.

    Returns:
      The batch with frames of [T+1, B, height, width, 4].
    """
    if not self._is_stack:
      return batch
    with tf.device('/CPU:0'):
      return self._stack(batch)

  def _build_stack(self, batch):
    info = batch.step_outputs.info
    resets = info.finished | tf.equal(info.episode_steps, 0)

    # A stack is a word of four bytes, the lowest of them its oldest frame: the lowest byte comes
    # first on all processors that TensorFlow runs on. To put words together is several times faster
    # than to put bytes beside each other.
    newest = tf.bitwise.left_shift(
      tf.cast(batch.step_outputs.observation.frame, tf.uint32), tf.constant(24, tf.uint32)
    )
    rows = batch.step_outputs.reward.shape[0]
    words = newest[_STACK - 1 :]

    # Whether no reset lies between a row and the one `age` rows before it.
    visible = tf.ones_like(resets)
    for age in range(1, _STACK):
      # Resets at row 0 or before it do not count: the stack of row 0 is kept whole, and has zeros
      # where they belong.
      visible &= ~tf.pad(resets[1:], [[age, 0], [0, 0]])[:rows]
      frames = tf.bitwise.right_shift(
        newest[_STACK - 1 - age : _STACK - 1 - age + rows], tf.constant(8 * age, tf.uint32)
      )
      mask = tf.where(visible, tf.constant(0xFFFFFFFF, tf.uint32), tf.constant(0, tf.uint32))
      words = tf.bitwise.bitwise_or(
        words, tf.bitwise.bitwise_and(frames, mask[:, :, tf.newaxis, tf.newaxis])
      )

    return _with_frame(batch, tf.bitcast(words, tf.uint8))


def _unstack(unrolls):
  frames = unrolls.step_outputs.observation.frame
  first = tf.transpose(frames[:, 0], [0, 3, 1, 2])
  return _with_frame(unrolls, tf.concat([first, frames[:, 1:, :, :, -1]], axis=1))


def _with_frame(unroll, frame):
  step_outputs = unroll.step_outputs
  return unroll._replace(
    step_outputs=step_outputs._replace(observation=step_outputs.observation._replace(frame=frame))
  )
