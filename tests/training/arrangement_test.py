"""What all arrangements have in common: when the updates end, what is said meanwhile, and where the
actors' time goes.
"""

import dataclasses
import logging as standard_logging
import types

import pytest

from impala_tf import timing
from impala_tf.training import arrangement
from tests.support import catch

FRAMES = 8 * 20  # of an update


class Clock:
  """Time that moves when told."""

  now = 1000.0

  def __call__(self):
    return self.now


class Scripted(arrangement.Learning):
  """Updates, or None where there is none, from a list; at each of them `seconds` pass."""

  def __init__(self, script, clock=None, seconds=0.0, error=None, total=10**9):
    self._config = dataclasses.replace(catch.CONFIG, total_environment_frames=total)
    self.is_over = False
    self._script, self._clock, self._seconds, self._failure = list(script), clock, seconds, error

  def _update(self, learner):
    if self._clock:
      self._clock.now += self._seconds
    return self._script.pop(0)

  def _error(self):
    return self._failure


def learner_at(frames):
  return types.SimpleNamespace(frames=frames)


def test_updates_go_on_from_the_learners_frames_to_the_last_one():
  learning = Scripted([(['episode'], 'metrics'), None, ([], 'more')], total=5 * FRAMES)
  seen = [(*result, learning.is_over) for result in learning.updates(learner_at(3 * FRAMES))]
  assert seen == [(4 * FRAMES, ['episode'], 'metrics', False), (5 * FRAMES, [], 'more', True)]


def test_updates_end_when_they_are_to_stop():
  learning = Scripted([])
  assert list(learning.updates(learner_at(0), stop=True)) == []
  assert not learning.is_over


def test_a_failed_actor_ends_the_updates_with_what_was_wrong():
  learning = Scripted([([], 'metrics'), None], error=KeyError('no ball'))
  updates = learning.updates(learner_at(0))
  assert next(updates) == (FRAMES, [], 'metrics')
  with pytest.raises(arrangement.ActorError, match="at frame 160: 'no ball'"):
    next(updates)


def test_a_learner_that_waits_says_so_once_a_minute(monkeypatch, caplog):
  clock = Clock()
  monkeypatch.setattr(arrangement, 'time', types.SimpleNamespace(monotonic=clock))
  caplog.set_level(standard_logging.WARNING)
  # 70 s, an update, and 140 s more, a warning after 60 s each; the script's end stands for that of
  # the run.
  learning = Scripted([*[None] * 7, ([], 'metrics'), *[None] * 13], clock, seconds=10.0)
  with pytest.raises(IndexError):
    list(learning.updates(learner_at(0)))
  waited = [record.getMessage().split(' for a batch')[0] for record in caplog.records]
  assert waited == [f'The learner has waited {seconds} s' for seconds in (60, 60, 120)]


def test_time_of_an_unroll_is_that_of_environments_and_of_inference():
  clock = Clock()
  timer = timing.StageTimer(clock)
  shares = arrangement.stage_shares(timer)
  assert shares() == {}
  for stage, seconds in (('unroll', 8.0), ('environment', 3.0), ('enqueue', 2.0)):
    with timer(stage):
      clock.now += seconds
  assert shares() == pytest.approx({'environment': 0.3, 'inference': 0.5, 'queue': 0.2})
