"""Whole runs on a small task: learning, resuming, what is left. Real processes throughout."""

import dataclasses
import functools
import json
import signal
import types

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import config
from impala_tf.environments import process_group
from impala_tf.evaluation import play
from impala_tf.learning import learner, optimizers
from impala_tf.system import timing
from impala_tf.training import checkpoints, impala, loop, run_log
from tests.support import catch, frail, threads
from tests.support.clock import Clock
from tests.support.run_files import read_episodes, read_scalars, write_episodes
from tests.support.short_runs import SHORT, restored


def returns(logdir):
  return [float(row['episode_return']) for row in read_episodes(logdir)]


def play_at_random(num_episodes):
  """Mean return of the uniformly random policy."""
  environment, random = catch.Catch(0), np.random.default_rng(0)
  total = 0.0
  for _ in range(num_episodes):
    environment.reset()
    finished = False
    while not finished:
      _, reward, _, finished, *_ = environment.step(int(random.integers(3)))
      total += reward
  return total / num_episodes


class UntilLearned(loop.Callback):
  """Stops a run, as a signal does, once 500 balls in a row gave a mean return above 0.4."""

  def __init__(self):
    self.returns = []

  def on_update(self, frames, metrics, episodes, save):
    self.returns += [episode.episode_return for episode in episodes]
    if len(self.returns) >= 500 and np.mean(self.returns[-500:]) > 0.4:
      signal.raise_signal(signal.SIGTERM)


def test_learns_with_memory_what_a_random_policy_does_not(tmp_path):
  # Threads are timed differently in each run. By the end of all frames the mean was 0.71 in the
  # worst of seven runs.
  settings = dataclasses.replace(catch.CONFIG, seed=2, level_name='catch_with_memory')
  suite = catch.CatchSuite()
  assert loop.train(suite, settings, str(tmp_path), [UntilLearned()]) == 128 + signal.SIGTERM
  assert np.mean(returns(tmp_path)[-500:]) > 0.4
  assert play_at_random(1000) < -0.4
  played = play.evaluate_checkpoint(suite, settings, str(tmp_path), num_episodes=50, seed=7)
  assert len(played['catch_with_memory']) == 50
  assert np.mean(played['catch_with_memory']) > 0.2


def test_a_second_start_goes_on(tmp_path, capsys):
  suite = catch.CatchSuite()
  ends = []

  class Noting(impala.ImpalaSource):
    def __exit__(self, *exception):
      ends.append(self.is_over)
      super().__exit__(*exception)

    @classmethod
    def announce_end(cls, stop):
      ends.append('announced')

  class Stopping(loop.Callback):
    """Asks the first start to end at half of the frames, as by a signal."""

    def on_update(self, frames, metrics, episodes, save):
      if frames >= 160 * 6:
        signal.raise_signal(signal.SIGTERM)

  train = functools.partial(loop.train, suite, SHORT, str(tmp_path), source=Noting)
  assert train([Stopping()]) == 128 + signal.SIGTERM
  frames, updates, _ = restored(tmp_path, SHORT)
  assert (frames, updates) == (160 * 6, 6)
  episodes = read_episodes(tmp_path)
  capsys.readouterr()

  assert train() == 0
  assert 'frame 960, update 6' in capsys.readouterr().out
  assert restored(tmp_path, SHORT)[:2] == (160 * 12, 12)
  all_episodes = read_episodes(tmp_path)
  assert all_episodes[: len(episodes)] == episodes
  assert len(all_episodes) > len(episodes)
  assert all(int(row['frames']) > 960 for row in all_episodes[len(episodes) :])

  assert train() == 0
  assert '1_920 frames' in capsys.readouterr().out
  assert read_episodes(tmp_path) == all_episodes
  # What a cluster's actors are told: the run is not over, over, over before it began.
  assert ends == [False, True, 'announced']


def test_another_start_plays_other_episodes():
  first = process_group.make_environments(
    catch.CatchSuite(), SHORT, [['catch'] * 16], False, [1, 1], timing.StageTimer()
  )
  again = process_group.make_environments(
    catch.CatchSuite(), SHORT, [['catch'] * 16], False, [1, 1], timing.StageTimer()
  )
  resumed = process_group.make_environments(
    catch.CatchSuite(), SHORT, [['catch'] * 16], False, [1, 2], timing.StageTimer()
  )
  with first, again, resumed:
    boards = [group[0].initial().observation.frame for group in (first, again, resumed)]
  np.testing.assert_array_equal(boards[0], boards[1])
  assert (boards[0] != boards[2]).any()
  assert (
    len({board.tobytes() for board in boards[0]}) > 1
  )  # and environments of one actor differ, too


def test_a_resumed_run_draws_other_actions_and_starts_of_episodes(tmp_path, monkeypatch):
  suite = catch.CatchSuite()
  of_sources = []

  class EnoughSeenError(Exception):
    """Ends a start before anybody acts."""

  def end(source, suite, config, learner, seed):
    of_sources.append(seed)
    raise EnoughSeenError

  def seeds_of_a_start():
    seeds = []
    with monkeypatch.context() as patched:
      patched.setattr(tf.random, 'set_seed', seeds.append)
      patched.setattr(impala.ImpalaSource, '__init__', end)
      with pytest.raises(EnoughSeenError):
        loop.train(suite, SHORT, str(tmp_path))
    return seeds

  first = seeds_of_a_start()
  trained, run = loop.make_learner(suite, SHORT), checkpoints.RunState(SHORT.seed)
  run.start()
  checkpoints.Checkpointer(str(tmp_path), learner=trained, run=run).save()
  second = seeds_of_a_start()
  # Weights are drawn by the run's seed, actions by another one each time.
  assert first[0] == second[0] == SHORT.seed
  assert len({SHORT.seed, first[-1], second[-1]}) == 3
  assert of_sources == [[SHORT.seed, 1], [SHORT.seed, 2]]


class Ticking(loop.Callback):
  """Has a second pass with each update."""

  def __init__(self, clock):
    self._clock = clock

  def on_update(self, frames, metrics, episodes, save):
    self._clock.now += 1


def test_checkpoints_are_an_interval_apart(tmp_path, monkeypatch):
  clock, saves = Clock(now=100.0), []
  monkeypatch.setattr(loop, 'time', clock)
  monkeypatch.setattr(checkpoints.Checkpointer, 'save', lambda self: saves.append(clock.now))
  settings = dataclasses.replace(SHORT, checkpoint_interval=5.0)
  assert loop.train(catch.CatchSuite(), settings, str(tmp_path), [Ticking(clock)]) == 0
  assert saves == [105, 110, 112]


def test_summaries_have_the_rate_since_the_one_before_and_the_mean_return(tmp_path, monkeypatch):
  clock = Clock(now=100.0)
  monkeypatch.setattr(run_log, 'time', clock)
  settings = dataclasses.replace(SHORT, summary_interval=5.0)
  assert loop.train(catch.CatchSuite(), settings, str(tmp_path), [Ticking(clock)]) == 0
  found = read_scalars(tmp_path)
  # 160 frames an update; the callback comes after the summary.
  assert found['frames_per_second'] == [(960, 192.0), (1760, 160.0), (1920, 160.0)]
  mean = np.mean(returns(tmp_path)[-100:])
  assert found['episode_return_mean_of_last_100'][-1] == (1920, pytest.approx(mean, rel=1e-5))


def test_the_mean_return_of_a_resumed_run_is_of_the_episodes_before_its_checkpoint(tmp_path):
  write_episodes(tmp_path, [(10, 'catch', 3.0), (20, 'catch', 4.0), (30, 'catch', 90.0)])
  logger = run_log.RunLogger(
    catch.CatchSuite(),
    SHORT,
    str(tmp_path),
    types.SimpleNamespace(frames=20, updates=2),
    types.SimpleNamespace(actors=types.SimpleNamespace(shares=lambda: dict)),
    timing.StageTimer(),
  )
  assert logger._statistics.mean_return() == 3.5


def test_another_configuration_is_refused_by_its_fields(tmp_path):
  loop.train(catch.CatchSuite(), SHORT, str(tmp_path))
  other = dataclasses.replace(SHORT, learning_rate=0.5, discounting=0.9)
  with pytest.raises(
    config.ConfigurationError, match=r'(?s)discounting: 0.99 .* 0.9 .*learning_rate: 0.003 .* 0.5'
  ):
    loop.train(catch.CatchSuite(), other, str(tmp_path))
  more_actors = dataclasses.replace(SHORT, num_actors=1)
  assert loop.train(catch.CatchSuite(), more_actors, str(tmp_path)) == 0
  assert json.loads((tmp_path / 'config.json').read_text())['num_actors'] == 1
  # Its checkpoints know it, too.
  (tmp_path / 'config.json').unlink()
  with pytest.raises(checkpoints.CheckpointError, match=r'learning_rate: 0\.003 there, 0\.5 now'):
    loop.train(catch.CatchSuite(), other, str(tmp_path))
  assert not (tmp_path / 'config.json').exists()


def test_one_environment_fills_a_batch_of_eight(tmp_path):
  alone = dataclasses.replace(SHORT, num_actors=1, envs_per_actor=1)
  assert loop.train(catch.CatchSuite(), alone, str(tmp_path)) == 0
  assert restored(tmp_path, SHORT)[0] == 160 * 12


def test_a_run_leaves_summaries_and_nothing_running(tmp_path):
  logdir = tmp_path / 'run'
  with threads.none_left():
    assert loop.train(frail.FrailSuite(tmp_path, 'exit', 10**6), SHORT, str(logdir)) == 0
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

  # Summaries have frames as their step.
  found = read_scalars(logdir)
  steps = {tag: [step for step, _ in values] for tag, values in found.items()}
  assert steps['learner/total_loss'] == [160 * 12]
  assert steps['learner/lag_mean'] == [160 * 12]
  assert all(step % 160 == 0 for step in steps['catch/episode_return'])
  # Those that ended in a batch are one point.
  ended_at = dict.fromkeys(int(row['frames']) for row in read_episodes(logdir))
  assert list(ended_at) == steps['catch/episode_return']

  # Counters of the environments are among them.
  assert found['boards'] == [(160 * 12, 8.0)]
  assert found['broken'] == [(160 * 12, 0.0)]
  ((_, count),) = found['steps']
  assert count % 400 == 0  # Looked at every hundred steps of a process with four environments.
  assert count > 0
  assert found['environments/restarts'] == [(160 * 12, 0.0)]


def test_lag_is_updates_since_the_unroll_began(tmp_path):
  lags = []

  class Lags(loop.Callback):
    def on_update(self, frames, metrics, episodes, save):
      lags.append(
        (int(metrics.updates), int(metrics.lag_min), float(metrics.lag_mean), int(metrics.lag_max))
      )

  longer = dataclasses.replace(SHORT, total_environment_frames=160 * 40)
  loop.train(catch.CatchSuite(), longer, str(tmp_path), [Lags()])
  assert lags[0] == (1, 0, 0.0, 0)
  for updates, least, mean, most in lags:
    assert 0 <= least <= mean <= most < updates
  assert max(most for *_, most in lags) > 0
  # Were new weights not published, the last of the 40 updates would see a lag of 39.
  assert lags[-1][1] < 20


def test_the_learner_has_the_suites_agent_and_the_optimizer_of_the_configuration(monkeypatch):
  config = dataclasses.replace(catch.CONFIG, decay=0.21, momentum=0.22)
  monkeypatch.setattr(optimizers, 'RMSProp', lambda variables, **rates: (variables, rates))
  monkeypatch.setattr(learner, 'Learner', lambda *arguments: arguments)
  agent, (variables, rates), given = loop.make_learner(catch.CatchSuite(), config)
  assert [v.ref() for v in variables] == [v.ref() for v in agent.trainable_variables]
  assert rates == {'decay': 0.21, 'momentum': 0.22}
  assert given is config
