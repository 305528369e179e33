"""The sources of batches: how long a learner waits for one, and how it says so."""

import dataclasses
import types

import pytest

from impala_tf.acting import group
from impala_tf.environments import process_group
from impala_tf.system import timing
from impala_tf.training import sources
from impala_tf.transport import replay
from tests.support import baselines, catch, updates
from tests.support.clock import Clock


class Scripted(sources.Source):
  """Gives batches, or None where there is none, from a list; at each of them `seconds` pass."""

  def __init__(self, script, clock=None, seconds=0.0, error=None):
    self._script, self._clock, self._seconds = list(script), clock, seconds
    self._learner = types.SimpleNamespace(frames=160)
    self.polls = 0
    self.actors = types.SimpleNamespace(
      error=error, poll=self._poll, describe_wait=lambda: 'They sleep.'
    )

  def _poll(self):
    self.polls += 1

  def _get(self, timeout):
    if self._clock:
      self._clock.now += self._seconds
    return self._script.pop(0)


def test_a_batch_is_waited_for_and_actors_are_looked_at_meanwhile():
  source = Scripted([None, None, 'batch'])
  assert source.next_batch() == 'batch'
  assert source.polls == 3


def test_waiting_ends_when_it_is_to_stop():
  assert Scripted([]).next_batch(stop=True) is None


def test_a_failed_actor_ends_the_waiting_with_what_was_wrong():
  source = Scripted(['batch', None], error=KeyError('no ball'))
  assert source.next_batch() == 'batch'
  with pytest.raises(group.ActorError, match="at frame 160: 'no ball'"):
    source.next_batch()


def test_a_learner_that_waits_says_so_once_a_minute(monkeypatch, warnings):
  clock = Clock()
  monkeypatch.setattr(sources, 'time', types.SimpleNamespace(monotonic=clock))
  source = Scripted([*[None] * 7, 'batch', *[None] * 13, 'batch'], clock, seconds=10.0)
  source.next_batch()
  source.next_batch()
  assert warnings() == [
    f'The learner has waited {seconds} s for a batch. They sleep.' for seconds in (60, 60, 120)
  ]


def test_time_of_an_unroll_is_that_of_environments_and_of_inference():
  clock = Clock()
  timer = timing.StageTimer(clock)
  shares = group.stage_shares(timer)
  assert shares() == {}
  for stage, seconds in (('unroll', 8.0), ('environment', 3.0), ('enqueue', 2.0)):
    with timer(stage):
      clock.now += seconds
  assert shares() == pytest.approx({'environment': 0.3, 'inference': 0.5, 'queue': 0.2})


@pytest.mark.parametrize(('environments', 'warned'), [((1, 4), True), ((2, 4), False)])
def test_fewer_environments_than_a_batch_are_warned_of(warnings, environments, warned):
  num_actors, envs_per_actor = environments
  group.check(
    catch.CatchSuite(),
    dataclasses.replace(catch.CONFIG, num_actors=num_actors, envs_per_actor=envs_per_actor),
  )
  assert [
    'A batch of 8 new unrolls will hold several in a row' in warning for warning in warnings()
  ] == [True] * warned


@pytest.mark.parametrize('baseline', [None, *baselines.BASELINES])
def test_environments_follow_from_the_seed_of_the_start(monkeypatch, baseline):
  seeds, original = [], process_group.make_environments
  monkeypatch.setattr(
    process_group,
    'make_environments',
    lambda *args: (seeds.append(list(args[4])), original(*args))[1],
  )
  settings = baselines.settings_of(baseline) if baseline else catch.CONFIG
  updates.source_of(catch.CatchSuite(), settings, seed=(1, 7))
  assert seeds == [[1, 7]]


def test_the_draws_of_a_replay_follow_from_the_seed_of_the_start(monkeypatch):
  seeds, original = [], replay.make
  monkeypatch.setattr(
    replay,
    'make',
    lambda *args, **known: (seeds.append(list(args[2])), original(*args, **known))[1],
  )
  settings = dataclasses.replace(catch.CONFIG, replay_fraction=0.5)
  updates.source_of(catch.CatchSuite(), settings, seed=(1, 7))
  assert seeds == [[1, 7]]
