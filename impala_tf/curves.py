"""Learning curves from the episodes of runs, as a picture.

python -m impala_tf.curves --logdirs=runs/pong --output=pong.png --random_score=-20.7
"""

import os

import matplotlib
import numpy as np
from absl import app, flags

from impala_tf import episode_log


def read_episodes(path):
  """Frames and returns of a run's episodes.

  Args:
    path: folder of a run, or an episodes.csv.

  Returns:
    Two arrays [episodes], int64 emulator frames and float64 returns.

  Raises:
    ValueError: if there are no episodes; names the file.
  """
  folder = os.path.dirname(path) if os.path.basename(path) == episode_log.FILE_NAME else path
  rows = episode_log.read(folder)
  if not rows:
    raise ValueError(f'{os.path.join(folder, episode_log.FILE_NAME)} has no episodes yet: nothing to draw.')
  return np.array([row.frames for row in rows]), np.array([row.episode_return for row in rows])


def moving_average(values, window):
  """Means of the last `window` values, of as many as there are at the start; float64 of the same length as `values`."""
  sums = np.cumsum(np.concatenate([[0.0], values]))
  ends = np.arange(1, len(values) + 1)
  starts = np.maximum(0, ends - window)
  return (sums[ends] - sums[starts]) / (ends - starts)


def draw(runs, output, random_score=None, window=100):
  """Draws the curves.

  Args:
    runs: dict from label to (frames, returns), as from `read_episodes`.
    output: PNG file to write.
    random_score: float, drawn as a dashed line; None for none.
    window: episodes in the moving average.
  """
  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  figure, axes = plt.subplots(figsize=(8, 4.5), layout='constrained')
  for label, (frames, returns) in runs.items():
    (line,) = axes.plot(frames, moving_average(returns, window), label=f'{label}, mean of the last {window} episodes')
    axes.plot(frames, returns, '.', markersize=2, alpha=0.25, color=line.get_color())
  if random_score is not None:
    axes.axhline(random_score, linestyle='--', color='gray', label=f'random policy ({random_score:g})')
  axes.set_xlabel('environment frames')
  axes.set_ylabel('episode return, unclipped')
  axes.legend()
  axes.grid(alpha=0.3)
  figure.savefig(output, dpi=120)
  plt.close(figure)


def _define_flags():
  flags.DEFINE_list('logdirs', None, 'folders of runs, or episodes.csv files, separated by commas', required=True)
  flags.DEFINE_string('output', None, 'PNG to write', required=True)
  flags.DEFINE_float('random_score', None, "a random policy's mean return, drawn as a line")
  flags.DEFINE_integer('window', 100, 'episodes in the moving average', lower_bound=1)


def main(argv):
  """Draws what the flags say."""
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {argv[1]!r}.')
  runs = {os.path.basename(os.path.normpath(path)): read_episodes(path) for path in flags.FLAGS.logdirs}
  draw(runs, flags.FLAGS.output, flags.FLAGS.random_score, flags.FLAGS.window)


if __name__ == '__main__':
  _define_flags()
  app.run(main)
