"""How an actor's process of a cluster ends, waits and begins again; its threads and the link are
stand-ins.
"""

import contextlib
import threading
import time

import pytest
import tensorflow as tf

from impala_tf.acting import actors
from impala_tf.acting.group import ActorError
from impala_tf.cluster import actor, connection, heartbeats, roles
from tests.support import catch
from tests.support.cluster_actor import Link, make

LOST = tf.errors.UnavailableError(None, None, 'gone')


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


def test_an_error_of_another_kind_is_a_failure():
  with pytest.raises(ActorError, match='a defect'):
    make()._classify_end(KeyError('a defect'), True, Link(), False)


class LongUnrolls:
  """In place of actor threads: they play until environments are closed, or for some seconds after
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


def test_a_heartbeat_that_fails_is_the_error_of_the_actor(acting):
  made = acting(LongUnrolls)

  def fields():
    raise TypeError('no number')

  made._heartbeat_fields = fields
  with made, pytest.raises(ActorError, match='no number'):
    made.run(heartbeats.LearnerHeartbeat('running', 1, 1), Answering('running'), False)


def test_counters_that_are_not_finite_are_not_reported(monkeypatch):
  made = make()
  counters = {'hits': 3.0, 'mean': float('nan'), 'most': float('inf')}
  monkeypatch.setattr(made._actors, 'statistics', lambda: counters)
  assert heartbeats.ActorHeartbeat(**made._heartbeat_fields()).statistics == {'hits': 3.0}


def test_a_lost_learner_is_not_asked_for_before_all_unrolls_have_ended(acting):
  made, link = acting(LongUnrolls), Answering('running')
  began = time.monotonic()
  assert not made.run(heartbeats.LearnerHeartbeat('running', 1, 1), link, False)
  assert (
    time.monotonic() - began >= 0.5
  )  # Longer than `_JOIN_SECONDS`, after which one that is to end would be left.
  assert link.tape == ['lost']
