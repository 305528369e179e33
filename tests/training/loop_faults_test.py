"""Whole runs on a small task in which something fails. Real processes throughout."""

import dataclasses
import io
import os
import signal

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import config, files, saved_config
from impala_tf.acting import group
from impala_tf.learning import learner
from impala_tf.system import locks
from impala_tf.training import checkpoints, episodes, impala, loop, progress, run_log
from tests.support import catch, frail
from tests.support.processes import wait_until
from tests.support.run_files import read_episodes, read_scalars
from tests.support.short_runs import SHORT, restored


def test_a_killed_process_costs_its_episodes_and_the_run_goes_on(tmp_path, capsys, monkeypatch):
  settings = dataclasses.replace(SHORT, total_environment_frames=160 * 40)
  add, episodes_in = run_log.RunLogger.log, episodes.episodes_in

  killed = []

  def add_and_kill(self, frames, *args):
    add(self, frames, *args)
    process = self._source.actors.environments[1]
    if frames == 160 * 5:
      killed.append(process.pid)
      os.kill(process.pid, signal.SIGKILL)
    if frames == 160 * 10:
      # By now its actor has noticed, as all that it had for the learner is consumed. Without a wait
      # the other one might play the rest before the process is restarted.
      wait_until(lambda: process.pid not in (None, *killed))

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
  settings = dataclasses.replace(
    SHORT, total_environment_frames=10**9, checkpoint_interval=0.001, reward_clipping='none'
  )
  with pytest.raises(learner.NonFiniteLossError, match=r'Update \d+ '):
    loop.train(frail.FrailSuite(tmp_path, 'vast', 150), settings, str(tmp_path / 'run'))
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


def test_a_run_is_not_over_while_its_last_checkpoint_is_missing(tmp_path, monkeypatch):
  ends = []

  class Noting(impala.ImpalaSource):
    def __exit__(self, *exception):
      ends.append(self.is_over)
      super().__exit__(*exception)

  def fail(self):
    raise checkpoints.CheckpointError('No space left on device')

  monkeypatch.setattr(checkpoints.Checkpointer, 'save', fail)
  with pytest.raises(checkpoints.CheckpointError):
    loop.train(catch.CatchSuite(), SHORT, str(tmp_path), source=Noting)
  # The actors of a cluster wait for its learner's next start.
  assert ends == [False]


def test_an_update_that_is_interrupted_when_it_has_been_made_loses_no_episode(
  tmp_path, monkeypatch
):
  update, episodes_in = learner.Learner.update, episodes.episodes_in
  ends = []

  def update_and_interrupt(self, batch):
    metrics = update(self, batch)
    if int(metrics.updates) == 5:
      raise KeyboardInterrupt
    return metrics

  def count(unrolls, *args):
    ends.append(int(np.sum(unrolls.step_outputs.info.finished[1:])))
    return episodes_in(unrolls, *args)

  monkeypatch.setattr(learner.Learner, 'update', update_and_interrupt)
  monkeypatch.setattr(episodes, 'episodes_in', count)
  with pytest.raises(KeyboardInterrupt):
    loop.train(catch.CatchSuite(), SHORT, str(tmp_path))
  assert restored(tmp_path, SHORT)[0] == 160 * 5
  assert ends[4]
  assert len(read_episodes(tmp_path)) == sum(ends[:5])


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


def test_a_folder_that_another_process_trains_in_is_refused(tmp_path):
  with locks.held(str(tmp_path)), pytest.raises(config.ConfigurationError, match=str(tmp_path)):
    loop.train(catch.CatchSuite(), SHORT, str(tmp_path))
  assert saved_config.load(str(tmp_path)) is None


def test_what_can_not_be_trained_binds_no_folder(tmp_path):
  with pytest.raises(config.ConfigurationError, match='num_learners=2'):
    loop.train(catch.CatchSuite(), dataclasses.replace(catch.CONFIG, num_learners=2), str(tmp_path))
  # Or what the message advises would be refused as another configuration.
  assert saved_config.load(str(tmp_path)) is None
