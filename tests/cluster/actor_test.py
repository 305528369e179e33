"""An actor's process of a cluster before it acts."""

import types

import pytest
import tensorflow as tf

from impala_tf.acting import weights
from impala_tf.cluster import heartbeats
from impala_tf.config import ConfigurationError
from impala_tf.environments import process_group
from tests.support import catch
from tests.support.cluster_actor import Link, make


class ThreeLevels(catch.CatchSuite):
  def levels(self, config):
    return ('a', 'b', 'c')


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


def test_no_two_starts_of_an_actor_play_the_same_episodes_by_the_same_draws(monkeypatch):
  seeds = []
  original = process_group.make_environments
  monkeypatch.setattr(
    process_group, 'make_environments', lambda *args: (seeds.append(args[4]), original(*args))[1]
  )
  drawn = []
  monkeypatch.setattr(tf.random, 'set_seed', drawn.append)
  for task in (3, 3, 4):
    make(task)
  # The run's seed, its starts and the task, and what differs between starts of the same actor.
  assert [seed[:3] for seed in seeds] == [[1, 1, 3], [1, 1, 3], [1, 1, 4]]
  assert len({seed[3] for seed in seeds}) == 3
  # Nor do they draw the same actions.
  assert len({*drawn, catch.CONFIG.seed}) == 4


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
