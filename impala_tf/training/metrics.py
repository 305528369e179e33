"""What is measured of a run: finished episodes, scores of suites, and TensorBoard scalars."""

import collections
import contextlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from impala_tf import files

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

  Row 0 is left out. It repeats the last row of the same environment's unroll before, where it was
  counted already.

  Args:
    unrolls: `structs.Unroll`, time-major: `step_outputs` of [T+1, B], `level` of [B]; eager tensors
      or arrays.
    count: int, how many unrolls to look at, the first ones; None for all.

  Returns:
    A list of Episode in the order of their ends.
  """
  info = unrolls.step_outputs.info
  levels, finished, returns, steps = map(
    np.asarray, (unrolls.level, info.finished[1:], info.episode_return[1:], info.episode_steps[1:])
  )
  return [
    Episode(int(levels[b]), float(returns[t, b]), int(steps[t, b]))
    for t, b in np.argwhere(finished[:, :count])
  ]


class EpisodeStatistics:
  """Mean return of the last 100 episodes, over all levels."""

  def __init__(self, earlier=()):
    """Starts with what an earlier start of the run left behind, the returns of its episodes in the
    order of their ends.
    """
    self._returns = collections.deque(earlier, maxlen=_WINDOW)

  def add(self, episodes):
    """Counts a list of Episode in."""
    self._returns.extend(episode.episode_return for episode in episodes)

  def mean_return(self):
    """A float; None before the first episode."""
    return sum(self._returns) / len(self._returns) if self._returns else None


class LevelScores:
  """A suite's scores over rounds of episodes: a round lasts until each level has finished one at
  least.
  """

  def __init__(self, levels, scores):
    """Starts the first round.

    Args:
      levels: names of the run's levels; `Episode.level` is an index into them.
      scores: as `suite.Suite.scores`.
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
    with files.writing(logdir):
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
    """Writes '<level>/episode_return' and '<level>/episode_frames' of each of a list of Episode;
    raises as `write`.
    """
    if episodes:
      with self._writing(frames):
        for episode in episodes:
          level = self._levels[episode.level]
          tf.summary.scalar(f'{level}/episode_return', episode.episode_return)
          tf.summary.scalar(
            f'{level}/episode_frames', episode.episode_steps * self._num_action_repeats
          )

  @contextlib.contextmanager
  def _writing(self, frames):
    """Scalars are written at the given frames meanwhile, and are in the file in the end."""
    with files.writing(self._logdir), self._writer.as_default(step=int(frames)):
      yield

  def close(self):
    """Closes the file; raises as `write`."""
    with files.writing(self._logdir):
      self._writer.close()
