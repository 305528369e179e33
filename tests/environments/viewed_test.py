"""What films and windows have in common."""

import functools

import pytest

from impala_tf.config import ConfigurationError
from impala_tf.environments import recording, window
from tests.support import timed


@pytest.mark.parametrize(
  ('view', 'flag'),
  [
    (functools.partial(recording.RecordingEnvironment, paths=[]), '--record_video'),
    (functools.partial(window.WatchedEnvironment, title='a level'), '--render'),
  ],
)
def test_an_environment_without_pictures_is_closed_and_named(monkeypatch, view, flag):
  closed = []
  monkeypatch.setattr(timed.Timed, 'close', lambda self: closed.append(self))
  with pytest.raises(ConfigurationError, match=rf'Timed.*{flag}\b'):
    view(functools.partial(timed.Timed, 5, 3.0), frames_per_second=15)
  assert len(closed) == 1


def test_an_environment_that_knows_its_speed_is_shown_at_it(monkeypatch):
  monkeypatch.setattr(timed.Timed, 'render', None, raising=False)
  make = functools.partial(timed.Timed, 5, 3.0)
  assert recording.RecordingEnvironment(make, [], 15).frames_per_second == 15
  monkeypatch.setattr(timed.Timed, 'frames_per_second', 50, raising=False)
  assert recording.RecordingEnvironment(make, [], 15).frames_per_second == 50
