"""Gradients of actors that learn from copies of their own."""

import types

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.acting import weights
from impala_tf.learning import losses
from impala_tf.training import loop
from tests.support import baselines, catch, updates


def test_gradients_of_a3c_teach_what_a_random_policy_does_not_know():
  # The other baselines give the learner the same batches as IMPALA does, see baselines_test.
  suite, settings = catch.CatchSuite(), baselines.settings_of('a3c', learning_rate=0.006)
  learner = loop.make_learner(suite, settings)
  # It ends once 300 balls in a row were caught by more than four of five; a random policy misses
  # most.
  returns = []
  with updates.source_of(suite, settings, learner) as source:
    for episodes, _ in updates.updates(source, learner, 750):
      returns += [episode.episode_return for episode in episodes]
      if len(returns) >= 300 and np.mean(returns[-300:]) > 0.6:
        break
  assert np.mean(returns[:300]) < -0.2
  assert np.mean(returns[-300:]) > 0.6


def test_a3c_learns_from_its_own_copy_and_finds_the_weights_moved_on(monkeypatch):
  ratios, pulls = [], []
  original = losses.compute_loss

  def compute_loss(*args, **kwargs):
    loss = original(*args, **kwargs)
    tf.numpy_function(
      lambda log_rhos: ratios.append(np.abs(log_rhos).max()), [loss.vtrace_returns.log_rhos], []
    )
    return loss

  monkeypatch.setattr(losses, 'compute_loss', compute_loss)
  pull = weights.PublishedWeights.pull
  monkeypatch.setattr(
    weights.PublishedWeights, 'pull', lambda self: (pulls.append(0), pull(self))[1]
  )
  settings = baselines.settings_of('a3c', num_actors=3, learning_rate=0.05)
  results = baselines.updates_of(catch.CatchSuite(), settings, 40)
  # Each actor is on-policy by its own copy, though the weights changed under it.
  assert len(ratios) >= 40
  assert max(ratios) < 1e-4
  lags = [(int(update.lag_min), int(update.lag_max)) for _, update in results]
  assert all(low == high for low, high in lags)
  # Between two gradients of one actor are those of the others, which it may or may not have known
  # of.
  assert max(high for _, high in lags) >= 1
  assert max(high for _, high in lags) < 20


def test_an_a3c_actor_is_freed_only_when_the_weights_are_published():
  source = updates.source_of(catch.CatchSuite(), baselines.settings_of('a3c'))
  freed = []
  source.weights = types.SimpleNamespace(
    publish=lambda version: freed.append((int(version), source._applied.is_set()))
  )
  source.publish(tf.constant(7, tf.int64))
  assert freed == [(7, False)]
  assert source._applied.is_set()


def test_an_a3c_actor_waits_for_its_own_gradient():
  results = baselines.updates_of(catch.CatchSuite(), baselines.settings_of('a3c', num_actors=1), 10)
  assert {int(update.lag_max) for _, update in results} == {0}


def test_what_a3c_can_not_trace_leaves_no_process_behind(monkeypatch):
  def fail(*arguments):
    raise ValueError('A loss of somebody.')

  learner = loop.make_learner(catch.CatchSuite(), baselines.settings_of('a3c'))
  monkeypatch.setattr(learner, 'loss_and_gradients', fail)
  source = updates.source_of(catch.CatchSuite(), baselines.settings_of('a3c'), learner)
  with pytest.raises(ValueError, match='A loss of somebody'):
    source.__enter__()
  assert [process.pid for process in source.actors.environments] == [None] * len(
    source.actors.environments
  )
