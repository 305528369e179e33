"""What an actor's process of a cluster does before it acts, and when its threads have ended; the
link is a stand-in.
"""

import contextlib
import dataclasses
import itertools
import threading
import time
import types

import pytest
import tensorflow as tf

from impala_tf.acting import actors, weights
from impala_tf.acting.group import ActorError
from impala_tf.cluster import actor, connection, heartbeats, roles
from impala_tf.config import ConfigurationError
from impala_tf.environments import process_group
from tests.support import catch
from tests.support.clock import Clock

LOST = tf.errors.UnavailableError(None, None, 'gone')


class ThreeLevels(catch.CatchSuite):
  def levels(self, config):
    return ('a', 'b', 'c')


class Link:
  """Writes down what it is told."""

  address = '10.0.0.2:2'

  def __init__(self):
    self.tape = []

  def leave(self, refused=''):
    self.tape.append(refused)

  def abandon(self):
    self.tape.append('lost')

  def check_silence(self, seconds):
    """It is never too long."""


class WaitingClock(Clock):
  """Time that passes by waiting."""

  def __init__(self):
    super().__init__()
    self.waits = []

  def wait(self, seconds, stop):
    self.waits.append(seconds)
    self.now += seconds


@pytest.fixture
def link_to(monkeypatch):
  """A function that makes a link whose attempts give what it is told, and the clock by which it
  waits.
  """
  clock = WaitingClock()
  monkeypatch.setattr(connection, 'wait', clock.wait)
  monkeypatch.setattr(connection.random, 'uniform', lambda low, high: high)

  def make_link(attempts):
    link = connection.Connection(
      roles.Role('actor', 0, '10.0.0.1:1', '10.0.0.2:2'), give_up_after=50.0, clock=clock
    )
    monkeypatch.setattr(link, '_attempt', lambda: next(attempts))
    return link, clock

  return make_link


def make(task=0, suite=None, **changes):
  settings = dataclasses.replace(catch.CONFIG, **changes)
  role = roles.Role('actor', task, '10.0.0.1:1', '10.0.0.2:2')
  return actor.ClusterActor(
    suite or catch.CatchSuite(), settings, role, heartbeats.LearnerHeartbeat('running', 1)
  )


def test_threads_of_a_process_share_one_copy_of_the_weights():
  acting = make(num_actors=4)
  assert isinstance(acting._weights, weights.SharedCopy)
  assert acting._actors.policy._published is acting._weights


def test_levels_are_dealt_out_over_the_actors_of_all_processes():
  sizes = {'num_actors': 2, 'envs_per_actor': 2}
  levels = [make(task, ThreeLevels(), **sizes)._actors.levels for task in range(3)]
  assert levels == [[[0, 1], [2, 0]], [[1, 2], [0, 1]], [[2, 0], [1, 2]]]


def test_heartbeats_name_each_level_once():
  actor = make(1, ThreeLevels(), num_actors=1, envs_per_actor=4)
  assert actor._heartbeat_fields()['levels'] == [0, 1, 2]
  assert make(1, ThreeLevels(), num_actors=1, envs_per_actor=2)._heartbeat_fields()['levels'] == [
    0,
    2,
  ]


def test_actors_play_in_environments_for_training():
  suite = catch.Noting()
  with make(suite=suite, num_actors=1) as acting:
    acting._actors.environments.start()
  assert suite.is_test == [False] * 4


def test_no_two_starts_of_an_actor_play_the_same_episodes(monkeypatch):
  seeds = []
  original = process_group.make_environments
  monkeypatch.setattr(
    process_group, 'make_environments', lambda *args: (seeds.append(args[4]), original(*args))[1]
  )
  for task in (3, 3, 4):
    make(task)
  # The run's seed, its starts and the task, and what differs between starts of the same actor.
  assert [seed[:3] for seed in seeds] == [[1, 1, 3], [1, 1, 3], [1, 1, 4]]
  assert len({seed[3] for seed in seeds}) == 3


def test_unrolls_of_all_environments_are_counted():
  acting = make(envs_per_actor=4)
  sent = []
  acting._queue = types.SimpleNamespace(enqueue_many=sent.append)
  acting._stacks = types.SimpleNamespace(unstack_frames=lambda unrolls: unrolls)
  for name in ('first', 'second'):
    acting._enqueue_many(name)
  assert sent == ['first', 'second']
  fields = acting._heartbeat_fields()
  assert fields['unrolls'] == 8
  # Of both of its actors; the learner foresees the policy lag by them.
  assert fields['environments'] == 8


def test_a_learner_with_other_settings_is_told_and_left():
  acting, link = make(), Link()
  theirs = make(discounting=0.5, num_actors=7)._signature
  acting.check(heartbeats.LearnerHeartbeat('running', 1, signature=acting._signature), link)
  assert link.tape == []
  with pytest.raises(
    ConfigurationError,
    match=r'(?s)10\.0\.0\.1:1 .*discounting: 0\.5 .*0\.99',
  ):
    acting.check(heartbeats.LearnerHeartbeat('running', 1, signature=theirs), link)
  assert link.tape == ['discounting']


class AveragingSuite(catch.CatchSuite):
  def make_agent(self, config):
    agent = super().make_agent(config)
    agent.average = tf.Variable(0.0, trainable=False, name='average')
    return agent


def test_an_agent_with_variables_that_actors_would_not_get_is_refused():
  with pytest.raises(ConfigurationError, match=r'has others: average\.'):
    make(suite=AveragingSuite())


def test_a_lost_learner_is_no_failure_unless_nothing_ever_arrives(monkeypatch):
  waits = []
  monkeypatch.setattr(connection, 'wait', lambda seconds, stop: waits.append(seconds))
  acting, link = make(), Link()
  for has_sent in (False, False, True, False, False, False, False):
    acting._classify_end(LOST, has_sent, link, False)
  assert waits == [1, 2, 1, 2, 3, 4]
  assert link.tape == ['lost'] * 6
  with pytest.raises(ActorError, match=r'10\.0\.0\.2:2.*gone'):
    acting._classify_end(LOST, False, link, False)


def test_attempts_to_connect_become_rarer_until_it_gives_up(link_to):
  link, clock = link_to(itertools.repeat(None))
  with pytest.raises(connection.LearnerLostError, match=r'10\.0\.0\.1:1 .*60 s'):
    link.connect(False)
  assert clock.waits == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


def test_a_learner_that_has_stopped_is_waited_for(link_to):
  running = heartbeats.LearnerHeartbeat('running', 2)
  link, clock = link_to(
    iter([None, heartbeats.LearnerHeartbeat('stopped', 1), heartbeats.LearnerHeartbeat(), running])
  )
  assert link.connect(False) == running
  assert len(clock.waits) == 3
  link, _ = link_to(iter([]))
  assert link.connect(True) is None


def test_an_error_of_another_kind_is_a_failure():
  with pytest.raises(ActorError, match='a defect'):
    make()._classify_end(KeyError('a defect'), True, Link(), False)


class LongUnrolls:
  """In place of actor threads: they go on until environments are closed, or for some seconds after
  they were stopped.
  """

  error = LOST

  def __init__(self, *arguments, **options):
    self._freed = threading.Event()

  @classmethod
  def none(cls):
    """In place of no threads."""
    return cls(on_failure=None)

  def start(self):
    """They play."""

  def stop(self):
    self._freed.timer = threading.Timer(0.5, self._freed.set)
    self._freed.timer.start()

  def running(self):
    return [] if self._freed.is_set() else ['actor-0']

  def join(self, timeout):
    if not self._freed.wait(timeout):
      raise RuntimeError('Still running')


class Endless(LongUnrolls):
  """Whose unrolls don't end."""

  def stop(self):
    """They play on."""


class Freed(Endless):
  """One of which has failed at once, as its queue was closed; the other plays on."""

  def __init__(self, *arguments, on_failure):
    super().__init__(*arguments)
    self._on_failure = on_failure

  def start(self):
    self._on_failure()


class Failed(Freed):
  """All of which have ended so."""

  def running(self):
    return []


class Answering(Link):
  """Whose learner answers with one state after the other, and then not at all."""

  def __init__(self, *states):
    super().__init__()
    self._states = iter(states)

  def exchange(self, **told):
    for state in self._states:
      return heartbeats.LearnerHeartbeat(state)
    raise LOST


@pytest.fixture
def acting(monkeypatch):
  """A function that makes an `Acting` whose threads are of a given kind, without environments of
  its own.
  """
  monkeypatch.setattr(heartbeats, 'INTERVAL_SECONDS', 0.01)
  monkeypatch.setattr(actor, '_JOIN_SECONDS', 0.1)
  monkeypatch.setattr(connection, 'wait', lambda seconds, stop: None)

  def make_acting(kind):
    monkeypatch.setattr(actors, 'ActorThreads', kind)
    made = make(3)
    made._is_started, made._actors.unroller = True, object()
    made._heartbeat_fields = dict
    return made

  return make_acting


def test_the_end_of_the_training_ends_an_actor_however_long_its_unrolls_last(acting):
  made, link = acting(Endless), Answering('running', 'finished')
  with made:
    assert made.run(heartbeats.LearnerHeartbeat('running', 1, 1), link, False)
    # It has heard, and does not ask a learner that is about to go.
    assert link.tape == []
    closed = []
    made._actors.environments.close = lambda: closed.append(True)
  assert closed == [True]


def test_an_actor_whose_queue_was_closed_asks_why_before_it_waits_for_unrolls(acting, monkeypatch):
  monkeypatch.setattr(heartbeats, 'INTERVAL_SECONDS', 5.0)
  made, link = acting(Freed), Answering('running', 'finished')
  with made:
    assert made.run(heartbeats.LearnerHeartbeat('running', 1, 1), link, False)


@pytest.mark.parametrize(
  ('states', 'warned'),
  [(['running'] * 100, True), (['running', 'stopped'], False), (['running'], False)],
)
def test_what_fails_while_the_learner_answers_is_shown(acting, warnings, states, warned):
  made = acting(Failed)
  with made:
    assert not made.run(heartbeats.LearnerHeartbeat('running', 1, 1), Answering(*states), False)
  assert ['gone' in warning for warning in warnings()] == [True] * warned


def test_an_actor_that_connects_again_copies_the_weights_again(acting):
  made, link = acting(Freed), Answering('running', 'finished')
  # Of the learner before, which may have been at the same version.
  made._weights._copied = 7
  with made:
    made.run(heartbeats.LearnerHeartbeat('running', 1, 1), link, False)
  assert made._weights._copied is None
  # Its unrolls say who sent them.
  assert made._queue._sender == 3


def test_a_learner_that_is_there_and_does_nothing_is_given_up(acting, monkeypatch):
  made, link = acting(Freed), Answering('running')
  silences = []

  def check_silence(seconds):
    silences.append(seconds)
    if seconds > 0.5:
      raise connection.LearnerLostError('silent')

  monkeypatch.setattr(link, 'check_silence', check_silence)
  with made, pytest.raises(connection.LearnerLostError):
    made.run(heartbeats.LearnerHeartbeat('running', 1, 1), link, False)
  assert len(silences) > 1


def test_a_finished_learner_is_not_connected_to_again(monkeypatch):
  calls = []

  class OneTime(contextlib.AbstractContextManager):
    def __init__(self, *arguments):
      """Nothing."""

    def __exit__(self, *exception):
      calls.append('exit')

    def check(self, learner, link):
      calls.append('check')

    def run(self, learner, link, stop):
      calls.append('run')
      return True

  class Connected(Link):
    def __init__(self, *arguments):
      super().__init__()

    def connect(self, stop):
      calls.append('connect')
      return heartbeats.LearnerHeartbeat('running', 1)

    def leave(self, refused=''):
      calls.append('leave')

  monkeypatch.setattr(actor, 'ClusterActor', OneTime)
  monkeypatch.setattr(actor, 'Connection', Connected)
  role = roles.Role('actor', 0, '10.0.0.1:1', '10.0.0.2:2')
  assert actor.act(lambda signature: (catch.CatchSuite(), catch.CONFIG), role, 1.0) == 0
  assert calls == ['connect', 'check', 'run', 'leave', 'exit']


def test_a_lost_learner_is_not_asked_for_before_all_unrolls_have_ended(acting):
  made, link = acting(LongUnrolls), Answering('running')
  began = time.monotonic()
  assert not made.run(heartbeats.LearnerHeartbeat('running', 1, 1), link, False)
  assert (
    time.monotonic() - began >= 0.5
  )  # Longer than `_JOIN_SECONDS`, after which one that is to end would be left.
  assert link.tape == ['lost']
