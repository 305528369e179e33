"""Environments that show a picture of each step; the base of films and windows."""

from collections.abc import Callable
from typing import Any

import numpy as np

from impala_tf import structs
from impala_tf.config import ConfigurationError
from impala_tf.environments import base


class ViewedEnvironment:
  """Base class of environments that pass on another one, and show its pictures somewhere.

  Attributes:
    frames_per_second: speed at which the pictures show the game as a person would play it.
  """

  _flag: str  # That asks for it.

  def __init__(self, make_environment: Callable[[], Any], frames_per_second: float):
    """Makes the environment.

    Args:
      make_environment: gives a `base.Environment` with a method `render`, which returns uint8
        [height, width, 3]. If it has an attribute `frames_per_second`, that is its speed.
      frames_per_second: the speed of other environments.

    Raises:
      ConfigurationError: if the environment gives no pictures.
    """
    self._environment = make_environment()
    if not hasattr(self._environment, 'render'):
      self._environment.close()
      raise ConfigurationError(
        f'{type(self._environment).__name__} has no method `render`, and so no pictures to show. '
        f'Leave --{self._flag} out.'
      )
    self.observation_spec = self._environment.observation_spec
    self.num_actions = self._environment.num_actions
    self.frames_per_second = getattr(self._environment, 'frames_per_second', frames_per_second)

  def reset(self) -> structs.Observation:
    """Starts an episode."""
    return self._environment.reset()

  def step(self, action: int) -> base.Transition:
    """Takes a step."""
    return self._environment.step(action)

  def render(self) -> np.ndarray:
    """Returns the environment's picture."""
    return self._environment.render()

  def close(self) -> None:
    """Closes the environment."""
    self._environment.close()
