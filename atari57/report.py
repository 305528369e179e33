"""Table 4 and Table C.1 of the paper with the results of evaluations beside them.

    python -m atari57.report --evaluations=runs/atari57/evaluation --output=report
    python -m atari57.report --output=report --runs=runs/pong,runs/qbert \\
      --evaluations='experts=evaluations/seed_1,experts=evaluations/seed_2,multi-task=runs/atari57/evaluation'

Several evaluations with one label make one column. Those of other games complement each other, such
as those of 57 experts; those of the same games are seeds, whose means are averaged, and from which
intervals follow. What was not evaluated stays blank.

Writes report.md, table_4.csv, statistics.csv, table_c1.csv and scores.png; curves.png if there are
runs; and random.csv if the random policy was evaluated.
"""

import dataclasses
import os
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from absl import flags

from atari57 import games
from impala_tf import cli, curves
from impala_tf.config import ConfigurationError
from impala_tf.evaluation.results import RANDOM, Labelled, LevelResult, load_labelled
from impala_tf.reports import bars, tables
from impala_tf.reports.statistics import CONFIDENCE, interquartile_mean, interval, mean, median

Row = list[str | float | None]  # Of a table; None is a blank cell.

_RANDOM_KIND = 'random policy'

# Table 4, median and mean in percent. A3C's medians are the commonly quoted ones: the copy of the
# paper at hand lacks them.
_TABLE_4 = {
  'A3C, shallow, experts': (54.9, 285.9),
  'A3C, deep, experts': (117.9, 503.6),
  'Reactor, experts': (187.0, None),
  'IMPALA, shallow, experts': (93.2, 466.4),
  'IMPALA, deep, experts': (191.8, 957.6),
  'IMPALA, deep, multi-task': (59.7, 176.9),
}

# Table C.1, by fields of `games.Game`.
_TABLE_C1 = {
  'acktr': 'paper: ACKTR',
  'reactor': 'paper: Reactor',
  'impala_deep_multitask': 'paper: IMPALA, deep, multi-task',
  'impala_shallow_experts': 'paper: IMPALA, shallow, experts',
  'impala_deep_experts': 'paper: IMPALA, deep, experts',
}


@dataclasses.dataclass(frozen=True)
class Column:
  """Results of one agent, or of one set of experts.

  Attributes:
    label: heading of the column.
    kind: row of Table 4 that it stands in.
    means: mean returns by game, one for each seed; games that were not evaluated are not in it.
  """

  label: str
  kind: str
  means: dict[str, list[float]]

  def mean(self, game: str) -> float | None:
    """Returns the mean over seeds of a game's mean return, None if it was not evaluated."""
    return float(np.mean(self.means[game])) if game in self.means else None

  def is_complete(self) -> bool:
    """Returns whether all 57 games were evaluated."""
    return all(game.name in self.means for game in games.all_games())

  def normalised(self, *, paper_implied: bool = False) -> list[np.ndarray] | None:
    """Returns human-normalised scores in percent, an array over seeds for each of the 57 games;
    None unless all were evaluated.
    """
    if not self.is_complete():
      return None
    scores = [(game, self.means[game.name]) for game in games.all_games()]
    return [
      np.array([game.human_normalised(mean, paper_implied=paper_implied) for mean in means])
      for game, means in scores
    ]


def read_columns(evaluations: Sequence[str]) -> tuple[list[Column], dict[str, Labelled]]:
  """Reads evaluations.

  Args:
    evaluations: see `results.load_labelled`.

  Returns:
    The columns, and what was read by label.

  Raises:
    ConfigurationError: as for `results.load_labelled`, or if a level is not an Atari game.
  """
  by_label = load_labelled(evaluations)
  for label, found in by_label.items():
    foreign = sorted(found.levels.keys() - {game.name for game in games.all_games()})
    if foreign:
      raise ConfigurationError(
        f'{foreign[0]}, in the evaluation {label!r}, is not one of the 57 Atari games.'
      )

  columns = [Column(label, _kind(label, found), found.means()) for label, found in by_label.items()]
  return columns, by_label


def _kind(label, found):
  """Returns the row of Table 4 for an evaluation: the one that its label names, or that of its
  agent.
  """
  if label in _TABLE_4:
    return label

  agents = {
    (r.method or 'IMPALA', r.agent, len(games.names_in(r.trained_on)) > 1)
    for results in found.levels.values()
    for r in results
  }
  if len(agents) != 1:
    return label
  ((method, agent, is_multi_task),) = agents
  if agent == RANDOM:
    return _RANDOM_KIND
  return f'{method}, {agent}, {"multi-task" if is_multi_task else "experts"}'


def table_4(columns: Sequence[Column]) -> list[Row]:
  """Returns Table 4, the header first; ours by the references that the paper's means imply."""
  header: Row = ['agent', 'paper, median', 'paper, mean']
  for column in columns:
    header += [f'{column.label}, median', f'{column.label}, mean']
  rows = [header]

  for kind in dict.fromkeys([*_TABLE_4, *(column.kind for column in columns)]):
    row: Row = [kind, *_TABLE_4.get(kind, (None, None))]
    for column in columns:
      scores = column.normalised(paper_implied=True) if column.kind == kind else None
      row += [None, None] if scores is None else [float(median(*scores)), float(mean(*scores))]
    rows.append(row)

  return rows


def statistics_table(columns: Sequence[Column]) -> list[Row]:
  """Returns statistics of the human-normalised score by both conventions: the header, and a row for
  each agent with all games, the paper's first.
  """
  names = {'median': median, 'mean': mean, 'interquartile mean': interquartile_mean}
  header: Row = ['agent', 'references', 'seeds']
  for name in names:
    header += [name, f'{name}, low', f'{name}, high']
  rows = [header]

  for column in [*_paper_columns(), *columns]:
    for references, paper_implied in (('standard', False), ("implied by the paper's means", True)):
      scores = column.normalised(paper_implied=paper_implied)
      if scores is None:
        continue
      row: Row = [column.label, references, str(min(map(len, scores)))]
      for statistic in names.values():
        row += [float(statistic(*scores)), *(interval(statistic, scores) or (None, None))]
      rows.append(row)

  return rows


def table_c1(columns: Sequence[Column]) -> list[Row]:
  """Returns Table C.1, the header first."""
  columns = [*_paper_columns(), *columns]
  rows: list[Row] = [['game', 'random', 'human', *(column.label for column in columns)]]
  for game in games.all_games():
    rows.append(
      [game.name, game.random, game.human, *(column.mean(game.name) for column in columns)]
    )

  for name, statistic, paper_implied in (
    ('human-normalised median, %', median, False),
    ('human-normalised mean, %', mean, False),
    ("the same by the references that the paper's means imply, %", mean, True),
  ):
    scores = [column.normalised(paper_implied=paper_implied) for column in columns]
    rows.append([name, None, None, *(None if s is None else float(statistic(*s)) for s in scores)])

  return rows


def _paper_columns():
  columns = []
  for field, label in _TABLE_C1.items():
    scores = {game.name: getattr(game, field) for game in games.all_games()}
    means = {name: [score] for name, score in scores.items() if score is not None}
    columns.append(Column(label, label.removeprefix('paper: '), means))
  return columns


def random_table(results: Mapping[str, Sequence[LevelResult]]) -> list[Row]:
  """Returns the random policy's scores beside the references, the header first, then those that
  differ most.

  Args:
    results: by game, of which the first one counts.
  """
  apart = {}
  rows: dict[str, Row] = {}
  for game in games.all_games():
    if game.name not in results:
      continue
    first = results[game.name][0]
    ours, n = first.mean(), len(first.returns)
    error = statistics.stdev(first.returns) / n**0.5 if n > 1 else None
    errors_apart = (ours - game.random) / error if error else None
    normalised, length = game.human_normalised(ours), float(np.mean(first.episode_frames))
    apart[game.name] = -abs(normalised)
    rows[game.name] = [game.name, ours, error, game.random, errors_apart, normalised, length]

  header: Row = ['game', 'mean return', 'standard error', 'reference', 'standard errors apart']
  header += ['human-normalised, %', 'frames a game']
  return [header, *(rows[name] for name in sorted(rows, key=lambda name: apart[name]))]


def markdown(columns: Sequence[Column], by_label: Mapping[str, Labelled]) -> str:
  """Returns the whole report as text."""
  parts = [
    '# Atari-57',
    '## Human-normalised score, % (Table 4)',
    tables.markdown(table_4(columns)),
    "By the references that the paper's means imply: video_pinball's random score 0.0 and pong's "
    "human score 9.3 instead of 16256.9 and 14.6. The paper's medians are the same by both.",
  ]

  incomplete = [
    f'- {column.label}: {len(column.means)} of 57 games are evaluated, so it has no score.'
    for column in columns
    if not column.is_complete()
  ]
  if incomplete:
    parts.append('\n'.join(incomplete))

  parts += [
    '## Median, mean and interquartile mean, %',
    tables.markdown(statistics_table(columns)),
    f'Low and high are a {100 * CONFIDENCE:.0f}% bootstrap interval over seeds, resampled within '
    'each game; blank for one seed.',
    '## Mean return by game (Table C.1)',
    tables.markdown(table_c1(columns)),
  ]
  for label, table in _random_tables(columns, by_label).items():
    parts += [f'## {label}: the random policy beside the references', tables.markdown(table)]
  if by_label:
    protocols = {label: found.description() for label, found in by_label.items()}
    parts += ['## How the evaluations were made', tables.markdown(tables.side_by_side(protocols))]
  return '\n\n'.join(parts) + '\n'


def _random_tables(columns, by_label):
  return {
    column.label: random_table(by_label[column.label].levels)
    for column in columns
    if column.kind == _RANDOM_KIND
  }


def draw(columns: Sequence[Column], output: str) -> None:
  """Draws the human-normalised score of each game as bars; a game not evaluated has none.

  Args:
    columns: drawn beside IMPALA's of the paper.
    output: PNG file to write.
  """
  papers = [column for column in _paper_columns() if column.kind.startswith('IMPALA')]
  bars_of = {}
  for column in [*papers, *columns]:
    scores = column.normalised()
    label = column.label if scores is None else f'{column.label} (median {median(*scores):.1f}%)'
    bars_of[label] = {
      game.name: game.human_normalised(column.mean(game.name))
      for game in games.all_games()
      if game.name in column.means
    }

  names = [game.name for game in games.all_games()]
  bars.draw(names, bars_of, output, label='human-normalised mean return, %', symlog=100)


def write(evaluations: Sequence[str], output: str, runs: Sequence[str] = ()) -> str:
  """Writes the report's files to a folder, made if missing; returns its text.

  Args:
    evaluations: see `results.load_labelled`.
    output: the folder.
    runs: see `curves.read_runs`; their learning curves are drawn.

  Raises:
    ConfigurationError: if evaluations or runs are missing or can't be read, or evaluations do not
      fit together.
  """
  columns, by_label = read_columns(evaluations)
  episodes = curves.read_runs(runs)

  text = markdown(columns, by_label)
  files: dict[str, str | list[Row]] = {
    'report.md': text,
    'table_4.csv': table_4(columns),
    'statistics.csv': statistics_table(columns),
    'table_c1.csv': table_c1(columns),
  }
  random = _random_tables(columns, by_label)
  if random:
    header = next(iter(random.values()))[0]
    files['random.csv'] = [
      ['evaluation', *header],
      *([label, *row] for label, rows in random.items() for row in rows[1:]),
    ]
  tables.write(output, files)

  draw(columns, os.path.join(output, 'scores.png'))
  if episodes:
    curves.draw(episodes, os.path.join(output, 'curves.png'), _references)
  return text


def _references(level):
  game = games.find(level)
  return {'random': game.random, 'human': game.human}


def define_flags() -> None:
  """Defines the flags of the command."""
  cli.define_paths(
    'evaluations',
    [],
    "folders with results of atari57.evaluate, separated by commas; 'label=' may precede each",
  )
  cli.define_paths(
    'runs',
    [],
    "folders of runs whose learning curves to draw, separated by commas; 'label=' may precede each",
  )
  cli.define_path('output', None, 'folder to write to', required=True)


@cli.report_user_errors(OSError)
def main(argv: Sequence[str]) -> int:
  """Reports as the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  print(write(flags.FLAGS.evaluations, flags.FLAGS.output, flags.FLAGS.runs), end='')
  return 0


if __name__ == '__main__':
  define_flags()
  cli.run(main)
