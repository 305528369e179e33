"""What a policy lag costs: return over frames of small tasks, with the lag made by the number of
environments, with V-trace and without correction.

    PYTHONPATH=. python results/policy_lag.py --logdir=runs/policy_lag --output=results/policy_lag

It trains what is missing in the folder by `run_experiment.py`, one run after the other, and writes
table and figure of what is there. All runs are alike but for their environments, correction and
seed.
"""

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from absl import app, flags

from impala_tf import cli, saved_config
from impala_tf.config import sizes
from impala_tf.reports import pictures, scalars, tables
from impala_tf.training import episode_log

BATCH = 8
ACTORS = 4
# Environments divided by the batch size; the law adds one.
RATIOS = (1, 4, 16, 64)
CORRECTIONS = {'vtrace': 'V-trace', 'none': 'no correction'}
SEEDS = (1, 2, 3)
FRAMES = {'tests.support.catch:catch': 100_000, 'gymnasium:CartPole-v1': 200_000}
# CartPole as it was before it had a preset of its own.
GIVEN = {
  'gymnasium:CartPole-v1': [
    '--learning_rate=0.001',
    '--reward_clipping=abs_one',
    '--reward_scale=1',
    '--noscale_numbers',
  ]
}
QUARTERS = 4
WINDOWS = 25  # points of a curve

_LOGDIR = flags.DEFINE_string('logdir', None, 'folder of the runs', required=True)
_OUTPUT = flags.DEFINE_string('output', None, 'folder for table and figure', required=True)
_REPORT = flags.DEFINE_boolean('report_only', False, 'whether to train nothing')


class Run(NamedTuple):
  """A training; its environments are `ratio` times the batch size."""

  level: str
  ratio: int
  correction: str
  seed: int

  @property
  def folder(self) -> str:
    """Folder of the run."""
    name = f'{self.correction}_{self.ratio}_seed_{self.seed}'
    return os.path.join(_LOGDIR.value, self.level.rpartition(':')[2], name)

  @property
  def flags(self) -> list[str]:
    """Flags of `run_experiment.py`."""
    return [
      f'--level_name={self.level}',
      f'--batch_size={BATCH}',
      f'--num_actors={ACTORS}',
      f'--envs_per_actor={self.ratio * BATCH // ACTORS}',
      '--processes_per_actor=1',
      f'--correction={self.correction}',
      f'--seed={self.seed}',
      f'--total_environment_frames={FRAMES[self.level]}',
      '--summary_interval=1',
      *GIVEN.get(self.level, []),
      f'--logdir={self.folder}',
    ]


def runs() -> Iterator[Run]:
  """Yields all of them, the seeds one after the other."""
  for seed in SEEDS:
    for level in FRAMES:
      for ratio in RATIOS:
        for correction in CORRECTIONS:
          yield Run(level, ratio, correction, seed)


def _command(arguments: Sequence[str]) -> str:
  """Runs `run_experiment.py`; returns what it printed."""
  command = [sys.executable, 'run_experiment.py', *arguments]
  print(' '.join(command[1:]), flush=True)
  return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _random_return(level: str) -> float:
  """Returns the mean return of the random policy over 3,000 episodes, which are played once."""
  path = os.path.join(_LOGDIR.value, level.rpartition(':')[2], 'random.txt')
  if not os.path.exists(path):
    flags_of_test = ['--mode=test', '--random_policy', '--test_num_episodes=3000']
    printed = _command([f'--level_name={level}', '--envs_per_actor=10', *flags_of_test])
    with open(path, 'w') as file:
      file.write(printed)
  with open(path) as file:
    return float(re.search(r'mean return (\S+)', file.read())[1])


def _curve(run: Run) -> list[float | None]:
  """Returns the mean return of the episodes that ended in each window of the run's frames."""
  rows = episode_log.read(run.folder)
  frames = np.array([row.frames for row in rows])
  returns = np.array([row.episode_return for row in rows])
  ends = np.linspace(0, FRAMES[run.level], WINDOWS + 1)
  windows = [returns[(frames > low) & (frames <= high)] for low, high in itertools.pairwise(ends)]
  return [round(float(np.mean(window)), 3) if len(window) else None for window in windows]


def _lag(run: Run) -> float:
  """Returns the mean policy lag of the second half of a run."""
  points = scalars.read(run.folder, 'learner/lag_mean')
  return float(np.mean([p.value for p in points if p.frames > FRAMES[run.level] / 2]))


def _is_done(run):
  if not os.path.exists(os.path.join(run.folder, saved_config.FILE_NAME)):
    return False
  last = [p.frames for p in scalars.read(run.folder, 'learner/lag_mean')]
  return bool(last) and max(last) >= FRAMES[run.level]


def report(done: Sequence[Run]) -> None:
  """Writes curves.csv, table.md and policy_lag.png."""
  curves = {run: _curve(run) for run in done}
  lags = {run: _lag(run) for run in done}
  randoms = {level: _random_return(level) for level in FRAMES}
  header = ['task', 'environments', 'lag by the law', 'lag measured', 'correction', 'seed']
  frames = [round((i + 1) / WINDOWS, 2) for i in range(WINDOWS)]
  rows = [[*header, *frames]]
  for run, curve in curves.items():
    rows.append([*_labels(run), round(lags[run], 2), run.correction, run.seed, *curve])
  tables.write(_OUTPUT.value, {'curves.csv': rows})

  columns = [f'return, {part}/{QUARTERS} of the frames' for part in range(1, QUARTERS + 1)]
  short = [['task', *header[1:5], 'seeds', *columns]]
  for level in FRAMES:
    for ratio in RATIOS:
      for correction, label in CORRECTIONS.items():
        seeds = [r for r in done if (r.level, r.ratio, r.correction) == (level, ratio, correction)]
        if seeds:
          lag = f'{np.mean([lags[r] for r in seeds]):.1f}'
          means = [_quarters(curves[r]) for r in seeds]
          cells = [_mean_and_range([m[i] for m in means]) for i in range(QUARTERS)]
          short.append([*_labels(seeds[0]), lag, label, str(len(seeds)), *cells])
  notes = [
    f'{level.rpartition(":")[2]}: {FRAMES[level]:_} frames; the random policy has {value:.2f}.'
    for level, value in randoms.items()
  ]
  tables.write(_OUTPUT.value, {'table.md': '\n'.join([tables.markdown(short), '', *notes, ''])})
  _draw(curves, randoms)


def _labels(run):
  return [run.level.rpartition(':')[2], str(run.ratio * BATCH), _law(run.ratio)]


def _law(ratio):
  return f'{sizes.expected_lag(ratio * BATCH, BATCH):.0f}'


def _quarters(curve):
  """Mean returns of the quarters of a run."""
  known = [np.nan if value is None else value for value in curve]
  return [float(np.nanmean(part)) for part in np.array_split(known, QUARTERS)]


def _mean_and_range(values):
  return f'{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f})'


def _draw(curves, randoms):
  path = os.path.join(_OUTPUT.value, 'policy_lag.png')
  with pictures.picture(path, rows=2, columns=2, size=(11, 7)) as panels:
    places = [(level, correction) for level in FRAMES for correction in CORRECTIONS]
    for axes, (level, correction) in zip(panels, places, strict=True):
      x = FRAMES[level] * (np.arange(WINDOWS) + 0.5) / WINDOWS
      for ratio in RATIOS:
        of_ratio = [
          r for r in curves if (r.level, r.ratio, r.correction) == (level, ratio, correction)
        ]
        if of_ratio:
          y = np.array([[np.nan if v is None else v for v in curves[r]] for r in of_ratio])
          label = f'{ratio * BATCH} environments, lag {_law(ratio)}'
          (line,) = axes.plot(x, y.mean(0), label=label)
          axes.fill_between(x, y.min(0), y.max(0), alpha=0.2, color=line.get_color())
      axes.axhline(randoms[level], linestyle='--', color='gray', label='random policy')
      axes.set_title(f'{level.rpartition(":")[2]}, {CORRECTIONS[correction]}')
      axes.set_ylabel('return: mean and range of seeds')
      pictures.show_frames(axes)
    # Both corrections of a task have the same scale.
    for left, right in zip(panels[::2], panels[1::2], strict=True):
      right.sharey(left)
      left.autoscale(axis='y')


@cli.report_user_errors()
def main(argv: Sequence[str]) -> int:
  """Trains and reports; returns the exit code."""
  cli.no_positional_arguments(argv)
  for run in runs():
    if not (_REPORT.value or _is_done(run)):
      _command(run.flags)
  report([run for run in runs() if _is_done(run)])
  return 0


if __name__ == '__main__':
  app.run(main)
