"""How well a run ended, as one number, and how it came there.

The final return of a run on one level is the mean of its last 100 episodes' unclipped returns in
training. A run on several levels has its suite's score instead, that of the last round in which
each level finished an episode.
"""

import numpy as np

from impala_tf.reports import scalars
from impala_tf.training import episode_log, episodes

WINDOW = 100


def read(logdir, max_frames=None):
  """The final return of a run, or what it would have been had it ended at `max_frames`.

  Args:
    logdir: folder of the run, anything that tf.io.gfile takes.
    max_frames: int, the last frame that counts; None for all.

  Returns:
    A float, or None if nothing has ended yet.
  """
  noted = episodes.read_score(logdir)
  if noted is not None:
    if max_frames is None or noted['frames'] <= max_frames:
      return noted['score']
    earlier = [
      value for frames, _, value in scalars.read(logdir, noted['name']) if frames <= max_frames
    ]
    return earlier[-1] if earlier else None
  rows = episode_log.read(logdir)
  returns = [row.episode_return for row in rows if max_frames is None or row.frames <= max_frames][
    -WINDOW:
  ]
  return sum(returns) / len(returns) if returns else None


def curve(logdir):
  """What `read` would have given over the frames of a run.

  Returns:
    Two arrays of the same length, frames and values.
  """
  noted = episodes.read_score(logdir)
  if noted is not None:
    points = scalars.read(logdir, noted['name']) if noted['name'] else []
    return np.array([frames for frames, _, _ in points]), np.array(
      [value for _, _, value in points]
    )
  rows = episode_log.read(logdir)
  return np.array([row.frames for row in rows]), moving_average(
    [row.episode_return for row in rows], WINDOW
  )


def moving_average(values, window):
  """Means of the last `window` values, of as many as there are at the start; float64 of the same
  length as `values`.
  """
  sums = np.cumsum(np.concatenate([[0.0], values]))
  ends = np.arange(1, len(values) + 1)
  starts = np.maximum(0, ends - window)
  return (sums[ends] - sums[starts]) / (ends - starts)
