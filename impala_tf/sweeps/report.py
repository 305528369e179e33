"""Reports on sweeps: final returns sorted from high to low (Figure 4, lower half), and the learning
curves of the best trials (upper half).

Sweeps over the same samples (same space, seed and number of trials) can be compared as in the
paper, each a line. A report is report.md, trials.csv, sorted_returns.png and best.png. The final
return is that of `final_return`.
"""

import operator
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from impala_tf import cli, files
from impala_tf.config import ConfigurationError
from impala_tf.reports import final_return, pictures, statistics, tables
from impala_tf.sweeps import definition
from impala_tf.sweeps.study import Study, Trial
from impala_tf.training import episode_log

BEST = 3  # The paper's tables and curves are means of so many.
_WITH_RETURN = ('finished', 'pruned')

Sweeps = Mapping[str, tuple[str, Sequence[Trial]]]


def frames_of(logdir: str) -> int | None:
  """Returns the frames after which the last episode of a run ended; None, with a warning, if the
  file that says it is damaged.
  """
  with files.without_damage():
    rows = episode_log.read_last(logdir, 1)
    return rows[-1].frames if rows else 0
  return None


def return_of(logdir: str) -> float | None:
  """Returns the final return of a run so far; None if there is none yet, or with a warning if a
  file of the run is damaged.
  """
  with files.without_damage():
    return final_return.read(logdir)
  return None


def value_of(trial: Trial, name: str) -> str:
  """Returns a hyper-parameter of a trial as text that fits in a table."""
  value = trial.hyper_parameters[name]
  return 'none' if value is None else tables.short(value)


def status(logdir: str, trials: Sequence[Trial]) -> str:
  """Returns a table of a sweep's trials: state, frames, return so far or in the end, values."""
  names = list(trials[0].hyper_parameters)
  rows = [('trial', 'state', 'frames', 'return', *names)]
  for trial in trials:
    folder = os.path.join(logdir, trial.name)
    value = trial.value if trial.value is not None else return_of(folder)
    frames = frames_of(folder)
    so_far = (
      'damaged' if frames is None else f'{frames:_}',
      '' if value is None else f'{value:.4g}',
    )
    rows.append((trial.name, trial.state, *so_far, *_values_of(trial, names)))

  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  lines = [
    '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for row in rows
  ]
  failures = [f'{trial.name} failed: {trial.message}' for trial in trials if trial.message]
  return '\n'.join(lines + failures)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
  """Returns the trials that have a return, the best first, and after those that have finished the
  pruned ones, whose return is not a final one.
  """
  with_return = [t for t in trials if t.state in _WITH_RETURN and t.value is not None]
  with_return.sort(key=operator.attrgetter('value'), reverse=True)
  return sorted(with_return, key=lambda trial: _WITH_RETURN.index(trial.state))


def finished(trials: Sequence[Trial]) -> list[Trial]:
  """Returns the trials that came to a final return, the best first."""
  return [trial for trial in ranked(trials) if trial.state == 'finished']


def markdown(sweeps: Sweeps) -> str:
  """Returns the report as text; `sweeps` is as for `write`."""
  parts = ['# Sweeps' if len(sweeps) > 1 else '# Sweep']
  for label, (_, trials) in sweeps.items():
    with_return, best = ranked(trials), finished(trials)
    counts = ', '.join(
      f'{sum(t.state == state for t in trials)} {state}'
      for state in dict.fromkeys(t.state for t in trials)
    )
    parts.append(f'## {label}\n\n{len(trials)} trials: {counts}.')
    if best:
      top = [trial.value for trial in best[:BEST] if trial.value is not None]
      parts[-1] += (
        f' Best final return {top[0]:.4g}, mean of the best {len(top)} {np.mean(top):.4g}.'
      )
    names = list(trials[0].hyper_parameters)
    rows = [['rank', 'trial', 'final return', *names]]
    rows += [
      [
        str(i),
        t.name,
        f'{t.value:.4g}' + ' (pruned)' * (t.state == 'pruned'),
        *_values_of(t, names),
      ]
      for i, t in enumerate(with_return, start=1)
    ]
    rows += [['', t.name, t.state, *_values_of(t, names)] for t in trials if t not in with_return]
    parts.append(tables.markdown(rows))

  return '\n\n'.join(parts) + '\n'


def draw_sorted(sweeps: Sweeps, output: str) -> None:
  """Draws final returns over their ranks, a line for each sweep, to a PNG; trials without one leave
  the line short.
  """
  with pictures.picture(output) as (axes,):
    for label, (_, trials) in sweeps.items():
      values = [trial.value for trial in finished(trials) if trial.value is not None]
      axes.plot(
        range(1, len(values) + 1),
        values,
        'o-',
        markersize=4,
        label=f'{label} ({len(values)} of {len(trials)} trials)',
      )
    axes.set_xlim(0.5, max(len(trials) for _, trials in sweeps.values()) + 0.5)
    axes.set_xlabel('hyper-parameter combination, by rank')
    pictures.show_ranks(axes)
    axes.set_ylabel('final return')


def draw_best(sweeps: Sweeps, output: str) -> None:
  """Draws the mean learning curve of the best trials of each sweep to a PNG, in terms of the final
  return.
  """
  with pictures.picture(output) as (axes,):
    for label, (logdir, trials) in sweeps.items():
      best = [_curve_of(os.path.join(logdir, trial.name)) for trial in finished(trials)[:BEST]]
      runs = [(frames, values) for frames, values in best if len(frames)]
      if runs:
        frames = statistics.common_frames(f for f, _ in runs)
        mean = np.mean([np.interp(frames, f, values) for f, values in runs], axis=0)
        axes.plot(frames, mean, label=f'{label}, mean of the best {len(runs)}')
    pictures.show_frames(axes)
    axes.set_ylabel('final return, so far')


def _curve_of(logdir):
  """Returns the curve of a trial; an empty one, with a warning, if its files are damaged."""
  with files.without_damage():
    return final_return.curve(logdir)
  return np.array([]), np.array([])


def write(sweeps: Sweeps, output: str) -> str:
  """Writes the report's files.

  Args:
    sweeps: from labels to pairs of a sweep's folder and its trials.
    output: folder, made if missing.

  Returns:
    The report's text.
  """
  text = markdown(sweeps)
  names = list(
    dict.fromkeys(
      name for _, trials in sweeps.values() for trial in trials for name in trial.hyper_parameters
    )
  )
  rows: list[list[Any]] = [['sweep', 'trial', 'state', 'frames', 'final_return', *names]]
  for label, (logdir, trials) in sweeps.items():
    for trial in trials:
      frames = frames_of(os.path.join(logdir, trial.name))
      values = [trial.hyper_parameters.get(name) for name in names]
      rows.append([label, trial.name, trial.state, frames, trial.value, *values])

  tables.write(output, {'report.md': text, 'trials.csv': rows})
  draw_sorted(sweeps, os.path.join(output, 'sorted_returns.png'))
  draw_best(sweeps, os.path.join(output, 'best.png'))
  return text


def _values_of(trial, names):
  return [value_of(trial, name) for name in names]


def read(texts: Sequence[str]) -> Sweeps:
  """Reads the sweeps of a report.

  Args:
    texts: folders of sweeps, each with or without 'label=' before it. The default label is the
      folder's name.

  Returns:
    Sweeps as `write` takes them.

  Raises:
    ConfigurationError: if a folder has no sweep, two have the same label, or all are damaged; of
      several sweeps, those that are damaged are left out with a warning.
  """
  folders: dict[str, str] = {}
  for text in texts:
    label, path = cli.split_label(text, cli.last_part)
    if label in folders:
      raise ConfigurationError(
        f"Two sweeps are called {label!r}: put another 'label=' before {path}."
      )
    folders[label] = path
  return dict(files.sound_ones(_read_one, folders.items()))


def _read_one(label_and_path):
  label, path = label_and_path
  sweep = definition.load(path)
  if sweep is None:
    raise ConfigurationError(f'No sweep in {path}: it has no {definition.FILE_NAME}.')
  return label, (path, Study(path, sweep).trials())
