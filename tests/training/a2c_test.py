"""Synchronous batches: whose unrolls they hold, and of which levels."""

import contextlib
import functools

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import config
from impala_tf.environments import suites
from impala_tf.training import loop
from tests.support import baselines, catch, updates

by_baseline = pytest.mark.parametrize('baseline', ['a2c_sync_step', 'a2c_sync_trajectories'])


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


@by_baseline
def test_synchronous_batches_are_the_next_unroll_of_each_environment(baseline):
  batches = []
  settings = baselines.settings_of(baseline, learning_rate=0.0)
  results = baselines.updates_of(
    catch.CatchSuite(),
    settings,
    6,
    lambda batch: batches.append(tf.nest.map_structure(np.asarray, batch)),
  )
  for (_, update), before, batch in zip(results[1:], batches, batches[1:], strict=False):
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


@by_baseline
def test_synchronous_unrolls_name_their_levels(baseline):
  levels, brightness = [], []

  def look(batch):
    levels.append(batch.level.numpy().tolist())
    brightness.append(batch.step_outputs.observation.frame.numpy().max((0, 2, 3, 4)).tolist())

  baselines.updates_of(TwoLevels(), baselines.settings_of(baseline), 2, look)
  assert levels == [[0, 1] * 4] * 2
  assert brightness == [[255, 127] * 4] * 2


def test_synchronous_batches_may_have_replayed_unrolls_whose_episodes_count_but_once():
  sizes = []
  settings = baselines.settings_of('a2c_sync_trajectories', batch_size=16, replay_fraction=0.5)
  results = baselines.updates_of(
    catch.CatchSuite(), settings, 10, lambda batch: sizes.append(int(batch.level.shape[0]))
  )
  assert set(sizes) == {16}
  frames = 8 * 20
  assert [int(metrics.frames) for _, metrics in results] == [frames * k for k in range(1, 11)]
  assert frames * 10 // 7 - 8 <= sum(len(played) for played, _ in results) <= frames * 10 // 7


@by_baseline
def test_stacks_of_frames_go_through_the_replay_of_synchronous_batches(baseline):
  given = {'num_actors': 2, 'envs_per_actor': 2, 'batch_size': 8, 'unroll_length': 4}
  suite, settings = suites.resolve(
    'pong', replay_fraction=0.5, **baselines.BASELINES[baseline], **given
  )
  shapes = []
  baselines.updates_of(
    suite,
    suite.with_sizes(settings),
    2,
    lambda b: shapes.append(b.step_outputs.observation.frame.shape),
  )
  assert shapes == [[5, 8, 84, 84, 4]] * 2


@by_baseline
def test_batches_of_fewer_unrolls_than_levels_are_refused_with_what_helps(baseline):
  class ManyLevels(catch.CatchSuite):
    def levels(self, config):
      return tuple(map(str, range(9)))

  settings = baselines.settings_of(baseline)
  assert settings.fresh_per_batch == 8
  with pytest.raises(config.ConfigurationError, match=r'9 levels.* 8 .*--batch_size'):
    loop.SOURCES[settings.architecture].check(ManyLevels(), settings)


def test_the_first_episode_is_a_part_of_the_time_of_unrolls():
  source = updates.source_of(catch.CatchSuite(), baselines.settings_of('a2c_sync_trajectories'))
  stages = []

  class Unroller:
    def initial(self, index):
      stages.append(source.actors.timer.inside)

    def unroll(self, index, carry):
      return carry, 'unrolls'

  class Timer:
    inside = None

    @contextlib.contextmanager
    def __call__(self, stage):
      self.inside = stage
      yield
      self.inside = None

  source.actors.timer, source.actors.unroller = Timer(), Unroller()
  assert source._play(0) == 'unrolls'
  assert stages == ['unroll']
