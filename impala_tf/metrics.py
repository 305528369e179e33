"""What is measured of a run: finished episodes, TensorBoard scalars, and where the time goes."""

import collections
import contextlib
import threading
import time
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from impala_tf import storage

_WINDOW = 100


class Episode(NamedTuple):
  """A finished episode, on Atari a whole game.

  level: int, index into the run's levels.
  episode_return: float, sum of its unclipped rewards.
  episode_steps: int, agent steps.
  """

  level: int
  episode_return: float
  episode_steps: int


def episodes_in(unrolls, count=None):
  """The episodes that ended in a batch of unrolls.

  Row 0 is left out. It repeats the last row of the same environment's unroll before, where it was counted already.

  Args:
    unrolls: `structs.Unroll`, time-major: `step_outputs` of [T+1, B], `level` of [B]; eager tensors or arrays.
    count: int, how many unrolls to look at, the first ones; None for all.

  Returns:
    A list of Episode in the order of their ends.
  """
  info = unrolls.step_outputs.info
  levels, finished, returns, steps = map(
    np.asarray, (unrolls.level, info.finished[1:], info.episode_return[1:], info.episode_steps[1:])
  )
  return [Episode(int(levels[b]), float(returns[t, b]), int(steps[t, b])) for t, b in np.argwhere(finished[:, :count])]


class EpisodeStatistics:
  """Mean return of the last 100 episodes, over all levels."""

  def __init__(self, earlier=()):
    """Starts with what an earlier start of the run left behind, the returns of its episodes in the order of their ends."""
    self._returns = collections.deque(earlier, maxlen=_WINDOW)

  def add(self, episodes):
    """Counts a list of Episode in."""
    self._returns.extend(episode.episode_return for episode in episodes)

  def mean_return(self):
    """A float; None before the first episode."""
    return sum(self._returns) / len(self._returns) if self._returns else None


class LevelScores:
  """A suite's scores over rounds of episodes: a round lasts until each level has finished one at least."""

  def __init__(self, levels, scores):
    """Starts the first round.

    Args:
      levels: names of the run's levels; `Episode.level` is an index into them.
      scores: as `experiment.Suite.scores`.
    """
    self._levels = levels
    self._scores = scores
    self._returns = [[] for _ in levels]

  def add(self, episodes):
    """Counts a list of Episode in, and ends the round if it can be.

    Returns:
      The scores of the round that ended with these episodes, a dict; None if it goes on.
    """
    for episode in episodes:
      self._returns[episode.level].append(episode.episode_return)
    if not all(self._returns):
      return None
    ended, self._returns = self._returns, [[] for _ in self._levels]
    return self._scores(dict(zip(self._levels, ended, strict=True)))


class Summaries:
  """TensorBoard scalars over emulator frames."""

  def __init__(self, logdir, levels, num_action_repeats):
    """Opens a new event file in `logdir`.

    Args:
      logdir: folder, anything that tf.io.gfile takes.
      levels: names of the run's levels; `Episode.level` is an index into them.
      num_action_repeats: emulator frames of an agent step.

    Raises:
      StorageError: if it can't be written.
    """
    self._logdir = logdir
    with storage.writing(logdir):
      self._writer = tf.summary.create_file_writer(logdir)
    self._levels = levels
    self._num_action_repeats = num_action_repeats

  def write(self, frames, scalars):
    """Writes numbers by name, a dict, at the given frames; those that are None are left out.

    Raises:
      StorageError: if they can't be written.
    """
    with self._writing(frames):
      for name, value in scalars.items():
        if value is not None:
          tf.summary.scalar(name, value)

  def write_episodes(self, frames, episodes):
    """Writes '<level>/episode_return' and '<level>/episode_frames' of each of a list of Episode; raises as `write`."""
    if episodes:
      with self._writing(frames):
        for episode in episodes:
          level = self._levels[episode.level]
          tf.summary.scalar(f'{level}/episode_return', episode.episode_return)
          tf.summary.scalar(f'{level}/episode_frames', episode.episode_steps * self._num_action_repeats)

  @contextlib.contextmanager
  def _writing(self, frames):
    """Scalars are written at the given frames meanwhile, and are in the file in the end."""
    with storage.writing(self._logdir), self._writer.as_default(step=int(frames)):
      yield

  def close(self):
    """Closes the file; raises as `write`."""
    with storage.writing(self._logdir):
      self._writer.close()


class StageTimer:
  """Adds up how long threads spend in the stages of their work, to tell which one holds them up.

    timer = StageTimer()
    shares = timer.reader()
    with timer('wait'):       # in any thread; the stages of one thread follow each other, they don't nest
      ...
    shares()                  # {'wait': 0.12, 'update': 0.88} since the last call

  A stage that still lasts counts up to now, so that a thread that hangs shows. It costs about a microsecond a stage.
  """

  def __init__(self, clock=time.perf_counter):
    """Starts at zero; `clock` gives seconds."""
    self._clock = clock
    self._lock = threading.Lock()
    self._seconds = collections.Counter()
    self._running = {}  # By `_Stage`: name, and since when it is not in `_seconds`.

  def __call__(self, stage):
    """A context that counts for the stage of the given name."""
    return _Stage(self, stage)

  def seconds(self):
    """Seconds by stage, all threads added up, a dict."""
    with self._lock:
      now = self._clock()
      for passage, (stage, since) in self._running.items():
        self._seconds[stage] += now - since
        self._running[passage] = (stage, now)
      return dict(self._seconds)

  def reader(self):
    """A function that gives each stage's share of the time since its last call, a dict; empty if none was spent."""
    last = self.seconds()

    def shares():
      nonlocal last
      now = self.seconds()
      spent = {stage: seconds - last.get(stage, 0.0) for stage, seconds in now.items()}
      last = now
      total = sum(spent.values())
      return {stage: seconds / total for stage, seconds in spent.items()} if total > 0 else {}

    return shares

  def _enter(self, passage, stage):
    with self._lock:
      self._running[passage] = (stage, self._clock())

  def _exit(self, passage):
    with self._lock:
      stage, since = self._running.pop(passage)
      self._seconds[stage] += self._clock() - since


class _Stage:
  """One passage of one thread through a stage."""

  def __init__(self, timer, stage):
    self._timer = timer
    self._stage = stage

  def __enter__(self):
    self._timer._enter(self, self._stage)

  def __exit__(self, *exception):
    self._timer._exit(self)
