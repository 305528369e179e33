"""An environment that costs nothing, to measure the framework around it."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from impala_tf import structs
from impala_tf.config import Config
from impala_tf.environments import base

_EPISODE_STEPS = 1000


class FakeEnvironment:
  """An environment that costs nothing: the same random observation, episodes of 1,000 steps."""

  def __init__(self, observation_spec: structs.Observation, num_actions: int, seed: int):
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
    """Frees nothing."""


class FakeSuite:
  """A suite like another one, with environments that cost nothing."""

  def __init__(self, suite: Any):
    """Takes the `suite.Suite` whose specs and agent are kept."""
    self._suite = suite

  def __getattr__(self, name):
    return getattr(self._suite, name)

  def make_environment(
    self, level: str, seed: int, is_test: bool, config: Config
  ) -> Callable[[], FakeEnvironment]:
    """Makes a constructor of a `FakeEnvironment`."""
    del level, is_test
    spec, num_actions = self.observation_spec(config), self.num_actions(config)
    return functools.partial(FakeEnvironment, spec, num_actions, seed)


def noise(spec: structs.ArraySpec, random: np.random.Generator) -> Any:
  """Draws an array, or a text, that is as a spec says."""
  if spec.dtype is np.bytes_:
    return b'pick up the red ball'
  return random.integers(0, 256, spec.shape).astype(spec.dtype)
