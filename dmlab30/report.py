"""Tables 3 and B.1 of the paper with the results of evaluations beside them.

    python -m dmlab30.report --evaluations=runs/dmlab30/evaluation --output=report
    python -m dmlab30.report --output=report \\
      --evaluations='multi-task=runs/dmlab30/evaluation,experts=evaluations/experts'

Several evaluations with one label make one column. Those of other levels complement each other,
such as those of 30 experts; those of the same levels are seeds, whose scores are averaged, and from
which an interval follows. What was not evaluated stays blank.

Writes report.md, table_3.csv, statistics.csv, table_b1.csv and scores.png.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np
from absl import flags

from dmlab30 import levels
from impala_tf import cli
from impala_tf.evaluation.results import RANDOM, load_labelled
from impala_tf.reports import bars, tables
from impala_tf.reports.statistics import CONFIDENCE, interval, mean

Row = list[str | float | None]  # Of a table; None is a blank cell.

# Table 3, percent. The agents of `impala_tf` are among the rows; those that are not keep their own.
_TABLE_3 = {
  'A3C, deep': 23.8,
  'IMPALA, shallow': 37.1,
  'IMPALA-Experts, deep': 44.5,
  'IMPALA, deep': 46.5,
  'IMPALA, deep, PBT': 49.4,
  'IMPALA, deep, PBT, 8 learners': 49.1,
}

_EXPERTS, _IMPALA = 'paper: IMPALA-Experts, deep', 'paper: IMPALA, deep, PBT'
_SCORE_ROWS = {
  'paper': 'mean capped human-normalised score, %',
  'code': "the same by the code's lasertag references, %",
}


@dataclasses.dataclass(frozen=True)
class Column:
  """Results of one agent, or of one set of experts.

  Attributes:
    label: heading of the column.
    kind: row of Table 3 that it stands in.
    means: mean returns by test name, one for each seed; levels that were not evaluated are not in
      it.
  """

  label: str
  kind: str
  means: dict[str, list[float]]

  def mean(self, name: str) -> float | None:
    """Returns the mean over seeds of a level's mean return, None if it was not evaluated."""
    return float(np.mean(self.means[name])) if name in self.means else None

  def capped(self, references: str = 'paper') -> list[np.ndarray] | None:
    """Returns human-normalised scores in percent, each capped at 100, an array over seeds for each
    of the 30 levels; None unless all were evaluated.
    """
    if any(level.test_name not in self.means for level in levels.all_levels()):
      return None
    scores = [
      [level.human_normalised(mean, references) for mean in self.means[level.test_name]]
      for level in levels.all_levels()
    ]
    return [np.minimum(of_level, 100) for of_level in scores]

  def score(self, references: str = 'paper') -> float | None:
    """Returns the suite's mean capped human-normalised score in percent, None unless all levels
    were evaluated.
    """
    scores = self.capped(references)
    return None if scores is None else float(mean(*scores))


def read_columns(evaluations: Sequence[str]) -> tuple[list[Column], dict[str, Mapping]]:
  """Reads evaluations.

  Args:
    evaluations: see `results.load_labelled`.

  Returns:
    The columns, and by label which agents played by which protocol.

  Raises:
    ConfigurationError: as for `results.load_labelled`.
  """
  by_label = load_labelled(evaluations)
  columns = [Column(label, _kind(label, found), found.means()) for label, found in by_label.items()]
  return columns, {label: found.description() for label, found in by_label.items()}


def _kind(label, found):
  """Returns the row of Table 3 for an evaluation: the one that its label names, or that of its
  agent.
  """
  if label in _TABLE_3:
    return label

  agents = {
    (
      r.method or 'IMPALA',
      r.trained_on == levels.SUITE,
      r.agent,
      r.is_of_population,
      r.num_learners,
    )
    for results in found.levels.values()
    for r in results
  }
  if len(agents) != 1:
    return label
  ((method, is_multi_task, agent, is_of_population, num_learners),) = agents
  if agent == RANDOM:
    return 'random policy'
  kind = f'{method}{"" if is_multi_task else "-Experts"}, {agent}{", PBT" * is_of_population}'
  return kind if num_learners == 1 else f'{kind}, {num_learners} learners'


def table_3(columns: Sequence[Column]) -> list[Row]:
  """Returns Table 3, the header first."""
  rows: list[Row] = [['agent', 'paper', *(column.label for column in columns)]]
  for kind in dict.fromkeys([*_TABLE_3, *(column.kind for column in columns)]):
    scores = [column.score() if column.kind == kind else None for column in columns]
    rows.append([kind, _TABLE_3.get(kind), *scores])
  return rows


def statistics_table(columns: Sequence[Column]) -> list[Row]:
  """Returns the score of Table 3 with its interval: the header, and a row for each agent with all
  levels.
  """
  rows: list[Row] = [['agent', 'seeds', 'mean capped', 'low', 'high']]
  for column in columns:
    scores = column.capped()
    if scores is not None:
      seeds = str(min(map(len, scores)))
      rows.append([column.label, seeds, column.score(), *(interval(mean, scores) or (None, None))])
  return rows


def table_b1(columns: Sequence[Column]) -> list[Row]:
  """Returns Table B.1, the header first."""
  columns = [*_paper_columns(), *columns]
  rows: list[Row] = [['level', 'human', 'random', *(column.label for column in columns)]]
  for level in levels.all_levels():
    means = [column.mean(level.test_name) for column in columns]
    rows.append([level.test_name, level.human_paper, level.random_paper, *means])
  for references, name in _SCORE_ROWS.items():
    rows.append([name, None, None, *(column.score(references) for column in columns)])
  return rows


def _paper_columns():
  by_level = lambda field: {
    level.test_name: [getattr(level, field)] for level in levels.all_levels()
  }
  return [
    Column(_EXPERTS, 'IMPALA-Experts, deep', by_level('paper_experts')),
    Column(_IMPALA, 'IMPALA, deep, PBT', by_level('paper_impala')),
  ]


def markdown(columns: Sequence[Column], protocols: Mapping[str, Mapping]) -> str:
  """Returns the whole report as text."""
  parts = [
    '# DMLab-30',
    '## Mean capped human-normalised score on the test levels, % (Table 3)',
    tables.markdown(table_3(columns)),
  ]

  incomplete = [
    f'- {column.label}: {len(_evaluated(column))} of 30 levels are evaluated, so it has no score.'
    for column in columns
    if len(_evaluated(column)) < len(levels.all_levels())
  ]
  if incomplete:
    parts.append('\n'.join(incomplete))

  parts += [
    tables.markdown(statistics_table(columns)),
    f'Low and high are a {100 * CONFIDENCE:.0f}% bootstrap interval over seeds, resampled within '
    'each level; blank for one seed.',
    '## Mean return by level (Table B.1)',
    tables.markdown(table_b1(columns)),
    "Human and random scores are paired with the lasertag levels as in the paper's Table B.1, "
    "whose columns average to the scores it reports only that way; the authors' code has those of "
    'small and large maps exchanged.',
  ]

  names = {name for column in columns for name in column.means}
  foreign = sorted(name for name in names if levels.get(name) is None)
  if foreign:
    rows: list[Row] = [['level', *(column.label for column in columns)]]
    rows += [[name, *(column.mean(name) for column in columns)] for name in foreign]
    parts += ['## Mean return on other levels', tables.markdown(rows)]

  if protocols:
    parts += ['## How the evaluations were made', tables.markdown(tables.side_by_side(protocols))]
  return '\n\n'.join(parts) + '\n'


def _evaluated(column):
  return [level for level in levels.all_levels() if level.test_name in column.means]


def draw(columns: Sequence[Column], output: str) -> None:
  """Draws the human-normalised score of each level as bars (Figure B.1); a level not evaluated has
  none.

  Args:
    columns: drawn beside the paper's.
    output: PNG file to write.
  """
  bars_of = {}
  for column in [*_paper_columns(), *columns]:
    score = column.score()
    label = column.label if score is None else f'{column.label} ({score:.1f}%)'
    bars_of[label] = {
      level.test_name: level.human_normalised(column.mean(level.test_name))
      for level in _evaluated(column)
    }

  bars.draw(
    [level.test_name for level in levels.all_levels()],
    bars_of,
    output,
    label='human-normalised mean return, %; in brackets the mean capped at 100 for each level',
  )


def write(evaluations: Sequence[str], output: str) -> str:
  """Reads evaluations (see `read_columns`) and writes the report's files to a folder, made if
  missing; returns its text.
  """
  columns, protocols = read_columns(evaluations)
  text = markdown(columns, protocols)
  tables.write(
    output,
    {
      'report.md': text,
      'table_3.csv': table_3(columns),
      'statistics.csv': statistics_table(columns),
      'table_b1.csv': table_b1(columns),
    },
  )
  draw(columns, os.path.join(output, 'scores.png'))
  return text


def define_flags() -> None:
  """Defines the flags of the command."""
  cli.define_paths(
    'evaluations',
    [],
    "folders with results of dmlab30.evaluate, separated by commas; 'label=' may precede each",
  )
  cli.define_path('output', None, 'folder to write to', required=True)


@cli.report_user_errors(OSError)
def main(argv: Sequence[str]) -> int:
  """Reports as the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  print(write(flags.FLAGS.evaluations, flags.FLAGS.output), end='')
  return 0


if __name__ == '__main__':
  define_flags()
  cli.run(main)
