"""Learning curves from the episodes of runs, as a picture.

python -m impala_tf.curves --logdirs=runs/pong --output=pong.png --random_score=-20.7
"""

import math
import os

import matplotlib
import numpy as np
import tensorflow as tf
from absl import app, flags

from impala_tf import cli
from impala_tf.config import ConfigurationError
from impala_tf.reports import final_return
from impala_tf.training import episode_log


def read_runs(texts):
  """The episodes of several runs.

  Args:
    texts: list of folders of runs, or episodes.csv files, each with or without 'label=' before it.
      The default label is the folder's name.

  Returns:
    A dict from label to what `read_episodes` gives.

  Raises:
    ConfigurationError: if one has no episodes, or two have the same label.
  """
  runs = {}
  for text in texts:
    label, path = cli.split_label(text, cli.last_part)
    if label in runs:
      raise ConfigurationError(
        f"Two runs are called {label!r}: put another 'label=' before {path}."
      )
    runs[label] = read_episodes(path)
  return runs


def read_episodes(path):
  """Frames and returns of a run's episodes, by level.

  Args:
    path: folder of a run, or an episodes.csv.

  Returns:
    A dict from level to two arrays [episodes], int64 emulator frames and float64 returns.

  Raises:
    ConfigurationError: if there are no episodes; names the file.
  """
  folder = os.path.dirname(path) if os.path.basename(path) == episode_log.FILE_NAME else path
  try:
    rows = episode_log.read(folder)
  except (tf.errors.OpError, ValueError) as error:
    raise ConfigurationError(
      f"Can't read {path} as the episodes of a run: {error!r}. Name the folder of a run."
    ) from error
  levels = {}
  for row in rows:
    levels.setdefault(row.level, []).append((row.frames, row.episode_return))
  if not levels:
    raise ConfigurationError(
      f'{os.path.join(folder, episode_log.FILE_NAME)} has no episodes yet: nothing to draw.'
    )
  return {
    level: tuple(map(np.array, zip(*values, strict=True))) for level, values in levels.items()
  }


def draw(runs, output, references, window=100):
  """Draws the curves, a panel for each level.

  Args:
    runs: dict from label to a dict from level to (frames, returns), as from `read_runs`.
    output: PNG file to write.
    references: function from a level to a dict from label to score, drawn as dashed lines.
    window: episodes in the moving average.
  """
  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  levels = list(dict.fromkeys(level for run in runs.values() for level in run))
  columns = min(len(levels), 4)
  rows = math.ceil(len(levels) / columns)
  size = (8, 4.5) if len(levels) == 1 else (5 * columns, 3 * rows)
  figure, panels = plt.subplots(rows, columns, figsize=size, layout='constrained', squeeze=False)
  for axes in panels.flat[len(levels) :]:
    axes.remove()
  for axes, level in zip(panels.flat, levels, strict=False):
    for label, run in runs.items():
      if level in run:
        frames, returns = run[level]
        (line,) = axes.plot(
          frames,
          final_return.moving_average(returns, window),
          label=f'{label}, mean of the last {window} episodes',
        )
        axes.plot(frames, returns, '.', markersize=2, alpha=0.25, color=line.get_color())
    for (label, score), color in zip(references(level).items(), ('gray', 'black'), strict=False):
      axes.axhline(score, linestyle='--', color=color, label=f'{label} ({score:g})')
    axes.set_title(level)
    axes.set_xlabel('environment frames')
    axes.set_ylabel('episode return, unclipped')
    axes.legend(fontsize='small')
    axes.grid(alpha=0.3)
  figure.savefig(output, dpi=120)
  plt.close(figure)


def _define_flags():
  flags.DEFINE_list(
    'logdirs',
    None,
    "folders of runs, or episodes.csv files, separated by commas; 'label=' may precede",
    required=True,
  )
  flags.DEFINE_string('output', None, 'PNG to write', required=True)
  flags.DEFINE_float('random_score', None, "a random policy's mean return, drawn as a line")
  flags.DEFINE_integer('window', 100, 'episodes in the moving average', lower_bound=1)


@cli.report_user_errors(OSError)
def main(argv):
  """Draws what the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  values = flags.FLAGS
  references = {} if values.random_score is None else {'random policy': values.random_score}
  draw(read_runs(values.logdirs), values.output, lambda level: references, values.window)
  return 0


if __name__ == '__main__':
  _define_flags()
  app.run(main)
