"""Actors act with the weights of exactly as many updates ago as they are told."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.acting import weights
from impala_tf.training import loop
from tests.support import catch, updates

SETTINGS = dataclasses.replace(
  catch.CONFIG, architecture='a2c_sync_trajectories', total_environment_frames=160 * 8
)


@pytest.mark.parametrize('lag', [0, 1, 3])
def test_actors_act_with_the_weights_of_so_many_updates_ago(lag):
  suite, settings = (
    catch.CatchSuite(),
    dataclasses.replace(SETTINGS, policy_lag=lag, learning_rate=0.05),
  )
  learner = loop.make_learner(suite, settings)
  agent, history, seen = learner.agent, [], []
  original = learner.update

  def update(batch):
    """Compares what the actors' policy said with what the weights of earlier updates say of the
    same observations.
    """
    history.append([tf.identity(v) for v in agent.trainable_variables])
    acted = batch.agent_outputs.policy_logits[1:]

    def distance(tensors):
      with weights.with_weights(agent, tensors):
        outputs, _ = agent.unroll(batch.agent_outputs.action, batch.step_outputs, ())
      return float(np.abs(outputs.policy_logits[:-1] - acted).max())

    seen.append([distance(tensors) for tensors in history])
    return original(batch)

  learner.update = update
  lags = []
  with updates.source_of(suite, settings, learner) as source:
    for _, metrics in updates.updates(source, learner, 8):
      lags.append((int(metrics.lag_min), int(metrics.lag_max)))
  assert lags == [(min(k, lag), min(k, lag)) for k in range(8)]
  for k, distances in enumerate(seen):
    acting = max(0, k - lag)
    assert distances[acting] < 1e-4
    assert all(d > 1e-3 for version, d in enumerate(distances) if version != acting)


def test_with_actors_ahead_of_the_learner_the_lag_is_the_least():
  suite = catch.CatchSuite()
  settings = dataclasses.replace(
    SETTINGS, architecture='impala', policy_lag=5, total_environment_frames=160 * 20
  )
  learner = loop.make_learner(suite, settings)
  with updates.source_of(suite, settings, learner) as source:
    lags = [int(metrics.lag_min) for _, metrics in updates.updates(source, learner, 20)]
  assert len(lags) == 20
  assert min(lags[5:]) >= 5
