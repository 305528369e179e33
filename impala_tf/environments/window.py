"""A window that shows what an environment looks like while an agent plays."""

import importlib
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from impala_tf import structs
from impala_tf.config import ConfigurationError
from impala_tf.environments import base, viewed

_HEIGHT = 420  # Pixels at least, unless the picture is higher.
_REMEDY = '--record_video=1 makes a film instead, anywhere.'


def check_display() -> None:
  """Raises `ConfigurationError` if no window can be shown here."""
  try:
    importlib.import_module('tkinter')
  except ImportError as error:
    raise ConfigurationError(
      f'--render needs tkinter, which this Python lacks ({error}): install the package python3-tk '
      f'of your system. {_REMEDY}'
    ) from error
  if not os.environ.get('DISPLAY'):
    raise ConfigurationError(
      f'--render needs a display, and the variable DISPLAY is not set. {_REMEDY}'
    )


class Window:
  """A window that shows one picture after the other, as fast as a person would play.

  When somebody closes it, what is shown later is not seen.
  """

  def __init__(self, title: str, frames_per_second: float):
    """Opens it, empty."""
    import tkinter

    self._tkinter = tkinter
    self._seconds = 1 / frames_per_second
    self._due = time.monotonic()
    self._root: Any = tkinter.Tk()
    self._root.title(title)
    self._label = tkinter.Label(self._root)
    self._label.pack()
    self._picture: Any = None  # Tk shows it only as long as somebody keeps it.

  def show(self, picture: np.ndarray) -> None:
    """Shows a picture, uint8 [height, width, 3], when it is time for it."""
    if self._root is None:
      return
    height, width, _ = picture.shape
    data = b'P6 %d %d 255 ' % (width, height) + np.ascontiguousarray(picture).tobytes()
    time.sleep(max(0.0, self._due - time.monotonic()))
    self._due = max(self._due, time.monotonic() - self._seconds) + self._seconds
    try:
      image = self._tkinter.PhotoImage(master=self._root, data=data, format='PPM')
      self._picture = image.zoom(max(1, -(-_HEIGHT // height)))
      self._label.configure(image=self._picture)
      self._root.update()
    except self._tkinter.TclError:  # Somebody has closed it.
      self._root = None

  def close(self) -> None:
    """Closes it."""
    if self._root is not None:
      self._picture = None
      self._root.destroy()
      self._root = None


class WatchedEnvironment(viewed.ViewedEnvironment):
  """Environment whose steps are shown in a window."""

  _flag = 'render'

  def __init__(self, make_environment: Callable[[], Any], title: str, frames_per_second: float):
    """Makes the environment as `viewed.ViewedEnvironment`, and opens a window with a title."""
    super().__init__(make_environment, frames_per_second)
    self._window = Window(title, self.frames_per_second)

  def reset(self) -> structs.Observation:
    """Starts an episode, and shows where it starts."""
    observation = super().reset()
    self._window.show(self.render())
    return observation

  def step(self, action: int) -> base.Transition:
    """Takes a step, and shows what it leads to."""
    transition = super().step(action)
    self._window.show(self.render())
    return transition

  def close(self) -> None:
    """Closes window and environment."""
    self._window.close()
    super().close()
