"""Finished episodes: found in batches, their mean return, and the scores of a suite."""

import collections
import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from impala_tf import files, structs

WINDOW = 100  # Episodes in a mean return.


class Episode(NamedTuple):
  """A finished episode, on Atari a whole game.

  Attributes:
    level: int, index into the run's levels.
    episode_return: float, sum of its unclipped rewards.
    episode_steps: int, agent steps.
  """

  level: int
  episode_return: float
  episode_steps: int


def episodes_in(unrolls: structs.Unroll, count: int | None = None) -> list[Episode]:
  """Finds the episodes that ended in a batch of unrolls, in the order of their ends.

  Row 0 is left out. It repeats the last row of the same environment's unroll before, where it was
  counted already.

  Args:
    unrolls: time-major: `step_outputs` of [T+1, B], `level` of [B]; eager tensors or arrays.
    count: how many unrolls to look at, the first ones; None for all.
  """
  info = unrolls.step_outputs.info
  levels, finished, returns, steps = map(
    np.asarray, (unrolls.level, info.finished[1:], info.episode_return[1:], info.episode_steps[1:])
  )
  return [
    Episode(int(levels[b]), float(returns[t, b]), int(steps[t, b]))
    for t, b in np.argwhere(finished[:, :count])
  ]


def level_means(
  episodes: Iterable[Episode], levels: Sequence[str], num_action_repeats: int
) -> dict[str, float]:
  """Returns '<level>/episode_return' and '<level>/episode_frames', each the mean over the episodes
  of a level.

  Args:
    episodes: finished ones.
    levels: names of the run's levels.
    num_action_repeats: emulator frames of an agent step.
  """
  by_level: dict[str, list[Episode]] = {}
  for episode in episodes:
    by_level.setdefault(levels[episode.level], []).append(episode)

  means = {}
  for level, of_level in by_level.items():
    _, returns, steps = zip(*of_level, strict=True)
    means[f'{level}/episode_return'] = float(np.mean(returns))
    means[f'{level}/episode_frames'] = float(np.mean(steps)) * num_action_repeats
  return means


class EpisodeStatistics:
  """Mean return of the last 100 episodes, over all levels."""

  def __init__(self, earlier: Iterable[float] = ()):
    """Starts with the returns that an earlier start of the run left, in the order of their ends."""
    self._returns = collections.deque(earlier, maxlen=WINDOW)

  def add(self, episodes: list[Episode]) -> None:
    """Counts episodes in."""
    self._returns.extend(episode.episode_return for episode in episodes)

  def mean_return(self) -> float | None:
    """Returns the mean; None before the first episode."""
    return sum(self._returns) / len(self._returns) if self._returns else None


@dataclasses.dataclass(frozen=True)
class Score:
  """A suite's score at so many frames. Name and score are None before the first round has ended,
  and the score alone if the training in which the last round ended was lost.
  """

  frames: int
  name: str | None
  score: float | None

  def __post_init__(self):
    """Checks that a score has a name."""
    if self.name is None and self.score is not None:
      raise ValueError('it has a score without a name')


class LevelScores:
  """A suite's scores over rounds of episodes.

  A round lasts until each level has finished at least one. The score of the last round is kept in
  score.json of the run's folder, so that what reads runs knows it without the suite. A run on one
  level has no scores.

  Attributes:
    latest: the scores of the last round by name; empty before its end.
  """

  def __init__(
    self, logdir: str, levels: tuple[str, ...], scores: Callable[[Any], dict], frames: int = 0
  ):
    """Starts the first round. A score from beyond `frames` is dropped, as its training was lost.

    Args:
      logdir: existing folder, anything that tf.io.gfile takes.
      levels: names of the run's levels; `Episode.level` is an index into them.
      scores: as `suite.Suite.scores`.
      frames: of the restored checkpoint, 0 if there was none.
    """
    self.latest: dict[str, float] = {}
    self._logdir = logdir
    self._levels = levels
    self._scores = scores
    self._returns: list[list[float]] = [[] for _ in levels]
    if len(levels) > 1:
      noted = read_score(logdir)
      if noted is None or noted.frames > frames:
        self._note(0, noted.name if noted else None, None)

  def add(self, frames: int, episodes: list[Episode]) -> dict[str, float]:
    """Counts episodes in, and ends the round if it can be.

    Args:
      frames: the learner's counter.
      episodes: those that ended.

    Returns:
      The scores of the round that ended with these episodes; empty if it continues.
    """
    if len(self._levels) == 1:
      return {}
    for episode in episodes:
      self._returns[episode.level].append(episode.episode_return)
    if not all(self._returns):
      return {}
    ended, self._returns = self._returns, [[] for _ in self._levels]
    scores = self._scores(dict(zip(self._levels, ended, strict=True)))
    if scores:
      self.latest = scores
      self._note(frames, *next(iter(scores.items())))

    return scores

  def _note(self, frames, name, score):
    noted = Score(int(frames), name, score if score is None else float(score))
    files.write_json(_score_path(self._logdir), dataclasses.asdict(noted))


def read_score(logdir: str) -> Score | None:
  """Reads the score that `LevelScores` keeps.

  Returns:
    None for a run on one level.

  Raises:
    FileError: if the file can't be understood.
  """
  return files.read_json(_score_path(logdir), Score | None)


def _score_path(logdir):
  return os.path.join(logdir, 'score.json')
