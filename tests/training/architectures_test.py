"""The baselines beside IMPALA: each learns, and each waits as it should."""

import contextlib
import dataclasses
import functools
import threading

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import config, timing
from impala_tf.acting import weights
from impala_tf.agent import agents
from impala_tf.learning import losses
from impala_tf.training import architectures, arrangement, loop, synchronous
from tests.support import catch, frail

OF_ONE_ACTOR = {'batch_size': 4, 'envs_per_actor': 4}
BASELINES = {
  'a2c_sync_step': {'architecture': 'a2c_sync_step'},
  'a2c_sync_trajectories': {'architecture': 'a2c_sync_trajectories'},
  'a2c_dynamic_batching': {
    'architecture': 'a2c_sync_trajectories',
    'inference': 'shared',
    'inference_timeout_ms': 2.0,
  },
  'a3c': {'architecture': 'a3c', **OF_ONE_ACTOR},
}
by_baseline = pytest.mark.parametrize('baseline', list(BASELINES))


def settings_of(baseline, **given):
  return dataclasses.replace(catch.CONFIG, **BASELINES[baseline] | given)


def updates_of(suite, settings, count, look=lambda batch: None):
  """The first updates of an arrangement: a list of (frames, episodes, `learner.Metrics`); `look`
  sees each batch.
  """
  learner = loop.make_learner(suite, settings)
  original = learner.update
  learner.update = lambda batch: (look(batch), original(batch))[1]
  results = []
  with architectures.make(suite, settings, learner.agent, [settings.seed, 1]) as running:
    for result in running.updates(learner):
      results.append(result)
      if len(results) == count:
        break
  return results


@by_baseline
def test_each_learns_what_a_random_policy_does_not(baseline):
  suite, settings = catch.CatchSuite(), settings_of(baseline, learning_rate=0.006)
  learner = loop.make_learner(suite, settings)
  # It ends once 300 balls in a row were caught by more than four of five; a random policy misses
  # most.
  returns, learned = [], False
  with architectures.make(suite, settings, learner.agent, [settings.seed, 1]) as running:
    for _, episodes, _ in running.updates(learner):
      returns += [episode.episode_return for episode in episodes]
      learned = len(returns) >= 300 and np.mean(returns[-300:]) > 0.6
      if learned:
        break
  assert np.mean(returns[:300]) < -0.2
  assert learned


@by_baseline
def test_counters_and_nothing_left_running(baseline):
  before = set(threading.enumerate())
  settings = settings_of(baseline)
  results = updates_of(catch.CatchSuite(), settings, 10)
  frames = settings.batch_size * 20
  assert [result[0] for result in results] == [frames * k for k in range(1, 11)]
  assert [int(result[2].updates) for result in results] == list(range(1, 11))
  assert int(results[-1][2].frames) == frames * 10
  # Episodes have seven steps; those of a batch ended in it.
  episodes = [episode for _, played, _ in results for episode in played]
  assert {episode.episode_steps for episode in episodes} == {7}
  assert frames * 10 // 7 - 8 <= len(episodes) <= frames * 10 // 7
  left = [
    t.name
    for t in set(threading.enumerate()) - before
    if t.name.startswith(('actor', 'lock-step', 'dynamic'))
  ]
  assert left == []


@pytest.mark.parametrize('baseline', ['a2c_sync_step', 'a2c_sync_trajectories'])
def test_synchronous_batches_are_the_next_unroll_of_each_environment(baseline):
  batches = []
  settings = settings_of(baseline, learning_rate=0.0)
  results = updates_of(
    catch.CatchSuite(),
    settings,
    6,
    lambda batch: batches.append(tf.nest.map_structure(np.asarray, batch)),
  )
  for (_, _, update), before, batch in zip(results[1:], batches, batches[1:], strict=False):
    assert int(update.lag_max) == 0
    np.testing.assert_array_equal(
      batch.step_outputs.observation.frame[0], before.step_outputs.observation.frame[-1]
    )
    np.testing.assert_array_equal(
      batch.step_outputs.info.episode_steps[0], before.step_outputs.info.episode_steps[-1]
    )
    np.testing.assert_array_equal(batch.agent_outputs.action[0], before.agent_outputs.action[-1])
  # Eight environments with balls of their own.
  assert (
    len(
      {
        batch.step_outputs.observation.frame[:, b].tobytes()
        for batch in batches[:1]
        for b in range(8)
      }
    )
    > 4
  )


class Dim(catch.Catch):
  """Catch in grey."""

  def _observation(self):
    observation = super()._observation()
    return observation._replace(frame=observation.frame // 2)


class TwoLevels(catch.CatchSuite):
  """Catch under two names, one of which looks different."""

  def levels(self, config):
    return ('left', 'right')

  def make_environment(self, level, seed, is_test, config):
    return functools.partial({'left': catch.Catch, 'right': Dim}[level], seed)


@pytest.mark.parametrize('baseline', ['a2c_sync_step', 'a2c_sync_trajectories'])
def test_synchronous_unrolls_name_their_levels(baseline):
  levels, brightness = [], []

  def look(batch):
    levels.append(batch.level.numpy().tolist())
    brightness.append(batch.step_outputs.observation.frame.numpy().max((0, 2, 3, 4)).tolist())

  updates_of(TwoLevels(), settings_of(baseline), 2, look)
  assert levels == [[0] * 4 + [1] * 4] * 2
  assert brightness == [[255] * 4 + [127] * 4] * 2


def test_synchronous_batches_may_have_replayed_unrolls_whose_episodes_count_but_once():
  sizes = []
  settings = settings_of('a2c_sync_trajectories', batch_size=16, replay_fraction=0.5)
  results = updates_of(
    catch.CatchSuite(), settings, 10, lambda batch: sizes.append(int(batch.level.shape[0]))
  )
  assert set(sizes) == {16}
  frames = 8 * 20
  assert [result[0] for result in results] == [frames * k for k in range(1, 11)]
  assert frames * 10 // 7 - 8 <= sum(len(played) for _, played, _ in results) <= frames * 10 // 7


class Slow:
  """Stands for a process of two environments; its outputs say which it is and what it was told."""

  def __init__(self, number, barrier):
    self._number, self._barrier = number, barrier

  def call(self, method, *args):
    """Returns only when the others were called as well."""
    self._barrier.wait(timeout=60)
    (actions,) = args or (np.zeros(2, np.int32),)
    return {'number': np.full(2, self._number), 'action': actions * 10}


def test_processes_in_step_work_at_the_same_time_and_keep_their_order():
  barrier = threading.Barrier(3)
  lock_step = synchronous._LockStep([Slow(i, barrier) for i in range(3)], timing.StageTimer())
  first, second = lock_step.call('initial'), lock_step.call('step', np.arange(6, dtype=np.int32))
  lock_step.close()
  assert first['number'].tolist() == second['number'].tolist() == [0, 0, 1, 1, 2, 2]
  assert second['action'].tolist() == [0, 10, 20, 30, 40, 50]


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
  settings = settings_of('a3c', num_actors=3, learning_rate=0.05)
  results = updates_of(catch.CatchSuite(), settings, 40)
  # Each actor is on-policy by its own copy, though the weights changed under it.
  assert len(ratios) >= 40
  assert max(ratios) < 1e-4
  lags = [(int(update.lag_min), int(update.lag_max)) for _, _, update in results]
  assert all(low == high for low, high in lags)
  # Between two gradients of one actor are those of the others, which it may or may not have known
  # of.
  assert max(high for _, high in lags) >= 1
  assert max(high for _, high in lags) < 20


def test_an_a3c_actor_waits_for_its_own_gradient():
  results = updates_of(catch.CatchSuite(), settings_of('a3c', num_actors=1), 10)
  assert {int(update.lag_max) for _, _, update in results} == {0}


@by_baseline
def test_an_actor_that_fails_ends_the_run_with_a_checkpoint(tmp_path, baseline):
  settings = settings_of(baseline, total_environment_frames=10**9)
  with pytest.raises(
    arrangement.ActorError,
    match=r'(?s)at frame [\d_]+: .*the ball is stuck.*restarted 3 times in a row',
  ):
    loop.train(frail.FrailSuite(tmp_path, 'raise', 150), settings, str(tmp_path / 'run'))
  assert list((tmp_path / 'run').glob('ckpt-*.index'))


@pytest.mark.parametrize(
  ('baseline', 'given', 'message'),
  [
    (
      'a2c_sync_step',
      {'envs_per_actor': 5},
      r'2 actors of 5 are 10, the batch has 8\. Change --num_actors',
    ),
    ('a2c_sync_trajectories', {'replay_fraction': 0.5}, r'2 actors of 4 are 8, the batch has 4\.'),
    ('a2c_sync_step', {'inference': 'shared'}, r'leave out --inference=shared'),
    ('a3c', {'inference': 'shared'}, r'leave out --inference=shared'),
    ('a3c', {'batch_size': 8}, r'batch_size=8 must be envs_per_actor=4'),
    ('a3c', {'replay_fraction': 0.5}, r'--replay_fraction must be left out'),
    ('a3c', {'policy_lag': 1}, r'--policy_lag must be left out'),
    (
      'a3c',
      {'num_learners': 2},
      r'num_learners=2: with architecture=a3c actors compute the gradients',
    ),
  ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(
  tmp_path, baseline, given, message
):
  with pytest.raises(config.ConfigurationError, match=message):
    loop.train(catch.CatchSuite(), settings_of(baseline, **given), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


@by_baseline
def test_baselines_have_no_form_for_a_cluster(baseline):
  settings = settings_of(baseline)
  architectures.check(settings)
  with pytest.raises(
    config.ConfigurationError, match=f'architecture={settings.architecture} is for one machine'
  ):
    architectures.check(settings, in_cluster=True)


def test_a_cluster_has_no_shared_inference(tmp_path):
  settings = dataclasses.replace(catch.CONFIG, inference='shared')
  architectures.check(settings)
  with pytest.raises(config.ConfigurationError, match=r'inference=shared .* Leave --inference out'):
    loop.train(catch.CatchSuite(), settings, str(tmp_path / 'run'), in_cluster=True)
  assert not (tmp_path / 'run').exists()


def test_time_of_processes_in_step_is_not_added_up():
  suite, settings = catch.CatchSuite(), settings_of('a2c_sync_step')
  running = architectures.make(suite, settings, agents.for_suite(suite, settings), [1, 1])
  with running.environments[0]._timer('environment'):
    assert running.actor_timer.seconds() == {}


def test_the_first_episode_is_a_part_of_the_time_of_unrolls():
  suite, settings = catch.CatchSuite(), settings_of('a2c_sync_trajectories')
  running = architectures.make(suite, settings, agents.for_suite(suite, settings), [1, 1])
  stages = []

  class Unroller:
    def initial(self, index):
      stages.append(running.actor_timer.inside)

    def unroll(self, index, carry):
      return carry, 'unrolls'

  class Timer:
    inside = None

    @contextlib.contextmanager
    def __call__(self, stage):
      self.inside = stage
      yield
      self.inside = None

  running.actor_timer, running._unroller, running._carries = Timer(), Unroller(), [None]
  assert running._play(0) == 'unrolls'
  assert stages == ['unroll']
