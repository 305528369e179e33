"""What an actor's process of a cluster does before it acts, and when its threads have ended; the link is a stand-in."""

import dataclasses
import itertools

import pytest
import tensorflow as tf

from impala_tf import cluster, cluster_actor, roles
from impala_tf.arrangement import ActorError
from impala_tf.hparams import ConfigurationError
from tests import catch

LOST = tf.errors.UnavailableError(None, None, 'gone')


class ThreeLevels(catch.CatchSuite):
  def levels(self, hparams):
    return ('a', 'b', 'c')


class Link:
  """Writes down what it is told."""

  def __init__(self):
    self.tape = []

  def leave(self, refused=''):
    self.tape.append(refused)

  def lose(self):
    self.tape.append('lost')


class Clock:
  """Time that passes by waiting."""

  def __init__(self):
    self.now, self.waits = 0.0, []

  def __call__(self):
    return self.now

  def wait(self, seconds, stop):
    self.waits.append(seconds)
    self.now += seconds


@pytest.fixture
def link_to(monkeypatch):
  """A function that makes a link whose attempts give what it is told, and the clock by which it waits."""
  clock = Clock()
  monkeypatch.setattr(cluster_actor, 'wait', clock.wait)
  monkeypatch.setattr(cluster_actor.random, 'uniform', lambda low, high: high)

  def make_link(attempts):
    link = cluster_actor.Link(roles.Role('actor', 0, '10.0.0.1:1', '10.0.0.2:2'), give_up_after=50.0, clock=clock)
    monkeypatch.setattr(link, '_attempt', lambda: next(attempts))
    return link, clock

  return make_link


def make(task=0, suite=None, **changes):
  settings = dataclasses.replace(catch.HPARAMS, **changes)
  role = roles.Role('actor', task, '10.0.0.1:1', '10.0.0.2:2')
  return cluster_actor.Acting(suite or catch.CatchSuite(), settings, role, cluster.LearnerNotice('running', 1))


def test_levels_are_dealt_out_over_the_actors_of_all_processes():
  levels = [make(task, ThreeLevels(), num_actors=2)._levels for task in range(3)]
  assert levels == [[0, 1], [2, 0], [1, 2]]


def test_a_learner_with_other_settings_is_told_and_left():
  acting, link = make(), Link()
  theirs = make(discounting=0.5, num_actors=7)._terms
  acting.check(cluster.LearnerNotice('running', 1, terms=acting._terms), link)
  assert link.tape == []
  with pytest.raises(ConfigurationError, match=r'(?s)10\.0\.0\.1:1 has other settings.*discounting: 0\.5 there, 0\.99 here'):
    acting.check(cluster.LearnerNotice('running', 1, terms=theirs), link)
  assert link.tape == ['discounting']


def test_a_lost_learner_is_no_failure_unless_nothing_ever_arrives(monkeypatch):
  waits = []
  monkeypatch.setattr(cluster_actor, 'wait', lambda seconds, stop: waits.append(seconds))
  acting, link = make(), Link()
  for has_sent in (False, False, True, False, False, False, False):
    acting._conclude(LOST, has_sent, link, False)
  assert waits == [1, 2, 1, 2, 3, 4]
  assert link.tape == ['lost'] * 6
  with pytest.raises(ActorError, match=r'5 connections in a row .* from 10\.0\.0\.2:2: .*gone'):
    acting._conclude(LOST, False, link, False)


def test_attempts_to_connect_become_rarer_until_it_gives_up(link_to):
  link, clock = link_to(itertools.repeat(None))
  with pytest.raises(cluster_actor.LearnerLostError, match=r'No word from a learner at 10\.0\.0\.1:1 for 60 s\.'):
    link.connect(False)
  assert clock.waits == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


def test_a_learner_that_has_stopped_is_waited_for(link_to):
  running = cluster.LearnerNotice('running', 2)
  link, clock = link_to(iter([None, cluster.LearnerNotice('stopped', 1), cluster.LearnerNotice(), running]))
  assert link.connect(False) == running
  assert len(clock.waits) == 3
  link, _ = link_to(iter([]))
  assert link.connect(True) is None


def test_an_error_of_another_kind_is_a_failure():
  with pytest.raises(ActorError, match=r'An actor failed: .*a defect'):
    make()._conclude(KeyError('a defect'), True, Link(), False)
