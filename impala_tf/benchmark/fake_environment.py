"""An environment that costs nothing, to measure the framework around it."""

from typing import Any

import numpy as np

from impala_tf import structs
from impala_tf.environments import base

_EPISODE_STEPS = 1000


class FakeEnvironment:
  """An environment that costs nothing: one random observation, episodes of 1,000 steps."""

  def __init__(self, observation_spec: structs.Observation, num_actions: int, seed: int):
    """Draws the observation; its frame is noise, as computing on one colour would be quicker."""
    self.observation_spec = observation_spec
    self.num_actions = num_actions
    random = np.random.default_rng(seed)
    self._observation = structs.Observation(
      *(spec if spec == () else noise(spec, random) for spec in observation_spec)
    )
    self._steps = 0

  def reset(self) -> structs.Observation:
    """Returns the observation."""
    self._steps = 0
    return self._observation

  def step(self, action: int) -> base.Transition:
    """Returns the observation again, without reward."""
    del action
    self._steps += 1
    over = self._steps == _EPISODE_STEPS
    return base.Transition(self._observation, 0.0, done=over, finished=over)

  def close(self) -> None:
    """Does nothing."""


def noise(spec: structs.ArraySpec, random: np.random.Generator) -> Any:
  """Draws an array of a spec, or an instruction."""
  if spec.dtype is np.bytes_:
    return b'pick up the red ball'
  return random.integers(0, 256, spec.shape).astype(spec.dtype)
