"""Tests of all of the paper's baselines: on-policy batches, counters, ends and refusals."""

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import config
from impala_tf.acting import group
from impala_tf.training import loop
from tests.support import baselines, catch, frail, threads, updates

by_baseline = pytest.mark.parametrize('baseline', list(baselines.BASELINES))


@pytest.mark.parametrize('baseline', [name for name in baselines.BASELINES if name != 'a3c'])
def test_batches_are_what_the_newest_policy_played(baseline):
  # What makes a batch one to learn from: at each row the agent, with the weights before the update,
  # would have chosen as was played, and that led to the next row.
  suite, settings = catch.CatchSuite(), baselines.settings_of(baseline, learning_rate=0.05)
  learner = loop.make_learner(suite, settings)
  original, differences = learner.update, []

  def update(batch):
    outputs, _ = learner.agent.unroll(
      batch.agent_outputs.action, batch.step_outputs, batch.agent_state
    )
    acted = batch.agent_outputs
    differences.append(np.abs(outputs.policy_logits[:-1] - acted.policy_logits[1:]).max())
    differences.append(np.abs(outputs.baseline[:-1] - acted.baseline[1:]).max())
    return original(batch)

  learner.update = update
  with updates.source_of(suite, settings, learner) as source:
    lags = [int(metrics.lag_max) for _, metrics in updates.updates(source, learner, 5)]
  assert lags == [0] * 5
  assert max(differences) < 1e-4


@by_baseline
def test_counters_and_nothing_left_running(baseline):
  settings = baselines.settings_of(baseline)
  with threads.none_left():
    results = baselines.updates_of(catch.CatchSuite(), settings, 10)
  frames = settings.batch_size * 20
  assert [int(metrics.updates) for _, metrics in results] == list(range(1, 11))
  assert [int(metrics.frames) for _, metrics in results] == [frames * k for k in range(1, 11)]
  # Episodes have seven steps; those of a batch ended in it.
  episodes = [episode for played, _ in results for episode in played]
  assert {episode.episode_steps for episode in episodes} == {7}
  assert frames * 10 // 7 - 8 <= len(episodes) <= frames * 10 // 7


@by_baseline
def test_an_actor_that_fails_ends_the_run_with_a_checkpoint(tmp_path, baseline):
  settings = baselines.settings_of(baseline, total_environment_frames=10**9)
  with pytest.raises(
    group.ActorError,
    match=r'(?s)at frame [\d_]+: .*the ball is stuck.*restarted 3 times in a row',
  ):
    loop.train(frail.FrailSuite(tmp_path, 'raise', 150), settings, str(tmp_path / 'run'))
  assert list((tmp_path / 'run').glob('ckpt-*.index'))


@by_baseline
def test_a_stop_is_heard_while_an_environment_hangs(tmp_path, baseline):
  suite = frail.FrailSuite(tmp_path, 'stuck', 30)
  polls = []

  class Stop:
    def __bool__(self):
      return len(polls) > 1

  settings = baselines.settings_of(baseline, learning_rate=0.0)
  with updates.source_of(suite, settings) as source:
    poll = source.actors.poll
    source.actors.poll = lambda: (polls.append(0), poll())
    while source.next_batch(Stop()) is not None:
      polls.clear()
      source.publish(tf.constant(1, tf.int32))
  assert len(polls) == 2


@pytest.mark.parametrize(
  ('baseline', 'given', 'message'),
  [
    (
      'a2c_sync_step',
      {'envs_per_actor': 5},
      '10.*8.*--num_actors',
    ),
    ('a2c_sync_trajectories', {'replay_fraction': 0.5}, '8.*4.*--num_actors'),
    ('a2c_sync_step', {'inference': 'shared'}, '--inference'),
    ('a3c', {'inference': 'shared'}, '--inference'),
    ('a3c', {'batch_size': 8}, 'batch_size=8.*envs_per_actor=4'),
    ('a3c', {'replay_fraction': 0.5}, '--replay_fraction'),
    ('a3c', {'policy_lag': 1}, '--policy_lag'),
    ('a3c', {'num_learners': 2}, 'num_learners=2.*architecture=a3c'),
  ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(
  tmp_path, baseline, given, message
):
  with pytest.raises(config.ConfigurationError, match=message):
    loop.train(catch.CatchSuite(), baselines.settings_of(baseline, **given), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()
