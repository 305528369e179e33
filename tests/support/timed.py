"""Episodes of a known length and return.

This module imports no TensorFlow, as environment processes load it.
"""

import numpy as np

from impala_tf import structs
from impala_tf.environments.base import Transition
from tests.support import catch


class Timed:
  """A `base.Environment` that looks like catch and takes no notice of actions."""

  observation_spec = catch.Catch.observation_spec
  num_actions = catch.Catch.num_actions

  def __init__(self, length, episode_return):
    """Episodes have `length` steps, the last of which earns `episode_return`."""
    self._length = length
    self._episode_return = episode_return

  def reset(self):
    """Starts an episode."""
    self._step = 0
    return self._observation()

  def step(self, action):
    """Waits."""
    del action
    self._step += 1
    over = self._step == self._length
    return Transition(
      self._observation(), self._episode_return if over else 0.0, done=over, finished=over
    )

  def close(self):
    """Nothing to give back."""

  def _observation(self):
    return structs.Observation(np.full(self.observation_spec.frame.shape, self._step, np.uint8))


class Screen(Timed):
  """Shows the number of its step as a grey."""

  def render(self):
    return np.full((20, 30, 3), 10 * self._step, np.uint8)
