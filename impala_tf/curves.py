"""Learning curves from the episodes of runs, as a picture.

    python -m impala_tf.curves --logdirs=runs/pong --output=pong.png --random_score=-20.7
    python -m impala_tf.curves --logdirs=runs/pong_seeds --output=pong.png
    python -m impala_tf.curves --logdirs=ours=runs/a,ours=runs/b,other=runs/c --output=both.png
    python -m impala_tf.curves --logdirs=runs/experts --normalised --output=experts.png

Runs with one label are seeds, and so are all runs in a folder of runs, such as that of a sweep.
Their curves are the interquartile mean over seeds, with a band of 95 % by a bootstrap that
resamples seeds within each level. --normalised draws one curve over all levels, in the score of
their suite.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from absl import flags

from impala_tf import cli, files, saved_config
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.reports import final_return, pictures, statistics
from impala_tf.training import episode_log
from impala_tf.training.episodes import WINDOW

# Frames and returns of a level's episodes: int64 and float64 [episodes].
Episodes = tuple[np.ndarray, np.ndarray]
# Episodes by level, of each run of a label.
Runs = Sequence[Mapping[str, Episodes]]


def read_runs(texts: Sequence[str]) -> dict[str, list[dict[str, Episodes]]]:
  """Reads the episodes of several runs.

  Args:
    texts: folders of runs or of such folders, or episodes.csv files, each with or without 'label='
      before it. The default label is the folder's name.

  Returns:
    By label, what `read_episodes` gives for each of its runs.

  Raises:
    ConfigurationError: if one has no episodes, two have the same label by default, or all are
      damaged; of several runs, those that are damaged are left out with a warning.
  """
  folders: list[tuple[str, str]] = []
  for text in texts:
    label, path = cli.split_label(text, cli.last_part)
    if path == text and any(label == other for other, _ in folders):
      raise ConfigurationError(
        f"Two runs are called {label!r}: put 'label=' before {path}, the label of the other one if "
        'they are seeds.'
      )
    folders += [(label, folder) for folder in saved_config.runs_in([path])]

  runs: dict[str, list[dict[str, Episodes]]] = {}
  for label, run in files.sound_ones(lambda one: (one[0], read_episodes(one[1])), folders):
    runs.setdefault(label, []).append(run)
  return runs


def read_episodes(path: str) -> dict[str, Episodes]:
  """Reads frames and returns of a run's episodes, by level.

  Args:
    path: folder of a run, or an episodes.csv.

  Raises:
    FileError: if the file is damaged.
    ConfigurationError: if there are no episodes; names the file.
  """
  folder = os.path.dirname(path) if os.path.basename(path) == episode_log.FILE_NAME else path
  rows = episode_log.read(folder)
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
  runs: Mapping[str, Runs],
  output: str,
  references: Callable[[str], Mapping[str, float]],
  window: int = WINDOW,
) -> None:
  """Draws the curves, a panel for each level.

  Args:
    runs: by label, as from `read_runs`.
    output: PNG file to write.
    references: gives scores of a level by their labels, to be drawn as dashed lines.
    window: episodes in the moving average.
  """
  levels = list(dict.fromkeys(level for some in runs.values() for run in some for level in run))
  columns = min(len(levels), 4)
  rows = math.ceil(len(levels) / columns)
  size = (8, 4.5) if len(levels) == 1 else (5 * columns, 3 * rows)

  with pictures.picture(output, rows=rows, columns=columns, size=size) as panels:
    for axes in panels[len(levels) :]:
      axes.remove()
    for axes, level in zip(panels, levels, strict=False):
      for label, some in runs.items():
        episodes = [run[level] for run in some if level in run]
        if len(episodes) == 1:
          _draw_run(axes, label, *episodes[0], window)
        elif episodes:
          _draw_seeds(axes, label, [episodes], window)
      pictures.draw_references(axes, references(level))
      axes.set_title(level)
      pictures.show_scores(axes.yaxis)
      pictures.show_frames(axes)
    # Once for all panels, which may be lower than it is long.
    panels[0].figure.supylabel(f'mean return of the last {window} episodes', fontsize='medium')


def draw_normalised(runs: Mapping[str, Runs], output: str, window: int = WINDOW) -> None:
  """Draws one curve for each label, over all levels and seeds, in the first score of the levels'
  suites that is on a common scale.

  Args:
    runs, output, window: as for `draw`.

  Raises:
    ConfigurationError: if the suite of a level has no such score.
  """
  names = set()
  with pictures.picture(output) as (axes,):
    for label, some in runs.items():
      levels: dict[str, list[Episodes]] = {}
      for run in some:
        for level, (frames, returns) in run.items():
          name, score = _score(level)
          names.add(name)
          scores = np.array([score(value) for value in returns])
          levels.setdefault(level, []).append((frames, scores))
      _draw_seeds(axes, f'{label}, {len(levels)} levels', list(levels.values()), window)
    axes.set_ylabel(' and '.join(sorted(names)))
    pictures.show_frames(axes)


def _score(level):
  """Returns name and function of the score of a level's mean return."""
  suite = suites.find(level)
  if not suite.score_columns():
    raise ConfigurationError(
      f'{level} has no score on a common scale with other levels. Leave --normalised out.'
    )
  name, function = next(iter(suite.score_columns().items()))
  result_name = suite.result_name(level)
  if function(result_name, 0.0) == '':
    raise ConfigurationError(
      f'{level} has no references, so no score on a common scale. Leave --normalised out.'
    )
  return name.replace('_', ' '), lambda mean: float(function(result_name, mean))


def _draw_run(axes, label, frames, returns, window):
  (line,) = axes.plot(frames, final_return.moving_average(returns, window), label=label)
  axes.plot(frames, returns, '.', markersize=2, alpha=0.25, color=line.get_color())


def _draw_seeds(axes, label, levels, window):
  """Draws the interquartile mean over levels and seeds, and its band.

  Args:
    levels: for each, the `Episodes` of its seeds.
  """
  points = statistics.common_frames(frames for seeds in levels for frames, _ in seeds)
  if points[0] >= points[-1]:
    raise ConfigurationError(
      f'The runs called {label!r} have no frames in common: the episodes of one end before those '
      'of another begin. Give them labels of their own.'
    )

  # [points, seeds] of each level.
  scores = [
    np.stack(
      [np.interp(points, f, final_return.moving_average(r, window)) for f, r in seeds], axis=-1
    )
    for seeds in levels
  ]
  mean = statistics.interquartile_mean(*scores)
  count = max(len(seeds) for seeds in levels)
  seeds = f'{count} seed{"s" if count > 1 else ""}'
  # Which leaves none of fewer than four out.
  kind = 'interquartile mean' if sum(map(len, levels)) >= 4 else 'mean'
  (line,) = axes.plot(points, mean, label=f'{label}, {kind} of {seeds}')
  band = statistics.band(statistics.interquartile_mean, scores)
  if band is not None:
    axes.fill_between(points, *band, color=line.get_color(), alpha=0.2, linewidth=0)


def _define_flags() -> None:
  cli.define_paths(
    'logdirs',
    None,
    'folders of runs or of such folders, or episodes.csv files, separated by commas; '
    "'label=' may precede each, and runs with one label are seeds",
    required=True,
  )
  cli.define_path('output', None, 'PNG file to write', required=True)
  flags.DEFINE_float('random_score', None, "a random policy's mean return, drawn as a line")
  flags.DEFINE_integer('window', WINDOW, 'number of episodes in the moving average', lower_bound=1)
  flags.DEFINE_boolean(
    'normalised', False, 'draw one curve over all levels, in the score of their suite'
  )


@cli.report_user_errors(OSError)
def main(argv: Sequence[str]) -> int:
  """Draws what the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  values = flags.FLAGS
  if not values.logdirs:
    raise ConfigurationError('--logdirs is empty: name the folders of runs.')
  runs = read_runs(values.logdirs)
  if values.normalised:
    draw_normalised(runs, values.output, values.window)
    return 0
  references = {} if values.random_score is None else {'random policy': values.random_score}
  draw(runs, values.output, lambda level: references, values.window)
  return 0


if __name__ == '__main__':
  _define_flags()
  cli.run(main)
