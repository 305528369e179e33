"""Which levels the learner of a cluster misses, and when it says so."""

import pytest

from impala_tf.cluster import complaints, quiet_levels
from impala_tf.cluster.heartbeats import ActorHeartbeat
from tests.support.clock import Clock


@pytest.fixture
def clock():
  return Clock()


@pytest.fixture
def watched(clock):
  return quiet_levels.QuietLevels(['pong', 'breakout', 'qbert'], 60.0, clock)


def actor(*levels, environments=4):
  return ActorHeartbeat(levels=list(levels), environments=environments)


def test_levels_that_nobody_plays_are_named_after_a_time(watched, clock):
  watched.update({0: actor(0, 2)})
  assert watched.warnings() == []
  clock.now += 59
  watched.update({0: actor(0, 2)})
  assert watched.warnings() == []
  clock.now += 1
  watched.update({0: actor(0, 2)})
  (said,) = watched.warnings()
  assert 'has played breakout.' in said
  # Once, and again much later.
  clock.now += 5
  assert watched.warnings() == []
  clock.now += 600
  assert watched.warnings() == [said]
  # Another one goes, and is given as long.
  watched.update({0: actor(0)})
  assert watched.warnings() == []
  clock.now += 60
  watched.update({0: actor(0)})
  assert 'breakout, qbert.' in watched.warnings()[0]
  watched.update({0: actor(0, 1, 2)})
  assert watched.unplayed() == ''


def test_the_first_actor_of_a_learner_that_has_waited_long_is_not_complained_of(watched, clock):
  for _ in range(2):  # Also after all of them went.
    clock.now += 1000
    watched.update({})
    watched.update({0: actor(0)})
    assert watched.warnings() == []
    clock.now += 59
    watched.update({0: actor(0)})
    assert watched.warnings() == []
  clock.now += 1
  watched.update({0: actor(0)})
  assert 'breakout, qbert' in watched.unplayed()


def test_an_actor_that_comes_late_or_is_restarted_is_not_complained_of(watched, clock):
  for _ in range(50):
    clock.now += 50  # It is there for as long again before the time is over.
    watched.update({0: actor(0, 2)})
    assert watched.warnings() == []
    clock.now += 20
    watched.count(50 * [0, 2])
    watched.update({0: actor(0, 2), 1: actor(1)})
    assert watched.warnings() == []
    watched.count([1])


def test_a_level_of_which_nothing_comes_is_named_with_its_actors(watched, clock):
  present = {3: actor(0, 1), 5: actor(1, 2)}
  watched.update(present)
  watched.count([0, 1, 2])
  for _ in range(12):
    clock.now += 5
    watched.count([0, 2, 0, 2])
    watched.update(present)
  (said,) = watched.warnings()
  assert 'breakout (actors: 3, 5)' in said
  assert 'pong' not in said
  watched.count([1])
  assert watched.warnings() == []


def test_a_slow_learner_gives_no_reason(watched, clock):
  watched.update({3: actor(0, 1, 2, environments=20)})
  # Each environment has its turn once in 20 unrolls, which take the learner longer than a minute.
  for _ in range(10):
    for level in (0, 1, 2):
      for _ in range(7):
        watched.count([level])
        clock.now += 10
        watched.update({3: actor(0, 1, 2, environments=20)})
        assert watched.warnings() == []


def test_complaints_come_at_once_and_then_once_a_minute(clock, new_warnings):
  complaints_ = complaints.Complaints('Left out', 'Look there.', clock)
  complaints_.poll()
  for _ in range(3):
    complaints_.add(7, 'a level')
    complaints_.add(9, 'an action')
  assert new_warnings() == ['Left out: 1 of actor 7 (a level). Look there.']
  clock.now += complaints.INTERVAL_SECONDS
  complaints_.poll()
  complaints_.poll()
  assert new_warnings() == [
    'Left out: 3 of actor 9 (an action); 2 of actor 7 (a level). Look there.'
  ]
