"""What came out of sweeps: final returns sorted from high to low (Figure 4, lower half), and the
best trials (upper half).

    python -m impala_tf.sweeps.sweep_report --logdirs=runs/pong_sweep,other=runs/pong_sweep_2
    --output=report

Sweeps over the same samples (same space, seed and number of trials) can be compared as in the
paper, each a line. Writes report.md, trials.csv, sorted_returns.png and best.png. The final return
is that of `final_return`.
"""

import contextlib
import os

import numpy as np
from absl import app, flags

from impala_tf import cli
from impala_tf.config import ConfigurationError
from impala_tf.reports import final_return, pictures, tables
from impala_tf.sweeps import sweep_worker

BEST = 3  # The paper's tables and curves are means of so many.
_POINTS = 200
_ENDED = ('finished', 'pruned')


def ranked(trials):
  """Those of a list of `study.Trial` that came to a final return, the best first."""
  return sorted(
    (trial for trial in trials if trial.state in _ENDED and trial.value is not None),
    key=lambda t: -t.value,
  )


def markdown(sweeps):
  """The report as text; `sweeps` is as for `write`."""
  parts = ['# Sweep' + 's' * (len(sweeps) > 1)]
  for label, (_, trials) in sweeps.items():
    best = ranked(trials)
    counts = ', '.join(
      f'{sum(t.state == state for t in trials)} {state}'
      for state in dict.fromkeys(t.state for t in trials)
    )
    parts.append(f'## {label}\n\n{len(trials)} trials: {counts}.')
    if best:
      top = [trial.value for trial in best[:BEST]]
      parts[-1] += (
        f' Best final return {top[0]:.4g}, mean of the best {len(top)} {np.mean(top):.4g}.'
      )
    names = list(trials[0].hyper_parameters)
    rows = [['rank', 'trial', 'final return', *names]]
    rows += [
      [str(i), t.name, f'{t.value:.4g}', *_cells(t, names)] for i, t in enumerate(best, start=1)
    ]
    rows += [['', t.name, t.state, *_cells(t, names)] for t in trials if t not in best]
    parts.append(tables.markdown(rows))
  return '\n\n'.join(parts) + '\n'


def draw_sorted(sweeps, output):
  """Draws final returns over their ranks, a line for each sweep, to a PNG; trials without one leave
  the line short.
  """
  with _axes(output) as axes:
    for label, (_, trials) in sweeps.items():
      values = [trial.value for trial in ranked(trials)]
      axes.plot(
        range(1, len(values) + 1),
        values,
        'o-',
        markersize=4,
        label=f'{label} ({len(values)} of {len(trials)} trials)',
      )
    axes.set_xlim(0.5, max(len(trials) for _, trials in sweeps.values()) + 0.5)
    axes.set_xlabel('hyper-parameter combination, by rank')
    axes.set_ylabel('final return')


def draw_best(sweeps, output):
  """Draws the mean learning curve of the best trials of each sweep to a PNG, in terms of the final
  return.
  """
  with _axes(output) as axes:
    for label, (logdir, trials) in sweeps.items():
      runs = [
        final_return.curve(os.path.join(logdir, trial.name)) for trial in ranked(trials)[:BEST]
      ]
      runs = [(f, values) for f, values in runs if len(f)]
      if runs:
        frames = np.linspace(max(f[0] for f, _ in runs), min(f[-1] for f, _ in runs), _POINTS)
        mean = np.mean([np.interp(frames, f, values) for f, values in runs], axis=0)
        axes.plot(frames, mean, label=f'{label}, mean of the best {len(runs)}')
    axes.set_xlabel('environment frames')
    axes.set_ylabel(
      f"return, mean of the last {final_return.WINDOW} episodes; or the suite's score"
    )


def write(sweeps, output):
  """Writes the report's files.

  Args:
    sweeps: dict from label to (folder of a sweep, its list of `study.Trial`).
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
  rows = [['sweep', 'trial', 'state', 'frames', 'final_return', *names]]
  for label, (logdir, trials) in sweeps.items():
    for trial in trials:
      frames = sweep_worker.frames_of(os.path.join(logdir, trial.name))
      values = [trial.hyper_parameters.get(name) for name in names]
      rows.append([label, trial.name, trial.state, frames, trial.value, *values])
  tables.write(output, {'report.md': text, 'trials.csv': rows})
  draw_sorted(sweeps, os.path.join(output, 'sorted_returns.png'))
  draw_best(sweeps, os.path.join(output, 'best.png'))
  return text


def _cells(trial, names):
  return [sweep_worker.describe(trial, name) for name in names]


@contextlib.contextmanager
def _axes(output):
  """Gives axes to draw lines on; finishes and saves the picture."""
  with pictures.picture(output) as (axes,):
    yield axes
    if axes.lines:
      axes.legend()
    axes.grid(alpha=0.3)


def read(texts):
  """The sweeps of a report.

  Args:
    texts: list of folders of sweeps, each with or without 'label=' before it. The default label is
      the folder's name.

  Returns:
    A dict as `write` takes it.

  Raises:
    ConfigurationError: if a folder has no sweep, or two have the same label.
  """
  from impala_tf.sweeps import command as sweeps

  read_sweeps = {}
  for text in texts:
    label, path = cli.split_label(text, cli.last_part)
    if label in read_sweeps:
      raise ConfigurationError(
        f"Two sweeps are called {label!r}: put another 'label=' before {path}."
      )
    sweep = sweeps.load(path)
    if sweep is None:
      raise ConfigurationError(f'No sweep in {path}: it has no {sweeps.FILE_NAME}.')
    read_sweeps[label] = (path, sweeps.open_study(path, sweep)[0].trials())
  return read_sweeps


@cli.report_user_errors(OSError)
def _main(argv):
  cli.no_positional_arguments(argv)
  print(write(read(flags.FLAGS.logdirs), flags.FLAGS.output), end='')
  return 0


if __name__ == '__main__':
  flags.DEFINE_list(
    'logdirs',
    None,
    "folders of sweeps, separated by commas; 'label=' may precede each",
    required=True,
  )
  flags.DEFINE_string('output', None, 'folder to write to', required=True)
  app.run(_main)
