"""Videos of episodes, written by the environment's own process."""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import imageio

from impala_tf import structs
from impala_tf.environments import base, viewed


class RecordingEnvironment(viewed.ViewedEnvironment):
  """Environment whose first episodes are written to video files, a frame for each agent step.

  A file appears under its name when its episode has finished; an episode that does not finish
  leaves nothing.
  """

  _flag = 'record_video'

  def __init__(
    self,
    make_environment: Callable[[], Any],
    paths: Sequence[str],
    frames_per_second: float,
  ):
    """Makes the environment.

    Args:
      make_environment: as for `viewed.ViewedEnvironment`; width and height of its pictures are
        even.
      paths: files to write, in existing folders, one for each of the first episodes; MP4 by their
        names.
      frames_per_second: as for `viewed.ViewedEnvironment`.

    Raises:
      ConfigurationError: if the environment gives no pictures.
    """
    super().__init__(make_environment, frames_per_second)
    self._paths = list(paths)
    self._writer: Any = None  # Of imageio, while an episode is recorded.

  def reset(self) -> structs.Observation:
    """Starts an episode, and its video if it gets one."""
    self._drop()
    observation = super().reset()

    if self._paths:
      # By default the size would be rounded up to multiples of 16, which scales the picture.
      self._writer = imageio.get_writer(
        self._unfinished(), fps=self.frames_per_second, macro_block_size=2
      )
      self._writer.append_data(self.render())

    return observation

  def step(self, action: int) -> base.Transition:
    """Takes a step, and keeps its picture while an episode is recorded."""
    transition = super().step(action)

    if self._writer is not None:
      self._writer.append_data(self.render())
      if transition.finished:
        self._writer.close()
        self._writer = None
        os.replace(self._unfinished(), self._paths.pop(0))

    return transition

  def close(self) -> None:
    """Closes the environment."""
    self._drop()
    super().close()

  def _drop(self):
    if self._writer is not None:
      self._writer.close()
      self._writer = None
      with contextlib.suppress(FileNotFoundError):
        os.remove(self._unfinished())

  def _unfinished(self):
    stem, extension = os.path.splitext(self._paths[0])
    return f'{stem}.unfinished{extension}'
