"""Final return of a run: how well it ended, as one number, and how it came there.

The final return of a run on one level is the mean of its last 100 episodes' unclipped returns in
training. A run on several levels has its suite's score instead, that of the last round in which
each level finished an episode. It is read from score.json: episodes.csv does not say which rounds
there were, as a run that is resumed starts a new one, and the suite may not be installed here.
"""

from collections.abc import Sequence

import numpy as np

from impala_tf.reports import scalars
from impala_tf.training import episode_log, episodes

WINDOW = 100


def read(logdir: str, max_frames: int | None = None) -> float | None:
  """Reads the final return of a run, or the one it would have had at an earlier end.

  Args:
    logdir: folder of the run, anything that tf.io.gfile takes.
    max_frames: the last frame that counts; None for all.

  Returns:
    The return or score, None if no episode or round has ended yet.
  """
  counts = lambda frames: max_frames is None or frames <= max_frames

  noted = episodes.read_score(logdir)
  if noted is not None:
    if counts(noted['frames']):
      return noted['score']
    points = scalars.read(logdir, noted['name'])
    return next((p.value for p in reversed(points) if counts(p.frames)), None)

  rows = episode_log.read(logdir)
  returns = [row.episode_return for row in rows if counts(row.frames)][-WINDOW:]
  return sum(returns) / len(returns) if returns else None


def curve(logdir: str) -> tuple[np.ndarray, np.ndarray]:
  """Reads what the final return would have been over the frames of a run: frames and values."""
  noted = episodes.read_score(logdir)
  if noted is not None:
    points = scalars.read(logdir, noted['name']) if noted['name'] else []
    return np.array([p.frames for p in points]), np.array([p.value for p in points])

  rows = episode_log.read(logdir)
  average = moving_average([row.episode_return for row in rows], WINDOW)
  return np.array([row.frames for row in rows]), average


def moving_average(values: Sequence[float] | np.ndarray, window: int) -> np.ndarray:
  """Returns means of the last `window` values, of as many as there are at the start; float64 of the
  same length as `values`.
  """
  sums = np.cumsum(np.concatenate([[0.0], values]))
  ends = np.arange(1, len(values) + 1)
  starts = np.maximum(0, ends - window)
  return (sums[ends] - sums[starts]) / (ends - starts)
