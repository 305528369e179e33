"""Whole runs on a small task: learning, resuming, and ending well whatever happens. Real processes
throughout.
"""

import dataclasses
import functools
import io
import json
import os
import signal
import threading
import types

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import config, files, saved_config
from impala_tf.acting import group
from impala_tf.environments import process_group
from impala_tf.evaluation import play
from impala_tf.learning import learner, optimizers
from impala_tf.system import locks, timing
from impala_tf.training import checkpoints, episodes, impala, loop, progress, run_log
from tests.support import catch, frail
from tests.support.run_files import read_episodes, read_scalars

SHORT = dataclasses.replace(
  catch.CONFIG, total_environment_frames=160 * 12, checkpoint_interval=1e6, summary_interval=1e6
)


def returns(logdir):
  return [float(row['episode_return']) for row in read_episodes(logdir)]


def restored(logdir, settings):
  """Frames, updates and weights in a folder's newest checkpoint."""
  suite = catch.CatchSuite()
  trained = loop.make_learner(suite, settings)
  checkpoints.Checkpointer(
    str(logdir), learner=trained, run=checkpoints.RunState(0)
  ).restore_latest()
  return (
    int(trained.frames),
    int(trained.updates),
    [v.numpy() for v in trained.agent.trainable_variables],
  )


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
  assert 'Resuming from frame 960, update 6' in capsys.readouterr().out
  assert restored(tmp_path, SHORT)[:2] == (160 * 12, 12)
  all_episodes = read_episodes(tmp_path)
  assert all_episodes[: len(episodes)] == episodes
  assert len(all_episodes) > len(episodes)
  assert all(int(row['frames']) > 960 for row in all_episodes[len(episodes) :])

  assert train() == 0
  assert 'already has its 1_920 frames' in capsys.readouterr().out
  assert read_episodes(tmp_path) == all_episodes
  # What a cluster's actors are told: the run is not over, over, over before it began.
  assert ends == [False, True, 'announced']


def test_a_resumed_run_plays_other_episodes(tmp_path):
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


def test_a_resumed_run_draws_other_actions(tmp_path, monkeypatch):
  suite = catch.CatchSuite()

  class EnoughSeenError(Exception):
    """Ends a start before anybody acts."""

  def end(*unused):
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


def test_the_mean_return_of_a_resumed_run_is_of_the_episodes_before_its_checkpoint(tmp_path):
  lines = [
    'frames,level,episode_return,episode_frames',
    '10,catch,3,7',
    '20,catch,4,7',
    '30,catch,90,7',
    '',
  ]
  (tmp_path / 'episodes.csv').write_text('\n'.join(lines))
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


def test_one_environment_fills_a_batch_of_eight(tmp_path):
  alone = dataclasses.replace(SHORT, num_actors=1, envs_per_actor=1)
  assert loop.train(catch.CatchSuite(), alone, str(tmp_path)) == 0
  assert restored(tmp_path, SHORT)[0] == 160 * 12


def test_a_killed_process_costs_its_episodes_and_the_run_goes_on(tmp_path, capsys, monkeypatch):
  settings = dataclasses.replace(SHORT, total_environment_frames=160 * 40)
  add, episodes_in = run_log.RunLogger.log, episodes.episodes_in

  def add_and_kill(self, frames, *args):
    add(self, frames, *args)
    if frames == 160 * 5:
      os.kill(self._source.actors.environments[1].pid, signal.SIGKILL)

  consumed = []

  def note(unrolls, count):
    consumed.append(tf.nest.map_structure(np.asarray, unrolls.step_outputs))
    return episodes_in(unrolls, count)

  monkeypatch.setattr(run_log.RunLogger, 'log', add_and_kill)
  monkeypatch.setattr(episodes, 'episodes_in', note)
  assert loop.train(catch.CatchSuite(), settings, str(tmp_path)) == 0

  assert restored(tmp_path, settings)[:2] == (160 * 40, 40)
  # An episode has seven steps. All rows go on from the one before but for one in each environment
  # of the killed process.
  restarts, ends = 0, 0
  for rows in consumed[:40]:
    before, steps = rows.info.episode_steps[:-1], rows.info.episode_steps[1:]
    restarted = steps == 0
    np.testing.assert_array_equal(steps, np.where(restarted, 0, before % 7 + 1))
    assert rows.done[1:][restarted].all()
    assert not rows.reward[1:][restarted].any()
    np.testing.assert_array_equal(rows.info.finished[1:], steps == 7)
    restarts += restarted.sum()
    ends += (steps == 7).sum()
  assert restarts == settings.envs_per_actor
  assert len(read_episodes(tmp_path)) == ends
  assert read_scalars(tmp_path)['environments/restarts'] == [(160 * 40, 1.0)]
  progress, saved = capsys.readouterr().out.splitlines()[-2:]
  assert 'restarts 1' in progress
  assert saved == f'Saved at frame 6_400 in {tmp_path}.'


@pytest.mark.parametrize(
  ('failure', 'message'), [('exit', 'ended with exit code 7'), ('raise', 'the ball is stuck')]
)
def test_a_process_that_keeps_failing_ends_the_run_with_a_checkpoint(tmp_path, failure, message):
  settings = dataclasses.replace(SHORT, total_environment_frames=10**9)
  expected = rf'(?s)at frame [\d_]+: .*{message}.*restarted 3 times in a row'
  with pytest.raises(group.ActorError, match=expected) as raised:
    loop.train(frail.FrailSuite(tmp_path, failure, 150), settings, str(tmp_path / 'run'))
  assert '__inference' not in str(raised.value)
  frames, updates, _ = restored(tmp_path / 'run', settings)
  assert frames == 160 * updates > 0
  assert f'frame {frames:_}:' in str(raised.value)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
  settings = dataclasses.replace(SHORT, total_environment_frames=10**9, checkpoint_interval=0.001)
  with pytest.raises(learner.NonFiniteLossError, match=r'Update \d+ '):
    loop.train(frail.FrailSuite(tmp_path, 'nan', 150), settings, str(tmp_path / 'run'))
  frames, updates, values = restored(tmp_path / 'run', settings)
  assert frames == 160 * updates > 0
  assert all(np.isfinite(value).all() for value in values)


def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
  settings = dataclasses.replace(SHORT, summary_interval=0.001, checkpoint_interval=0.001)
  path, add = tmp_path / 'episodes.csv', run_log.RunLogger.log
  text = []

  def add_and_fill(self, frames, *args):
    if frames == 160 * 8:
      # As a disk that is full, for this file alone, until the run has ended.
      text.append(path.read_text())
      path.unlink()
      path.symlink_to('/dev/full')
    add(self, frames, *args)

  with monkeypatch.context() as patch:
    patch.setattr(run_log.RunLogger, 'log', add_and_fill)
    with pytest.raises(files.StorageError, match=r'episodes\.csv: .*No space left on device'):
      loop.train(catch.CatchSuite(), settings, str(tmp_path))
  assert restored(tmp_path, settings)[0] == 160 * 7
  path.unlink()
  path.write_text(text[0] + '12')  # cut off
  assert loop.train(catch.CatchSuite(), settings, str(tmp_path)) == 0
  frames = [int(row['frames']) for row in read_episodes(tmp_path)]
  assert frames == sorted(frames)
  assert (
    0.8 * SHORT.total_environment_frames / 7 < len(frames) <= SHORT.total_environment_frames / 7
  )


def test_a_run_leaves_summaries_and_nothing_running(tmp_path):
  before = set(threading.enumerate())
  logdir = tmp_path / 'run'
  assert loop.train(frail.FrailSuite(tmp_path, 'exit', 10**6), SHORT, str(logdir)) == 0
  left = [t for t in set(threading.enumerate()) - before if t.name.startswith(('actor', 'staging'))]
  assert left == []
  assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

  # Summaries have frames as their step.
  found = read_scalars(logdir)
  steps = {tag: [step for step, _ in values] for tag, values in found.items()}
  assert steps['learner/total_loss'] == [160 * 12]
  assert steps['learner/lag_mean'] == [160 * 12]
  assert all(step % 160 == 0 for step in steps['catch/episode_return'])
  assert [int(row['frames']) for row in read_episodes(logdir)] == steps['catch/episode_return']

  # Counters of the environments are among them.
  assert found['boards'] == [(160 * 12, 8.0)]
  assert found['broken'] == [(160 * 12, 0.0)]
  ((_, count),) = found['steps']
  assert count % 400 == 0  # Looked at every hundred steps of a process with four environments.
  assert count > 0
  assert found['environments/restarts'] == [(160 * 12, 0.0)]


def test_lag_is_updates_since_the_unroll_began(tmp_path):
  lags = []
  original = run_log.RunLogger.log

  def add(self, frames, episodes, update):
    lags.append(
      (int(update.updates), int(update.lag_min), float(update.lag_mean), int(update.lag_max))
    )
    original(self, frames, episodes, update)

  run_log.RunLogger.log = add
  longer = dataclasses.replace(SHORT, total_environment_frames=160 * 40)
  try:
    loop.train(catch.CatchSuite(), longer, str(tmp_path))
  finally:
    run_log.RunLogger.log = original
  assert lags[0] == (1, 0, 0.0, 0)
  for updates, least, mean, most in lags:
    assert 0 <= least <= mean <= most < updates
  assert max(most for *_, most in lags) > 0
  # Were new weights not published, the last of the 40 updates would see a lag of 39.
  assert lags[-1][1] < 20


class Halving(loop.Callback):
  """A `loop.Callback` that halves the learning rate after each update, counts, and saves after the
  second.
  """

  def __init__(self):
    self.tape = []

  def bind(self, learner):
    self.tunable = learner.tunable
    self.state = tf.Module(name='halving')
    self.state.learning_rate = learner.tunable.learning_rate
    return {'halving': self.state}

  def start(self, frames):
    self.tape.append(('start', frames, self.tunable.learning_rate.numpy()))

  def on_update(self, frames, metrics, episodes, save):
    self.tunable.learning_rate.assign(self.tunable.learning_rate / 2)
    self.tape.append((frames, self.tunable.learning_rate.numpy(), len(episodes)))
    if frames == 320:
      save()
      raise RuntimeError('killed')


def test_a_callback_changes_the_learner_and_is_saved_with_it(tmp_path, monkeypatch):
  suite, callback = catch.CatchSuite(), Halving()
  # As if killed: nothing is saved on the way out.
  original, saves = checkpoints.Checkpointer.save, []
  monkeypatch.setattr(
    checkpoints.Checkpointer,
    'save',
    lambda self: saves.append(0) or (original(self) if len(saves) < 2 else None),
  )
  with pytest.raises(RuntimeError, match='killed'):
    loop.train(suite, SHORT, str(tmp_path), [callback])
  np.testing.assert_allclose([row[1] for row in callback.tape[1:]], [0.0015, 0.00075], rtol=1e-6)
  assert [row[0] for row in callback.tape] == ['start', 160, 320]
  assert sum(row[2] for row in callback.tape[1:]) == len(read_episodes(tmp_path)) > 0

  monkeypatch.setattr(checkpoints.Checkpointer, 'save', original)
  for path in tmp_path.glob('events*'):
    path.unlink()
  resumed = Halving()
  assert loop.train(suite, SHORT, str(tmp_path), [loop.Callback(), resumed]) == 0
  assert resumed.tape[0][:2] == ('start', 320)
  np.testing.assert_allclose(resumed.tape[0][2], 0.00075, rtol=1e-6)
  assert len(resumed.tape) == 1 + 10
  rates = [rate for _, rate in read_scalars(tmp_path)['learner/learning_rate']]
  # What the last update used: the eleventh halving, and the decay has left a twelfth.
  np.testing.assert_allclose(rates[-1], 0.003 / 2**11 / 12, rtol=1e-5)


class Refusing(loop.Callback):
  """Does not go with the run."""

  def start(self, frames):
    raise ValueError('This run is not for me.')


def test_a_callback_that_refuses_at_the_start_leaves_no_checkpoint(tmp_path):
  with pytest.raises(ValueError, match='not for me'):
    loop.train(catch.CatchSuite(), SHORT, str(tmp_path), callbacks=[Refusing()])
  assert not list(tmp_path.glob('ckpt*'))


class Head(io.StringIO):
  """Standard output whose reader ends after the first line."""

  has_ended = False

  def write(self, text):
    self.has_ended = bool(self.getvalue())
    self.flush()
    return super().write(text)

  def flush(self):
    if self.has_ended:
      raise BrokenPipeError('Nobody reads.')


def test_a_closed_standard_output_costs_neither_checkpoint_nor_summaries(tmp_path, monkeypatch):
  closed = []
  close = run_log.Summaries.close
  monkeypatch.setattr(run_log.Summaries, 'close', lambda self: (closed.append(1), close(self)))
  line = progress.ProgressLine
  monkeypatch.setattr(
    progress, 'ProgressLine', lambda *arguments: line(*arguments, stream=Head(), interval=0.0)
  )
  with pytest.raises(BrokenPipeError):
    loop.train(catch.CatchSuite(), SHORT, str(tmp_path))
  assert closed
  assert list(tmp_path.glob('ckpt*'))


def test_the_learner_has_the_suites_agent_and_the_optimizer_of_the_configuration(monkeypatch):
  config = dataclasses.replace(catch.CONFIG, decay=0.21, momentum=0.22)
  monkeypatch.setattr(optimizers, 'RMSProp', lambda variables, **rates: (variables, rates))
  monkeypatch.setattr(learner, 'Learner', lambda *arguments: arguments)
  agent, (variables, rates), given = loop.make_learner(catch.CatchSuite(), config)
  assert [v.ref() for v in variables] == [v.ref() for v in agent.trainable_variables]
  assert rates == {'decay': 0.21, 'momentum': 0.22}
  assert given is config


def test_a_folder_that_another_process_trains_in_is_refused(tmp_path):
  with locks.held(str(tmp_path)), pytest.raises(config.ConfigurationError, match=str(tmp_path)):
    loop.train(catch.CatchSuite(), SHORT, str(tmp_path))
  assert saved_config.load(str(tmp_path)) is None


def test_what_can_not_be_trained_binds_no_folder(tmp_path):
  with pytest.raises(config.ConfigurationError, match=r'num_learners=2 .*Change --num_learners'):
    loop.train(catch.CatchSuite(), dataclasses.replace(catch.CONFIG, num_learners=2), str(tmp_path))
  # Or what the message advises would be refused as another configuration.
  assert saved_config.load(str(tmp_path)) is None
