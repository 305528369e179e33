"""Videos of episodes, written by the environment's own process."""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import imageio

from impala_tf import structs
from impala_tf.config import ConfigurationError
from impala_tf.environments import base


class RecordingEnvironment:
  """Environment whose first episodes are written to video files, a frame for each agent step.

  A file appears under its name when its episode has finished; an episode that does not finish
  leaves nothing.
  """

  def __init__(
    self,
    make_environment: Callable[[], Any],
    paths: Sequence[str],
    frames_per_second: float,
  ):
    """Makes the environment.

    Args:
      make_environment: gives a `base.Environment` with a method `render`, which returns uint8
        [height, width, 3], both even. If it has an attribute `frames_per_second`, its films run as
        fast as that says.
      paths: files to write, in existing folders, one for each of the first episodes; MP4 by their
        names.
      frames_per_second: of the videos of other environments.

    Raises:
      ConfigurationError: if the environment gives no pictures.
    """
    self._environment = make_environment()
    if not hasattr(self._environment, 'render'):
      self._environment.close()
      raise ConfigurationError(
        f'{type(self._environment).__name__} has no method `render`, and so no pictures for a '
        'film. Leave --record_video out.'
      )
    self._paths = list(paths)
    self._frames_per_second = getattr(self._environment, 'frames_per_second', frames_per_second)
    self._writer: Any = None  # Of imageio, while an episode is recorded.
    self.observation_spec = self._environment.observation_spec
    self.num_actions = self._environment.num_actions

  def reset(self) -> structs.Observation:
    """Starts an episode, and its video if it gets one."""
    self._drop()
    observation = self._environment.reset()

    if self._paths:
      # By default the size would be rounded up to multiples of 16, which scales the picture.
      self._writer = imageio.get_writer(
        self._unfinished(), fps=self._frames_per_second, macro_block_size=2
      )
      self._writer.append_data(self._environment.render())

    return observation

  def step(self, action: int) -> base.Transition:
    """Takes a step."""
    transition = self._environment.step(action)

    if self._writer is not None:
      self._writer.append_data(self._environment.render())
      if transition.finished:
        self._writer.close()
        self._writer = None
        os.replace(self._unfinished(), self._paths.pop(0))

    return transition

  def close(self) -> None:
    """Closes the environment."""
    self._drop()
    self._environment.close()

  def _drop(self):
    if self._writer is not None:
      self._writer.close()
      self._writer = None
      with contextlib.suppress(FileNotFoundError):
        os.remove(self._unfinished())

  def _unfinished(self):
    stem, extension = os.path.splitext(self._paths[0])
    return f'{stem}.unfinished{extension}'
