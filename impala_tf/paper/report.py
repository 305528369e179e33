"""Report of the paper's experiments: tables with the paper's numbers beside ours, and pictures.

The report has report.md, and for each experiment of which something has run NAME.csv and its
pictures; suites write their own tables to a folder of the experiment's name. What has not run is
blank, and the scale is named.
"""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
from absl import logging

from impala_tf import files, saved_config
from impala_tf.config import Config, ConfigurationError
from impala_tf.errors import FileError
from impala_tf.evaluation import results
from impala_tf.paper import experiments, rates, run
from impala_tf.paper.deviations import Deviations
from impala_tf.paper.histories import Histories
from impala_tf.paper.kinds import Agents, Experiment, Method, Sweeps, Throughput
from impala_tf.pbt import folder as pbt_folder
from impala_tf.reports import pictures, tables
from impala_tf.sweeps import definition
from impala_tf.sweeps import report as sweep_report
from impala_tf.sweeps.study import Study

_FAKE = ', zero-cost environment'
_FRAMES = 'total_environment_frames'


def write(logdir: str, output: str) -> str:
  """Writes the report's files and returns its text.

  Args:
    logdir: folder of the experiments.
    output: folder, made if missing.

  Raises:
    ConfigurationError: if nothing has run.
  """
  os.makedirs(output, exist_ok=True)
  sections, histories = [], Histories()
  for experiment in experiments.EXPERIMENTS.values():
    if experiment.name == 'figureE1':
      experiment = experiments.with_lags(experiment, _lags_in(logdir))
    text = _section(experiment, logdir, output, histories)
    if text:
      sections.append(f'## {experiment.title}\n\n{text}')

  if not sections:
    with contextlib.suppress(OSError):  # There is something else in it.
      os.rmdir(output)
    raise ConfigurationError(
      f'Nothing of the paper has run in {logdir}. Run something first, or name another --logdir.'
    )

  text = '# Experiments of the paper\n\n' + '\n\n'.join(sections) + '\n'
  tables.write(output, {'report.md': text})
  return text


def _lags_in(logdir: str) -> list[int] | None:
  """Returns the policy lags with which something has run; None if nothing has."""
  pattern = re.compile(experiments.LAG_FOLDER)
  names = {name for _, folders, _ in os.walk(os.path.join(logdir, 'sweeps')) for name in folders}
  return sorted({int(found[1]) for found in map(pattern.match, names) if found}) or None


def _section(experiment: Experiment, logdir: str, output: str, histories: Histories) -> str | None:
  """Writes the files of an experiment; returns its text, None if nothing of it has run."""
  match experiment:
    case Throughput():
      return _throughput(experiment, logdir, output)
    case Sweeps():
      return _sweeps(experiment, logdir, output)
    case Agents(name='figure5'):
      return _curves(experiment, logdir, output, histories, over_hours=False)
    case Agents(name='figure6'):
      return _curves(experiment, logdir, output, histories, over_hours=True)
    case Agents():
      return _agents(experiment, logdir, output)
  return None


def _throughput(experiment, logdir, output):
  found = {}
  for fake in (False, True):
    for level in _levels_in(os.path.join(logdir, 'rates_fake' if fake else 'rates'), experiment):
      label = level + _FAKE * fake
      for method in experiment.methods:
        rate = None
        with files.without_damage():
          rate = rates.read(experiments.rate_file(logdir, level, method, fake))
        if rate is not None:
          found.setdefault(label, {})[method.folder] = rate

  if not found:
    return None

  paper_columns = ['CPUs', 'GPUs', *experiment.levels]
  ours = {f'here: {label}': (label, _rate) for label in found}
  ours |= {f'here: {label}, CPU-seconds per 1000 frames': (label, _cost) for label in found}
  rows = [['architecture', *(f'paper: {column}' for column in paper_columns), *ours]]
  deviations = Deviations()
  for method in (*experiment.methods, *experiments.TABLE_1_ELSEWHERE):
    of_method = {label: rates.get(method.folder) for label, rates in found.items()}
    # Where there was a graphics card, rows without one stay blank, and the other way round.
    of_method = {label: m if m and _is_for(method, m) else None for label, m in of_method.items()}
    for label, m in of_method.items():
      if m:
        deviations.add(method, label.removesuffix(_FAKE), m.config)
    measured = [of(of_method[label]) for label, of in ours.values()]
    rows.append(
      [method.label, *(_whole(method.paper.get(column)) for column in paper_columns), *measured]
    )

  tables.write(output, {f'{experiment.name}.csv': rows})

  machines = {
    f'{rate.machine.cores} cores of {rate.machine.processor}, TensorFlow {rate.machine.tensorflow}'
    for of_level in found.values()
    for rate in of_level.values()
  }
  return (
    f'{tables.markdown(rows)}\n\nFrames per second, here on {"; ".join(sorted(machines))}. The '
    'paper has other machines, and unless a column says the same level, other levels: compare the '
    f'order, not the numbers. {deviations.text()}'
  )


def _is_for(method, rate):
  """Returns whether a rate was measured with a graphics card, if and only if the method has one."""
  return bool(rate.machine.gpus) == bool(method.paper['GPUs'])


def _rate(rate):
  return None if rate is None else _whole(rate.results[0].frames_per_second)


def _cost(rate):
  return None if rate is None else f'{rate.results[0].cpu_seconds_per_1000_frames:.2f}'


def _whole(number):
  return None if number is None else f'{number:,.0f}'


def _sweeps(experiment, logdir, output):
  best = sweep_report.BEST
  rows = [['method', 'with', 'level', 'paper', f'best {best}', 'all', 'trials', 'frames']]
  lines, scales, missing, deviations = [], set(), 0, Deviations()
  printed = [level for method in experiment.methods for level in method.paper]
  found = _levels_in(os.path.join(logdir, 'sweeps'), experiment)
  for level in dict.fromkeys(printed + found):
    groups = {}
    for method in experiment.methods:
      folder = experiments.sweep_folder(logdir, level, method)
      sweep, trials = _sweep_in(folder)
      if sweep is None:
        missing += 1
        if level in method.paper:
          rows.append([method.label, method.group, level, method.paper[level], *[None] * 4])
        continue

      values = [trial.value for trial in sweep_report.finished(trials)]
      frames = sweep.given[_FRAMES]
      scales.add(frames / experiment.frames)
      deviations.add_sweep(method, level, sweep)
      rows.append(
        [
          method.label,
          method.group,
          level,
          method.paper.get(level),
          _mean(values[:best]),
          _mean(values),
          f'{len(values)} of {len(trials)}',
          f'{frames:_}',
        ]
      )
      if values:
        groups.setdefault(method.group, {})[method.label] = (folder, trials)
    for group, of_group in groups.items():
      lines += _draw_sweeps(experiment, level, group, of_group, output)

  if not scales:
    return None

  tables.write(output, {f'{experiment.name}.csv': rows})
  scale = ', '.join(f'{scale:.3g}' for scale in sorted(scales))
  notes = (
    f"Scale {scale} of the {experiment.frames:_} frames of the authors' README; the paper's "
    f'numbers are means of the best {best} of {experiment.trials} trials.'
  )
  if missing:
    notes += f' {missing} of the methods and levels have not been run.'
  table = tables.markdown([map(tables.short, row) for row in rows])
  return '\n\n'.join([table, f'{notes} {deviations.text()}', *lines])


def _sweep_in(folder):
  """Returns the sweep in a folder and its trials; None twice if there is none, or with a warning if
  it is damaged.
  """
  with files.without_damage():
    sweep = definition.load(folder) if os.path.isdir(folder) else None
    if sweep is not None and _FRAMES not in sweep.given:
      raise FileError(os.path.join(folder, definition.FILE_NAME), 'is missing', field=_FRAMES)
    if sweep is not None:
      return sweep, Study(folder, sweep).trials()
  return None, None


def _draw_sweeps(experiment, level, group, sweeps, output):
  """Draws sweeps of one level; returns lines of Markdown that show the pictures."""
  # Levels of one's own have colons and dots, and what is behind a dot is taken for a kind of file.
  name = re.sub(r'[^\w-]+', '_', f'{experiment.name} {level} {group}'.strip())
  sweep_report.draw_sorted(sweeps, os.path.join(output, f'{name}_sorted.png'))
  sweep_report.draw_best(sweeps, os.path.join(output, f'{name}_best.png'))
  return [
    f'![{level}, {group}, curves of the best]({name}_best.png)',
    f'![{level}, {group}, final returns by rank]({name}_sorted.png)',
  ]


def _mean(values):
  return float(np.mean(values)) if values else None


def _levels_in(folder: str, experiment: Experiment) -> list[str]:
  """Returns the levels of which something has run, those of the paper first."""
  found = []
  names = {method.folder for method in experiment.methods}
  for path, folders, names_here in os.walk(folder):
    if names & {*folders, *(name.removesuffix('.json') for name in names_here)}:
      found.append(os.path.relpath(path, folder))
    folders[:] = [name for name in folders if name not in names and not name.startswith('trial_')]
  order = {level: i for i, level in enumerate(experiment.levels)}
  return sorted(found, key=lambda level: (order.get(level, len(order)), level))


def _agents(experiment, logdir, output):
  evaluated, frames = [], {}
  for method in experiment.methods:
    with files.without_damage():
      folder = run.evaluation_folder(experiments.agents_folder(logdir, experiment, method), method)
      if (found := results.load(folder)) is not None:
        frames[method.label] = {result.frames for result in found.levels.values()}
        evaluated.append(f'"{method.label}={folder}"')  # Quoted, as labels have commas.

  if not evaluated:
    return None

  command = [
    sys.executable,
    '-m',
    f'{experiment.suite}.report',
    f'--evaluations={",".join(evaluated)}',
    f'--output={os.path.join(output, experiment.name)}',
  ]
  ran = subprocess.run(command, check=False, capture_output=True, text=True)
  if ran.returncode:
    logging.warning('%s failed:\n%s', ' '.join(command[1:]), (ran.stderr or ran.stdout).strip())
    return None

  if ran.stderr.strip():
    logging.warning('%s', ran.stderr.strip())
  notes = _notes(experiment, logdir, frames)
  return f'[Tables and pictures]({experiment.name}/report.md). {notes}'


def _notes(experiment: Agents, logdir: str, frames: dict[str, set[int]]) -> str:
  """Returns what is other than in the paper.

  Args:
    experiment, logdir: as for `_agents`.
    frames: those that the shown agents were trained for, by the labels of methods.
  """
  deviations = Deviations()
  for method in experiment.methods:
    if method.label in frames:
      with files.without_damage():
        folder = experiments.agents_folder(logdir, experiment, method)
        _compare(experiment, method, folder, deviations)

  here = ', '.join(f'{number:_}' for number in sorted(set().union(*frames.values())))
  return (
    f'Frames of a training here: {here}; in {experiment.source} {experiment.frames:_} for an agent '
    f'of all levels, {experiment.expert_frames:_} for an expert. {deviations.text()}'
  )


def _compare(experiment: Agents, method: Method, folder: str, deviations: Deviations) -> None:
  """Compares the trainings of a method with the paper's."""
  if method.trainer == 'sweep':
    sweep, _ = _sweep_in(folder)
    if sweep is not None:
      deviations.add_sweep(method, experiment.suite, sweep)
    return

  for config in _configs_in(folder):
    if method.trainer == 'population':
      deviations.add_population(method, config, pbt_folder.read_population(folder))
    else:
      deviations.add(method, config.level_name, config)


def _configs_in(folder: str) -> Iterator[Config]:
  """Yields the configuration of each training in a folder."""
  for path in saved_config.runs_in([folder]):
    with files.without_damage():
      if (config := saved_config.load(path)) is not None:
        yield config


def _curves(experiment, logdir, output, histories, over_hours):
  """Draws the score of the best agent of each method over frames, or over hours of training."""
  axis = 'hours' if over_hours else 'frames'
  curves, trained = {}, {}
  for method in experiment.methods:
    folder = experiments.agents_folder(logdir, experiment, method)
    if os.path.isdir(folder):
      points = None
      with files.without_damage():
        points = histories.of(folder, method)
      if points:
        trained[method.label] = {points[-1][0]}
        curves[method.label] = [
          (hours if over_hours else frames, score) for frames, hours, score in points
        ]

  if not curves:
    return None

  with pictures.picture(os.path.join(output, f'{experiment.name}.png')) as (axes,):
    for label, points in curves.items():
      axes.plot(*zip(*points, strict=True), label=label)
    if over_hours:
      axes.set_xlabel('hours')
    else:
      pictures.show_frames(axes)
    axes.set_ylabel('mean capped human-normalised score, %')

  rows = [['method', axis, 'score']]
  rows += [[label, x, score] for label, points in curves.items() for x, score in points]
  tables.write(output, {f'{experiment.name}.csv': rows})
  notes = _notes(experiment, logdir, trained)
  return f'![{experiment.title}]({experiment.name}.png)\n\n{notes}'
