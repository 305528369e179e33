"""Logs of a run while it lasts: the running line, TensorBoard, and the CSV of episodes."""

import contextlib
import functools
import os
import time
from typing import Any, Self

import tensorflow as tf

from impala_tf import files
from impala_tf.config import Config
from impala_tf.environments import suite as suite_lib
from impala_tf.learning import learner as learner_lib
from impala_tf.system import timing
from impala_tf.training import episode_log, progress, sources, tracking
from impala_tf.training.episodes import WINDOW, Episode, EpisodeStatistics, LevelScores, level_means

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
    self._of_levels = functools.partial(
      level_means, levels=levels, num_action_repeats=config.num_action_repeats
    )
    self._episodes = episode_log.EpisodeLog(logdir, levels, config.num_action_repeats, frames)
    earlier = episode_log.read_last(logdir, WINDOW)
    self._statistics = EpisodeStatistics(row.episode_return for row in earlier)
    self._scores = LevelScores(logdir, levels, suite.scores, frames)
    self._summaries = Summaries(logdir, frames)
    self._tracker = tracking.start(config, logdir)
    self._line = progress.ProgressLine(config.total_environment_frames, frames, updates)
    self._has_begun = False
    self._since_summary: list[Episode] = []
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

  def note(self, frames: int, episodes: list[Episode]) -> None:
    """Notes the episodes of a batch for their file, before its update.

    Args:
      frames, episodes: as for `log`.
    """
    self._episodes.add(frames, episodes)

  def log(self, frames: int, episodes: list[Episode], metrics: learner_lib.Metrics) -> None:
    """Takes an update in whose episodes were noted, and writes of it what is due.

    Args:
      frames: the learner's counter after it.
      episodes: those that ended in its batch.
      metrics: looked at only now and then, as fetching them makes the learner's device wait.

    Raises:
      StorageError: if a file can't be written.
    """
    self._statistics.add(episodes)
    if episodes:
      self._summaries.write(frames, self._of_levels(episodes))
      self._since_summary += episodes
    if scores := self._scores.add(frames, episodes):
      self._summaries.write(frames, scores)
      self._tracker.write(frames, scores)

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
    scalars = of_learner | of_run | actors.statistics()
    self._summaries.write(frames, scalars)
    # A service has fewer points of the levels: it is not for hundreds a second.
    self._tracker.write(frames, scalars | self._of_levels(self._since_summary))
    self._since_summary = []
    self.flush()


class Summaries:
  """TensorBoard scalars over emulator frames."""

  def __init__(self, logdir: str, frames: int = 0):
    """Opens a new event file in `logdir`.

    TensorBoard drops what earlier starts wrote there after `frames`, as it comes again.

    Args:
      logdir: folder, anything that tf.io.gfile takes.
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

  def write(self, frames: int, scalars: dict[str, Any]) -> None:
    """Writes numbers by name at the given frames; those that are None are left out.

    Raises:
      StorageError: if they can't be written.
    """
    with files.writing(self._logdir), self._writer.as_default(step=int(frames)):
      for name, value in scalars.items():
        if value is not None:
          tf.summary.scalar(name, value)

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
