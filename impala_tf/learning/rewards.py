"""Reward transforms of the loss, float32 of any shape to the same.

Returns of episodes are always reported untransformed.
"""

import tensorflow as tf


def abs_one(rewards):
  """Clips to [-1, 1] (tables D.3 and G.1: single tasks, Atari)."""
  return tf.clip_by_value(rewards, -1.0, 1.0)


def optimistic_asymmetric(rewards):
  """0.3 min(tanh r, 0) + 5 max(tanh r, 0): the paper's formula for DMLab-30 (figure D.1)."""
  squeezed = tf.tanh(rewards)
  return 0.3 * tf.minimum(squeezed, 0.0) + 5.0 * tf.maximum(squeezed, 0.0)


def soft_asymmetric(rewards):
  """5 tanh(r / 5), times 0.3 where negative: what the authors' released code has in place of the
  paper's formula.
  """
  squeezed = tf.tanh(rewards / 5.0)
  return 5.0 * tf.where(rewards < 0, 0.3 * squeezed, squeezed)


TRANSFORMS = {
  'abs_one': abs_one,
  'optimistic_asymmetric': optimistic_asymmetric,
  'soft_asymmetric': soft_asymmetric,
}


def get(name):
  """The transform of the given name, a function of float32 rewards of any shape.

  Raises:
    ValueError: if there is none of that name.
  """
  if name not in TRANSFORMS:
    raise ValueError(f'Unknown reward clipping {name!r}; choose one of {", ".join(TRANSFORMS)}.')
  return TRANSFORMS[name]
