"""Learning curves from the episodes of runs, as a picture.

python -m impala_tf.curves --logdirs=runs/pong --output=pong.png --random_score=-20.7
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from absl import flags

from impala_tf import cli, files
from impala_tf.config import ConfigurationError
from impala_tf.reports import final_return, pictures
from impala_tf.training import episode_log

# Frames and returns of a level's episodes: int64 and float64 [episodes].
Episodes = tuple[np.ndarray, np.ndarray]


def read_runs(texts: Sequence[str]) -> dict[str, dict[str, Episodes]]:
  """Reads the episodes of several runs.

  Args:
    texts: folders of runs, or episodes.csv files, each with or without 'label=' before it.
      The default label is the folder's name.

  Returns:
    By label, what `read_episodes` gives.

  Raises:
    ConfigurationError: if one has no episodes, or two have the same label.
  """
  runs: dict[str, dict[str, Episodes]] = {}
  for text in texts:
    label, path = cli.split_label(text, cli.last_part)
    if label in runs:
      raise ConfigurationError(
        f"Two runs are called {label!r}: put another 'label=' before {path}."
      )
    runs[label] = read_episodes(path)
  return runs


def read_episodes(path: str) -> dict[str, Episodes]:
  """Reads frames and returns of a run's episodes, by level.

  Args:
    path: folder of a run, or an episodes.csv.

  Raises:
    ConfigurationError: if there are no episodes; names the file.
  """
  folder = os.path.dirname(path) if os.path.basename(path) == episode_log.FILE_NAME else path
  try:
    rows = episode_log.read(folder)
  except files.io_errors(ValueError) as error:
    raise ConfigurationError(
      f"Can't read {path} as the episodes of a run: {error!r}. Name the folder of a run."
    ) from error

  levels: dict[str, list[episode_log.Row]] = {}
  for row in rows:
    levels.setdefault(row.level, []).append(row)
  if not levels:
    raise ConfigurationError(
      f'{os.path.join(folder, episode_log.FILE_NAME)} has no episodes yet: nothing to draw.'
    )
  return {
    level: (np.array([row.frames for row in rows]), np.array([row.episode_return for row in rows]))
    for level, rows in levels.items()
  }


def draw(
  runs: Mapping[str, Mapping[str, Episodes]],
  output: str,
  references: Callable[[str], Mapping[str, float]],
  window: int = 100,
) -> None:
  """Draws the curves, a panel for each level.

  Args:
    runs: from label and level to frames and returns, as from `read_runs`.
    output: PNG file to write.
    references: gives scores of a level by their labels, to be drawn as dashed lines.
    window: episodes in the moving average.
  """
  levels = list(dict.fromkeys(level for run in runs.values() for level in run))
  columns = min(len(levels), 4)
  rows = math.ceil(len(levels) / columns)
  size = (8, 4.5) if len(levels) == 1 else (5 * columns, 3 * rows)

  with pictures.picture(output, rows=rows, columns=columns, size=size) as panels:
    for axes in panels[len(levels) :]:
      axes.remove()
    for axes, level in zip(panels, levels, strict=False):
      _draw_level(axes, level, runs, references(level), window)


def _draw_level(axes, level, runs, references, window):
  for label, run in runs.items():
    if level in run:
      frames, returns = run[level]
      average = final_return.moving_average(returns, window)
      (line,) = axes.plot(frames, average, label=f'{label}, mean of the last {window} episodes')
      axes.plot(frames, returns, '.', markersize=2, alpha=0.25, color=line.get_color())

  for (label, score), color in zip(references.items(), ('gray', 'black'), strict=False):
    axes.axhline(score, linestyle='--', color=color, label=f'{label} ({score:g})')

  axes.set_title(level)
  axes.set_xlabel('environment frames')
  axes.set_ylabel('episode return, unclipped')
  axes.legend(fontsize='small')
  axes.grid(alpha=0.3)


def _define_flags() -> None:
  cli.define_paths(
    'logdirs',
    None,
    "folders of runs, or episodes.csv files, separated by commas; 'label=' may precede each",
    required=True,
  )
  cli.define_path('output', None, 'PNG file to write', required=True)
  flags.DEFINE_float('random_score', None, "a random policy's mean return, drawn as a line")
  flags.DEFINE_integer('window', 100, 'number of episodes in the moving average', lower_bound=1)


@cli.report_user_errors(OSError)
def main(argv: Sequence[str]) -> int:
  """Draws what the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  values = flags.FLAGS
  references = {} if values.random_score is None else {'random policy': values.random_score}
  draw(read_runs(values.logdirs), values.output, lambda level: references, values.window)
  return 0


if __name__ == '__main__':
  _define_flags()
  cli.run(main)
