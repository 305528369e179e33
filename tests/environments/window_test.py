"""A window that shows what is played; tkinter is a stand-in, as the tests have no display."""

import functools
import sys
import types

import numpy as np
import pytest

from impala_tf.config import ConfigurationError
from impala_tf.environments import window
from tests.support.timed import Screen


class Tk(types.ModuleType):
  """A stand-in for tkinter; `shown` has each picture that was shown, as PPM and its zoom."""

  TclError = RuntimeError

  def __init__(self):
    super().__init__('tkinter')
    self.shown, self.title_, self.is_closed, self.updates_left = [], None, False, 99
    self.Tk = lambda: self
    self.Label = lambda root: self

  def title(self, text):
    self.title_ = text

  def pack(self):
    pass

  def PhotoImage(self, master, data, format):  # noqa: N802
    return types.SimpleNamespace(zoom=lambda times: (data, times))

  def configure(self, image):
    self.shown.append(image)

  def update(self):
    self.updates_left -= 1
    if self.updates_left < 0:
      raise self.TclError('application has been destroyed')

  def destroy(self):
    self.is_closed = True


@pytest.fixture
def tk(monkeypatch):
  tk = Tk()
  monkeypatch.setitem(sys.modules, 'tkinter', tk)
  monkeypatch.setattr(window.time, 'sleep', lambda seconds: None)
  return tk


def test_each_step_is_shown_until_it_is_closed(tk):
  watched = window.WatchedEnvironment(functools.partial(Screen, 5, 3.0), 'a level', 15)
  assert (watched.num_actions, tk.title_) == (3, 'a level')
  watched.reset()
  watched.step(1)
  (first, zoom), (second, _) = tk.shown
  assert zoom == 21  # 20 pixels become 420.
  assert first == b'P6 30 20 255 ' + bytes(30 * 20 * 3)
  assert second[-1] == 10
  np.testing.assert_array_equal(watched.render(), np.full((20, 30, 3), 10, np.uint8))
  watched.close()
  assert tk.is_closed


def test_steps_are_shown_as_fast_as_a_person_would_play(tk, monkeypatch):
  waited = []
  clock = types.SimpleNamespace(monotonic=lambda: 7.0, sleep=waited.append)
  monkeypatch.setattr(window, 'time', clock)
  watched = window.WatchedEnvironment(functools.partial(Screen, 5, 3.0), 'a level', 16)
  watched.reset()
  watched.step(1)
  assert waited == [0, 1 / 16]


def test_play_continues_when_somebody_closes_the_window(tk):
  tk.updates_left = 1
  watched = window.WatchedEnvironment(functools.partial(Screen, 5, 3.0), 'a level', 15)
  watched.reset()
  assert not watched.step(1).finished
  assert not watched.step(1).finished
  assert len(tk.shown) == 2  # The one that failed is the last.
  watched.close()
  assert not tk.is_closed


def test_without_a_display_or_tkinter_the_remedy_is_a_film(tk, monkeypatch):
  monkeypatch.setenv('DISPLAY', ':0')
  window.check_display()
  monkeypatch.delenv('DISPLAY')
  with pytest.raises(ConfigurationError, match=r'DISPLAY.*--record_video'):
    window.check_display()
  monkeypatch.setitem(sys.modules, 'tkinter', None)
  with pytest.raises(ConfigurationError, match='python3-tk'):
    window.check_display()
