"""Logs of a run while it lasts: the running line, TensorBoard, and the CSV of episodes."""

import contextlib
import functools
import os
import time
from typing import Any, Self

import numpy as np
import tensorflow as tf

from impala_tf import files
from impala_tf.config import Config
from impala_tf.environments import suite as suite_lib
from impala_tf.learning import learner as learner_lib
from impala_tf.system import timing
from impala_tf.training import episode_log, progress, sources, tracking
from impala_tf.training.episodes import WINDOW, Episode, EpisodeStatistics, LevelScores

_EVENTS = 'events.out.tfevents.'


class RunLogger:
  """Writes how a training proceeds; a context manager."""

  def __init__(
    self,
    suite: suite_lib.Suite,
    config: Config,
    logdir: str,
    learner: learner_lib.Learner,
    source: sources.Source,
    timer: timing.StageTimer,
  ):
    """Opens the files.

    Rows of episodes after the learner's frames are dropped, as they will be played again.

    Args:
      suite: of the levels.
      config: of the run.
      logdir: existing folder, anything that tf.io.gfile takes.
      learner: restored.
      source: of its batches.
      timer: of the learner's stages.
    """
    self._config = config
    self._source = source
    frames, updates = int(learner.frames), int(learner.updates)
    levels = suite.levels(config)
    self._episodes = episode_log.EpisodeLog(logdir, levels, config.num_action_repeats, frames)
    earlier = episode_log.read_last(logdir, WINDOW)
    self._statistics = EpisodeStatistics(row.episode_return for row in earlier)
    self._scores = LevelScores(logdir, levels, suite.scores, frames)
    self._summaries = Summaries(logdir, levels, config.num_action_repeats, frames)
    self._tracker = tracking.start(config, logdir)
    self._line = progress.ProgressLine(config.total_environment_frames, frames, updates)
    self._has_begun = False
    self._shares = {'learner': timer.reader(), 'actors': source.actors.shares()}
    self._last_summary = (time.monotonic(), frames)

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *exception) -> None:
    # Each step is taken whichever fails: standard output may be closed, or the disk full.
    with contextlib.ExitStack() as steps:
      steps.callback(self._summaries.close)
      steps.callback(self._tracker.close)
      steps.callback(self.flush)
      steps.callback(self._line.close)

  def flush(self) -> None:
    """Writes to the file of episodes what it lacks.

    Raises:
      StorageError: if it can't be written.
    """
    self._episodes.flush()

  def log(self, frames: int, episodes: list[Episode], metrics: learner_lib.Metrics) -> None:
    """Takes an update in, and writes of it what is due.

    Args:
      frames: the learner's counter after it.
      episodes: those that ended in its batch.
      metrics: looked at only now and then, as fetching them makes the learner's device wait.

    Raises:
      StorageError: if a file can't be written.
    """
    self._statistics.add(episodes)
    self._episodes.add(frames, episodes)
    self._summaries.write_episodes(frames, episodes)
    if scores := self._scores.add(frames, episodes):
      self._write(frames, scores)

    if not self._has_begun:
      self._line.begin(frames, int(metrics.updates))
      self._has_begun = True

    finished = frames >= self._config.total_environment_frames
    if finished or self._line.due():
      self._show_line(frames, metrics)
    if finished or time.monotonic() - self._last_summary[0] >= self._config.summary_interval:
      self._write_summary(frames, metrics)

  def _show_line(self, frames, metrics):
    actors = self._source.actors
    self._line.show(
      frames,
      int(metrics.updates),
      mean_return=self._statistics.mean_return(),
      scores=self._scores.latest,
      lag=float(metrics.lag_mean),
      queue=self._source.queue_fill(),
      restarts=actors.restarts,
      connected=actors.connected,
      shares={group: shares() for group, shares in self._shares.items()},
    )

  def _write_summary(self, frames, metrics):
    actors = self._source.actors
    then, frames_then = self._last_summary
    now = time.monotonic()
    self._last_summary = (now, frames)
    of_learner = {
      f'learner/{name}': value for name, value in metrics._asdict().items() if name != 'frames'
    }
    of_run = {
      'episode_return_mean_of_last_100': self._statistics.mean_return(),
      'frames_per_second': (frames - frames_then) / (now - then),
      'environments/restarts': actors.restarts,
      'cluster/connected_actors': actors.connected,
    }
    self._write(frames, of_learner | of_run | actors.statistics())
    self.flush()

  def _write(self, frames, scalars):
    self._summaries.write(frames, scalars)
    self._tracker.write(frames, scalars)


class Summaries:
  """TensorBoard scalars over emulator frames."""

  def __init__(
    self, logdir: str, levels: tuple[str, ...], num_action_repeats: int, frames: int = 0
  ):
    """Opens a new event file in `logdir`.

    TensorBoard drops what earlier starts wrote there after `frames`, as it comes again.

    Args:
      logdir: folder, anything that tf.io.gfile takes.
      levels: names of the run's levels; `Episode.level` is an index into them.
      num_action_repeats: emulator frames of an agent step.
      frames: of the restored checkpoint, 0 if there was none.

    Raises:
      StorageError: if it can't be written.
    """
    self._logdir = logdir
    with files.writing(logdir):
      number = sum(name.startswith(_EVENTS) for name in files.names_in(logdir))
      # Names have seconds as well, but of clocks that may differ.
      suffix = f'.{number:06d}.v2'
      if number:
        _mark_restart(logdir, frames, suffix)
      self._writer = tf.summary.create_file_writer(logdir, filename_suffix=suffix)
    self._levels = levels
    self._num_action_repeats = num_action_repeats

  def write(self, frames: int, scalars: dict[str, Any]) -> None:
    """Writes numbers by name at the given frames; those that are None are left out.

    Raises:
      StorageError: if they can't be written.
    """
    with self._writing(frames):
      for name, value in scalars.items():
        if value is not None:
          tf.summary.scalar(name, value)

  def write_episodes(self, frames: int, episodes: list[Episode]) -> None:
    """Writes '<level>/episode_return' and '<level>/episode_frames', means over the episodes of a
    level: a batch may hold hundreds of short ones; raises as `write`.
    """
    if not episodes:
      return
    by_level: dict[int, list[Episode]] = {}
    for episode in episodes:
      by_level.setdefault(episode.level, []).append(episode)
    with self._writing(frames):
      for index, of_level in by_level.items():
        level = self._levels[index]
        _, returns, steps = zip(*of_level, strict=True)
        tf.summary.scalar(f'{level}/episode_return', np.mean(returns))
        tf.summary.scalar(f'{level}/episode_frames', np.mean(steps) * self._num_action_repeats)

  @contextlib.contextmanager
  def _writing(self, frames):
    """Gives a context in which scalars are written at the given frames."""
    with files.writing(self._logdir), self._writer.as_default(step=int(frames)):
      yield

  def close(self) -> None:
    """Closes the file; raises as `write`."""
    with files.writing(self._logdir):
      self._writer.close()


def _mark_restart(logdir, frames, suffix):
  """Writes an event file by which TensorBoard drops those of earlier files after `frames`."""
  now = time.time()
  # TensorBoard takes the files of a run in the order of their names. That of the writer has the
  # name of this machine where this one has a character that is before all letters and digits.
  path = os.path.join(logdir, f'{_EVENTS}{int(now)}.!restart{suffix}')
  event = functools.partial(tf.compat.v1.Event, wall_time=now)
  start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
  with tf.io.TFRecordWriter(path) as writer:
    writer.write(event(file_version='brain.Event:2').SerializeToString())
    for _ in range(2):  # TensorBoard takes the first one that it meets for the run's beginning.
      writer.write(event(step=frames + 1, session_log=start).SerializeToString())
