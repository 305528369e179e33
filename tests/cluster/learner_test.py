"""The learner's side of a cluster: what it reads from heartbeats, and what it refuses."""

import dataclasses
import itertools
import types
from unittest import mock

import pytest

from impala_tf.cluster import heartbeats, learner, sockets
from impala_tf.cluster.heartbeats import ActorHeartbeat
from impala_tf.config import ConfigurationError
from impala_tf.training import loop
from tests.support import catch
from tests.support.clock import Clock


def test_numbers_of_the_actors_that_are_there_come_together():
  clock = Clock()
  actors = learner.RemoteActors(('catch',), 60.0, clock)
  shares = actors.shares()
  assert (actors.connected, actors.restarts, actors.statistics(), shares()) == (0, 0, {}, {})
  actors.membership.update(
    {9: ActorHeartbeat(1, restarts=100, statistics={'hits': 100.0}, shares={'queue': 1.0})}
  )
  clock.now += heartbeats.LOST_SECONDS
  of_the_first = {'queue': 0.25, 'inference': 0.75}
  of_the_second = {'queue': 0.75, 'inference': 0.25}
  actors.membership.update(
    {
      0: ActorHeartbeat(1, restarts=2, statistics={'hits': 1.0}, shares=of_the_first),
      1: ActorHeartbeat(1, restarts=1, statistics={'hits': 2.5}, shares=of_the_second),
      2: ActorHeartbeat(1),  # It has not reported yet what it does with its time.
    }
  )
  assert (actors.connected, actors.restarts, actors.statistics()) == (3, 3, {'hits': 3.5})
  assert shares() == {'queue': 0.5, 'inference': 0.5}


def test_it_looks_now_and_then_and_expects_answers_of_new_connections_too(monkeypatch):
  clock, calls = Clock(), []
  actors = learner.RemoteActors(('catch',), 60.0, clock)
  monkeypatch.setattr(sockets, 'set_keepalive', lambda: calls.append(clock.now))
  monkeypatch.setattr(actors.board, 'read', lambda num_levels: ({}, {}))
  for _ in range(12):
    actors.poll()
    clock.now += 1
  assert calls == [100, 105, 110]


def test_a_lag_that_gets_too_long_as_actors_join_is_warned_of(monkeypatch, new_warnings):
  source = object.__new__(learner.ClusterSource)
  source._clock = Clock()
  config = dataclasses.replace(catch.CONFIG, hang_warning=7.0)
  actors = source._make_actors(catch.CatchSuite(), config, [1])
  assert actors.quiet_levels._seconds == 7.0
  monkeypatch.setattr(sockets, 'set_keepalive', lambda: None)
  present = {}
  monkeypatch.setattr(actors.board, 'read', lambda num_levels: (dict(present), {}))

  def warnings(environments, task):
    present[task] = ActorHeartbeat(1, environments=environments)
    actors.refresh()
    return new_warnings()

  # Batches of 8 have room for 52 environments.
  assert warnings(26, 0) == warnings(26, 7) == warnings(26, 7) == []
  # Its environments come after it.
  assert warnings(0, 3) == []
  (warning,) = warnings(26, 3)
  assert 'about 11 updates: 78 environments for 8 new unrolls' in warning
  assert 'at most 17 environments in each' in warning
  # It is not repeated.
  assert warnings(26, 3) == []
  # Those that end are no reason.
  assert warnings(13, 3) == []


def test_actors_that_misbehave_are_named(monkeypatch, new_warnings):
  clock = Clock()
  actors = learner.RemoteActors(('catch',), 60.0, clock)
  monkeypatch.setattr(sockets, 'set_keepalive', lambda: None)
  monkeypatch.setattr(actors.board, 'read', lambda num_levels: ({}, {9: 'not understood'}))

  actors.refresh()
  (heartbeat,) = new_warnings()
  assert 'of actor 9 (not understood)' in heartbeat
  monkeypatch.setattr(actors.board, 'read', lambda num_levels: ({}, {}))
  for task in (7, 8):
    actors.left_out(task, 'an action')
  (unroll,) = new_warnings()
  assert 'of actor 7 (an action)' in unroll
  clock.now += 60
  actors.poll()
  (unroll,) = new_warnings()
  assert 'of actor 8 (an action)' in unroll


def test_a_refused_actor_is_named_while_others_play(monkeypatch, new_warnings):
  actors = learner.RemoteActors(('catch',), 60.0, Clock())
  monkeypatch.setattr(sockets, 'set_keepalive', lambda: None)
  present = {0: ActorHeartbeat(1), 3: ActorHeartbeat(1, left=True, refused='discounting')}
  monkeypatch.setattr(actors.board, 'read', lambda num_levels: (present, {}))
  actors.refresh()
  (warning,) = new_warnings()
  assert 'actor 3 (discounting)' in warning
  actors.refresh()
  assert new_warnings() == []


def test_batches_are_of_what_the_intake_lets_in():
  source = object.__new__(learner.ClusterSource)
  source._intake = mock.Mock()
  assert source._dequeue_batch(5) is source._intake.batch.return_value
  source._intake.batch.assert_called_once_with(5)


def test_levels_without_unrolls_are_named_while_actors_are_connected(monkeypatch, new_warnings):
  clock = Clock()
  actors = learner.RemoteActors(('pong', 'qbert'), 20.0, clock)
  beats = itertools.count()
  present = {}
  monkeypatch.setattr(sockets, 'set_keepalive', lambda: None)
  read = lambda num_levels: (
    {task: ActorHeartbeat(next(beats), levels, environments=1) for task, levels in present.items()},
    {},
  )
  monkeypatch.setattr(actors.board, 'read', read)

  def warnings():
    for seconds in (5, 20):
      clock.now += seconds
      actors.poll()
    return new_warnings()

  assert warnings() == []
  present[5] = [0]
  (unplayed,) = warnings()
  assert 'has played qbert' in unplayed
  present[5] = [0, 1]
  actors.count([1])
  actors.count([0] * 9)
  (silent,) = warnings()
  assert 'qbert (actors: 5)' in silent
  actors.count([1])
  assert warnings() == []
  present.clear()
  clock.now += heartbeats.LOST_SECONDS
  assert warnings() == []


@pytest.mark.parametrize('architecture', ['a2c_sync_step', 'a2c_sync_trajectories', 'a3c'])
def test_baselines_have_no_form_for_a_cluster(tmp_path, architecture):
  settings = dataclasses.replace(catch.CONFIG, architecture=architecture)
  with pytest.raises(ConfigurationError, match=f'architecture={architecture} '):
    loop.train(catch.CatchSuite(), settings, str(tmp_path / 'run'), source=learner.ClusterSource)
  assert not (tmp_path / 'run').exists()


def test_a_cluster_has_no_shared_inference():
  settings = dataclasses.replace(catch.CONFIG, inference='shared')
  loop.check(catch.CatchSuite(), settings)
  with pytest.raises(ConfigurationError, match='inference=shared'):
    loop.check(catch.CatchSuite(), settings, learner.ClusterSource)


def test_a_learner_of_a_cluster_needs_no_actors_of_its_own():
  settings = dataclasses.replace(catch.CONFIG, num_actors=1, envs_per_actor=1)
  suite = types.SimpleNamespace(check=lambda settings: None, levels=lambda settings: ('a', 'b'))
  loop.check(suite, settings, learner.ClusterSource)
  with pytest.raises(ConfigurationError, match='num_actors=1 '):
    loop.check(suite, settings)


def test_actors_that_came_since_the_last_look_are_seen_before_the_end():
  tape = mock.Mock()
  tape.actors.connected = 0
  source = object.__new__(learner.ClusterSource)
  source.is_over, source._clock = True, Clock()
  source._heartbeat = heartbeats.LearnerHeartbeat('running')
  source.actors, source.queue, source.staging = tape.actors, tape.queue, tape.staging
  source.__exit__()
  assert [name for name, *_ in tape.mock_calls] == [
    'actors.refresh',
    'actors.board.post',
    'queue.close',
    'staging.close',
  ]
  (told,) = tape.actors.board.post.call_args.args
  assert told.state == 'finished'
