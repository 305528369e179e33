"""An environment that costs nothing, to measure the framework around it.

This module imports no TensorFlow.
"""

import numpy as np

from impala_tf import structs
from impala_tf.environments import base

_EPISODE_STEPS = 1000


class FakeEnvironment:
  """An environment that costs nothing: always the same random observation, episodes of 1,000 steps."""

  def __init__(self, observation_spec, num_actions, seed):
    """Makes the observation; frames are noise, as a frame of one colour would be quicker to compute
    on.
    """
    self.observation_spec = observation_spec
    self.num_actions = num_actions
    random = np.random.default_rng(seed)
    self._observation = structs.Observation(
      *(spec if spec == () else noise(spec, random) for spec in observation_spec)
    )
    self._steps = 0

  def reset(self):
    """The observation."""
    self._steps = 0
    return self._observation

  def step(self, action):
    """The observation again, without reward."""
    del action
    self._steps += 1
    over = self._steps == _EPISODE_STEPS
    return base.Transition(self._observation, 0.0, done=over, finished=over)

  def close(self):
    """Nothing to free."""


def noise(spec, random):
  """What an array of a `structs.ArraySpec` may hold, drawn by a `numpy.random.Generator`."""
  if spec.dtype is np.bytes_:
    return b'pick up the red ball'
  return random.integers(0, 256, spec.shape).astype(spec.dtype)
