"""Final return of a run: how well it ended, as one number, and how it came there.

The final return of a run on one level is the mean of its last 100 episodes' unclipped returns in
training. A run on several levels has its suite's score instead, the mean of the last 10 rounds in
each of which every level finished an episode: a single round is one episode of some levels, and a
sweep would choose the luckiest. It is read from score.json and the summaries: episodes.csv does not
say which rounds there were, as a run that is resumed starts a new one, and the suite may not be
installed here.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from impala_tf.reports import scalars
from impala_tf.training import episode_log, episodes

ROUNDS = 10


def read(logdir: str, max_frames: int | None = None) -> float | None:
  """Reads the final return of a run, or the one it would have had at an earlier end.

  Args:
    logdir: folder of the run, anything that tf.io.gfile takes.
    max_frames: the last frame that counts; None for all.

  Returns:
    The return or score, None if no episode or round has ended yet.

  Raises:
    FileError: if a file of the run is damaged; names it.
  """
  counts = lambda frames: max_frames is None or frames <= max_frames

  noted = episodes.read_score(logdir)
  if noted is not None:
    scores = [score for frames, score in _rounds(logdir, noted) if counts(frames)][-ROUNDS:]
    return sum(scores) / len(scores) if scores else None

  rows = (row for row in episode_log.newest_first(logdir) if counts(row.frames))
  returns = [row.episode_return for row in itertools.islice(rows, episodes.WINDOW)][::-1]
  return sum(returns) / len(returns) if returns else None


def curve(logdir: str) -> tuple[np.ndarray, np.ndarray]:
  """Reads what the final return would have been over the frames of a run: frames and values."""
  noted = episodes.read_score(logdir)
  if noted is not None:
    rounds = _rounds(logdir, noted)
    average = moving_average([score for _, score in rounds], ROUNDS)
    return np.array([frames for frames, _ in rounds]), average

  rows = episode_log.read(logdir)
  average = moving_average([row.episode_return for row in rows], episodes.WINDOW)
  return np.array([row.frames for row in rows]), average


def _rounds(logdir, noted):
  """Returns frames and score of each round that has ended."""
  if noted.name is None:
    return []
  rounds = [(point.frames, point.value) for point in scalars.read(logdir, noted.name)]
  # The last one may not be in the summaries yet, and runs may have lost theirs.
  if noted.score is not None and (not rounds or rounds[-1][0] < noted.frames):
    rounds.append((noted.frames, noted.score))
  return rounds


def moving_average(values: Sequence[float] | np.ndarray, window: int) -> np.ndarray:
  """Returns means of the last `window` values, of as many as there are at the start; float64 of the
  same length as `values`.
  """
  sums = np.cumsum(np.concatenate([[0.0], values]))
  ends = np.arange(1, len(values) + 1)
  starts = np.maximum(0, ends - window)
  return (sums[ends] - sums[starts]) / (ends - starts)
