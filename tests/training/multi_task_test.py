"""One agent on several levels: which actors play them, what is reported, and the suite's score.
Real processes.
"""

import dataclasses
import functools

import numpy as np
import pytest

from impala_tf import config as config_lib
from impala_tf.acting import weights
from impala_tf.evaluation import play
from impala_tf.reports import final_return
from impala_tf.training import checkpoints, loop
from tests.support import catch, timed, updates
from tests.support.run_files import read_episodes, read_scalars


class TimedSuite(catch.CatchSuite):
  """Levels that are known by their episodes: those of level i have i + 5 steps and earn 10 i."""

  def __init__(self, num_levels):
    self._num_levels = num_levels
    self.level_returns = []

  def levels(self, config):
    return tuple(f'level_{i}' for i in range(self._num_levels))

  def make_environment(self, level, seed, is_test, config):
    number = int(level.removeprefix('level_'))
    return functools.partial(timed.Timed, length=number + 5, episode_return=10.0 * number)

  def scores(self, level_returns):
    """The mean over levels, and how many episodes it is from."""
    self.level_returns.append(level_returns)
    means = [np.mean(level_returns[level]) for level in self.levels(None)]
    return {
      'suite/mean': float(np.mean(means)),
      'suite/episodes': float(sum(map(len, level_returns.values()))),
    }


def settings(**changes):
  base = dataclasses.replace(
    catch.CONFIG,
    level_name='all_levels',
    envs_per_actor=2,
    checkpoint_interval=1e6,
    summary_interval=1e6,
  )
  return dataclasses.replace(base, **changes)


def test_three_levels_are_told_apart_and_scored_together(tmp_path, capsys):
  suite = TimedSuite(3)
  config = settings(num_actors=6, total_environment_frames=160 * 20)
  assert loop.train(suite, config, str(tmp_path)) == 0
  output = capsys.readouterr().out
  episodes = read_episodes(tmp_path)
  played = {
    (row['level'], float(row['episode_return']), int(row['episode_frames'])) for row in episodes
  }
  assert played == {('level_0', 0.0, 5), ('level_1', 10.0, 6), ('level_2', 20.0, 7)}

  found = read_scalars(tmp_path)
  assert {value for _, value in found['level_2/episode_return']} == {20.0}
  # Each score is from episodes of all levels, and each episode counts in one score at most.
  assert len(suite.level_returns) > 1
  for level_returns in suite.level_returns:
    assert {level: set(returns) for level, returns in level_returns.items()} == {
      'level_0': {0.0},
      'level_1': {10.0},
      'level_2': {20.0},
    }
  assert {value for _, value in found['suite/mean']} == {10.0}
  assert final_return.read(str(tmp_path)) == 10.0
  assert final_return.curve(str(tmp_path))[1].tolist() == [10.0] * len(found['suite/mean'])
  counted = [value for _, value in found['suite/episodes']]
  assert counted == [sum(map(len, level_returns.values())) for level_returns in suite.level_returns]
  steps = [step for step, _ in found['suite/episodes']]
  assert steps == sorted(set(steps))
  first, *_, last = steps
  assert counted[0] == sum(int(row['frames']) <= first for row in episodes)
  assert sum(counted) == sum(int(row['frames']) <= last for row in episodes)
  assert f', mean 10.00, episodes {counted[-1]:.2f}, ' in output.splitlines()[-2]


def test_levels_without_a_score_train_too(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(TimedSuite, 'scores', lambda self, level_returns: {})
  assert loop.train(TimedSuite(2), settings(total_environment_frames=160 * 5), str(tmp_path)) == 0
  assert ', mean ' not in capsys.readouterr().out


def test_fewer_environments_than_levels_are_refused(tmp_path):
  with pytest.raises(
    config_lib.ConfigurationError,
    match=r'num_actors=1 .*envs_per_actor=2 .* 3 levels',
  ):
    loop.train(
      TimedSuite(3), settings(num_actors=1, total_environment_frames=160), str(tmp_path / 'run')
    )
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(('num_actors', 'is_even'), [(3, True), (4, False), (6, True), (8, False)])
def test_levels_played_more_often_than_others_are_warned_of(warnings, num_actors, is_even):
  loop.check(TimedSuite(3), settings(num_actors=num_actors))
  warned = [warning for warning in warnings() if 'not a multiple' in warning]
  if is_even:
    assert warned == []
  else:
    (message,) = warned
    assert f'The {2 * num_actors} environments' in message


def test_processes_play_the_level_that_their_unrolls_name():
  suite, config = TimedSuite(3), settings(num_actors=7, total_environment_frames=160)
  names = suite.levels(config)
  seen = {}
  with updates.source_of(suite, config) as source:
    while len(seen) < 3:
      unrolls = source.next_batch().unrolls
      steps = unrolls.step_outputs.info.episode_steps.numpy().max(axis=0)
      for level, longest in zip(unrolls.level.numpy(), steps, strict=True):
        seen.setdefault(names[level], set()).add(int(longest))
  assert seen == {'level_0': {5}, 'level_1': {6}, 'level_2': {7}}


def test_batches_hold_all_levels_in_equal_shares():
  suite, config = TimedSuite(4), settings(num_actors=3, envs_per_actor=4, processes_per_actor=2)
  assert config.batch_size == 8
  with updates.source_of(suite, config) as source:
    for _ in range(10):
      assert sorted(source.next_batch().unrolls.level.numpy()) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_an_agent_plays_all_levels_with_weights_that_were_published_once(monkeypatch):
  suite, config = TimedSuite(3), settings()
  original, published = weights.PublishedWeights, []
  monkeypatch.setattr(
    weights, 'PublishedWeights', lambda agent: published.append(agent) or original(agent)
  )
  monkeypatch.setattr(checkpoints, 'load_weights', lambda *_: checkpoints.Loaded('', 0))
  played = play.evaluate_checkpoint(suite, config, 'a folder', 3, seed=1)
  assert played == {'level_0': [0.0] * 3, 'level_1': [10.0] * 3, 'level_2': [20.0] * 3}
  assert len(published) == 1  # TensorFlow keeps each to the end of the process.
