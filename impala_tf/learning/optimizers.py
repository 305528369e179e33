"""TensorFlow 1's RMSProp, the linear decay of its learning rate, and the clipping of its gradients.

Sonnet's and Keras' RMSProp start their mean square at zero, and so take a much larger first step
(ten times at the paper's Atari epsilon and a gradient of 0.01) than the optimizer that the paper's
hyper-parameters were found with.
"""

from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf

Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices


class RMSProp(tf.Module):
  """RMSProp with epsilon inside the root and a mean square that starts at one:

      mean_square <- decay * mean_square + (1 - decay) * g^2
      moment      <- momentum * moment + learning_rate * g / sqrt(mean_square + epsilon)
      variable    <- variable - moment

  A sparse gradient (tf.IndexedSlices) updates the rows it names, in the variable and in both slots.
  The other rows keep theirs, undecayed, as in the authors' training of the word embeddings.
  """

  def __init__(
    self,
    variables: Sequence[tf.Variable],
    decay: float = 0.99,
    momentum: float = 0.0,
    name: str = 'rmsprop',
  ):
    """Makes the slots.

    Args:
      variables: float32, which `apply` will update.
      decay: of the mean square.
      momentum: of the steps.
      name: of the module.
    """
    super().__init__(name=name)
    self._decay = decay
    self._momentum = momentum
    self.mean_squares = [
      tf.Variable(tf.ones_like(v), trainable=False, name='mean_square') for v in variables
    ]
    self.moments = [
      tf.Variable(tf.zeros_like(v), trainable=False, name='moment') for v in variables
    ]

  def apply(
    self,
    gradients: Sequence[Gradient],
    variables: Sequence[tf.Variable],
    learning_rate: tf.Tensor,
    epsilon: tf.Tensor,
  ) -> None:
    """Takes one step.

    Args:
      gradients: one for each variable.
      variables: those that the optimizer was made with.
      learning_rate: float32 scalar.
      epsilon: float32 scalar, added to the mean square under the root.
    """
    for gradient, variable, mean_square, moment in zip(
      gradients, variables, self.mean_squares, self.moments, strict=True
    ):
      if isinstance(gradient, tf.IndexedSlices):
        self._apply_sparse(
          _deduplicated(gradient), variable, mean_square, moment, learning_rate, epsilon
        )
      else:
        tf.raw_ops.ResourceApplyRMSProp(
          var=variable.handle,
          ms=mean_square.handle,
          mom=moment.handle,
          lr=learning_rate,
          rho=self._decay,
          momentum=self._momentum,
          epsilon=epsilon,
          grad=gradient,
        )

  def _apply_sparse(self, gradient, variable, mean_square, moment, learning_rate, epsilon):
    # Spelled out because the raw op for sparse gradients has no GPU kernel.
    rows, g = gradient.indices, gradient.values
    ms = self._decay * tf.gather(mean_square, rows) + (1.0 - self._decay) * tf.square(g)
    step = self._momentum * tf.gather(moment, rows) + learning_rate * g * tf.math.rsqrt(
      ms + epsilon
    )
    # By their handles, which on several devices are those of the device that computes.
    tf.raw_ops.ResourceScatterUpdate(resource=mean_square.handle, indices=rows, updates=ms)
    tf.raw_ops.ResourceScatterUpdate(resource=moment.handle, indices=rows, updates=step)
    tf.raw_ops.ResourceScatterSub(resource=variable.handle, indices=rows, updates=step)


def linear_decay(initial: float | tf.Tensor, frames: tf.Tensor, total_frames: int) -> tf.Tensor:
  """Lets a learning rate fall to 0 in a straight line over `total_frames`, and stay there.

  Args:
    initial: float32 scalar, the learning rate at frame 0.
    frames: int64 scalar, emulator frames consumed so far, action repeats included.
    total_frames: of the whole training.

  Returns:
    The present learning rate, a float32 scalar.
  """
  # In float64: float32 can't tell frames apart beyond 2^24, and training counts them by the
  # thousand million.
  done = tf.cast(tf.minimum(frames, total_frames), tf.float64) / total_frames
  return tf.cast(tf.cast(initial, tf.float64) * (1.0 - done), tf.float32)


def clip_by_global_norm(
  gradients: Sequence[Gradient], max_norm: float | tf.Tensor | None
) -> tuple[list[Gradient], tf.Tensor]:
  """Scales gradients down together if their joint L2 norm is above `max_norm`.

  Args:
    gradients: of all variables.
    max_norm: float32 scalar, or None for no clipping.

  Returns:
    The gradients, and their norm before the clipping as a float32 scalar.
  """
  # Slices of the same row are summed first: the norm of a sum is not that of its parts.
  summed = [_deduplicated(g) if isinstance(g, tf.IndexedSlices) else g for g in gradients]
  norm = tf.linalg.global_norm(summed)
  if max_norm is not None:
    summed, _ = tf.clip_by_global_norm(summed, max_norm, use_norm=norm)
  return summed, norm


def _deduplicated(slices):
  """Adds up the tf.IndexedSlices of the same row, so that each row comes once."""
  rows, positions = tf.unique(slices.indices)
  values = tf.math.unsorted_segment_sum(slices.values, positions, tf.shape(rows)[0])
  return tf.IndexedSlices(values, rows, slices.dense_shape)
