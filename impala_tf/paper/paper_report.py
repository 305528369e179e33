"""What has run of the paper's experiments, as tables with the paper's numbers beside and pictures.

Writes report.md, and for each experiment of which something has run NAME.csv and its pictures;
suites write their own tables to a folder of the experiment's name. What has not run is blank, and
the scale is named.
"""

import os
import re
import subprocess
import sys

import numpy as np

from impala_tf import files, saved_config
from impala_tf.config import ConfigurationError
from impala_tf.evaluation import results
from impala_tf.paper import paper_experiments, paper_run
from impala_tf.pbt import lineage, member
from impala_tf.reports import pictures, scalars, tables
from impala_tf.sweeps import definition
from impala_tf.sweeps import report as sweep_report
from impala_tf.sweeps.study import Study

_SCORE = 'dmlab30/training_cap_100'


def write(logdir, output):
  """Writes the report's files.

  Args:
    logdir: folder of the experiments.
    output: folder, made if missing.

  Returns:
    The report's text.

  Raises:
    ConfigurationError: if nothing has run.
  """
  os.makedirs(output, exist_ok=True)
  sections = []
  for experiment in paper_experiments.EXPERIMENTS.values():
    if experiment.name == 'figureE1':
      experiment = paper_experiments.with_lags(experiment, _lags_in(logdir) or None)
    kinds = {paper_experiments.Throughput: _throughput, paper_experiments.Sweeps: _sweeps}
    section = kinds.get(type(experiment), _agents)(experiment, logdir, output)
    if section:
      sections.append(f'## {experiment.title}\n\n{section}')
  if not sections:
    raise ConfigurationError(
      f'Nothing of the paper has run in {logdir}. Run something first, or name another --logdir.'
    )
  text = '# Experiments of the paper\n\n' + '\n\n'.join(sections) + '\n'
  tables.write(output, {'report.md': text})
  return text


def _lags_in(logdir):
  """The policy lags with which something has run, whichever they are."""
  pattern = re.compile(paper_experiments.LAG_FOLDER)
  names = {name for _, folders, _ in os.walk(os.path.join(logdir, 'sweeps')) for name in folders}
  return sorted({int(found[1]) for found in map(pattern.match, names) if found})


def _throughput(experiment, logdir, output):
  found = {}
  for fake in (False, True):
    for level in _levels_in(os.path.join(logdir, 'rates_fake' if fake else 'rates'), experiment):
      label = f'{level}, zero-cost environment' if fake else level
      for method in experiment.methods:
        measured = files.read_json(paper_experiments.rate_file(logdir, level, method, fake))
        if measured:
          found.setdefault(label, {})[method.folder] = measured
  if not found:
    return None
  paper_columns = ['CPUs', 'GPUs', *experiment.levels]
  ours = {f'here: {label}': (label, _rate) for label in found}
  ours |= {f'here: {label}, CPU-seconds per 1000 frames': (label, _cost) for label in found}
  rows = [['architecture', *(f'paper: {column}' for column in paper_columns), *ours]]
  for method in (*experiment.methods, *paper_experiments.TABLE_1_ELSEWHERE):
    measured = [of(found[label].get(method.folder)) for label, of in ours.values()]
    rows.append(
      [method.label, *(_whole(method.paper.get(column)) for column in paper_columns), *measured]
    )
  tables.write(output, {f'{experiment.name}.csv': rows})
  machines = {
    f'{m["machine"]["cores"]} cores of {m["machine"]["processor"]}, TensorFlow {m["machine"]["tensorflow"]}'
    for of_level in found.values()
    for m in of_level.values()
  }
  return (
    f'{tables.markdown(rows)}\n\nFrames per second, here on {"; ".join(sorted(machines))}. The paper has other machines, and '
    'unless a column says the same level, other levels: compare the order, not the numbers.'
  )


def _sweeps(experiment, logdir, output):
  levels = _levels_in(os.path.join(logdir, 'sweeps'), experiment)
  rows = [
    ['method', 'with', 'level', 'paper', f'best {sweep_report.BEST}', 'all', 'trials', 'frames']
  ]
  images, scales, missing = [], set(), 0
  for level in levels:
    groups = {}
    for method in experiment.methods:
      folder = paper_experiments.sweep_folder(logdir, level, method)
      sweep = definition.load(folder) if os.path.isdir(folder) else None
      paper = method.paper.get(level)
      if sweep is None:
        missing += 1
        continue
      trials = Study(folder, sweep).trials()
      values = [trial.value for trial in sweep_report.ranked(trials)]
      frames = sweep.given['total_environment_frames']
      scales.add(frames / experiment.frames)
      rows.append(
        [
          method.label,
          method.group,
          level,
          paper,
          _mean(values[: sweep_report.BEST]),
          _mean(values),
          f'{len(values)} of {len(trials)}',
          f'{frames:_}',
        ]
      )
      if values:
        groups.setdefault(method.group, {})[method.label] = (folder, trials)
    for group, of_group in groups.items():
      name = '_'.join(
        [experiment.name, *level.strip('/').split('/'), *group.replace(',', '').split()]
      )
      sweep_report.draw_sorted(of_group, os.path.join(output, f'{name}_sorted.png'))
      sweep_report.draw_best(of_group, os.path.join(output, f'{name}_best.png'))
      for kind, what in (('best', 'curves of the best'), ('sorted', 'final returns by rank')):
        images.append(f'![{level}, {group}, {what}]({name}_{kind}.png)')
  if len(rows) == 1:
    return None
  tables.write(output, {f'{experiment.name}.csv': rows})
  scale = ', '.join(f'{scale:.3g}' for scale in sorted(scales))
  notes = (
    f"Scale {scale} of the {experiment.frames:_} frames of the authors' README; the paper's numbers are means of the best "
    f'{sweep_report.BEST} of {experiment.trials} trials.'
  )
  if missing:
    notes += f' {missing} of the methods and levels have not been run.'
  return '\n\n'.join([tables.markdown([map(tables.short, row) for row in rows]), notes, *images])


def _agents(experiment, logdir, output):
  if experiment.name == 'figure5':
    return _curves(experiment, logdir, output, over_hours=False)
  if experiment.name == 'figure6':
    return _curves(experiment, logdir, output, over_hours=True)
  evaluated = []
  for method in experiment.methods:
    folder = paper_run.evaluation_folder(
      paper_experiments.agents_folder(logdir, experiment, method), method
    )
    if os.path.exists(os.path.join(folder, results.FILE_NAME)):
      # Quoted, as labels have commas.
      evaluated.append(f'"{method.label}={folder}"')
  if not evaluated:
    return None
  folder = os.path.join(output, experiment.name)
  command = [
    sys.executable,
    '-m',
    f'{experiment.suite}.report',
    f'--evaluations={",".join(evaluated)}',
    f'--output={folder}',
  ]
  ran = subprocess.run(command, check=False, capture_output=True, text=True)
  if ran.returncode:
    raise ConfigurationError(
      f'{" ".join(command[1:])} failed:\n{ran.stderr.strip() or ran.stdout.strip()}'
    )
  frames = ', '.join(sorted({f'{frames:_}' for frames in _trained_frames(experiment, logdir)}))
  return (
    f'[Tables and pictures]({experiment.name}/report.md). Frames of a training here: {frames}; in '
    f'{experiment.source} {experiment.frames:_} for an agent of all levels, {experiment.expert_frames:_} for an expert.'
  )


def _trained_frames(experiment, logdir):
  for method in experiment.methods:
    for folder in _runs_below(paper_experiments.agents_folder(logdir, experiment, method)):
      yield saved_config.load(folder).total_environment_frames


def _runs_below(folder):
  """The folders of runs at any depth."""
  return [path for path, _, files in os.walk(folder) if saved_config.FILE_NAME in files]


def _history(folder, method):
  """The score of a method's best agent as `scalars.read` gives it; a population's through all
  members that had its weights.
  """
  if method.trainer == 'sweep':
    best = paper_run.best_run(folder, method)
    return [] if best is None else scalars.read(best, _SCORE)
  histories = member.read_histories(folder)
  best = lineage.best_member(histories)
  if best is None:
    return []
  scores = {
    name: scalars.read(path, _SCORE) for name, path in member.member_folders(folder).items()
  }
  end = scores[best][-1][0] if scores[best] else None
  return [
    (segment.trained(frames), hours, score)
    for segment in lineage.ancestry(histories, best, end)
    for frames, hours, score in scores.get(segment.member, [])
    if segment.start <= frames <= segment.end
  ]


def _curves(experiment, logdir, output, over_hours):
  """The score of the best agent of each method over frames, or over hours of training."""
  curves = {}
  for method in experiment.methods:
    folder = paper_experiments.agents_folder(logdir, experiment, method)
    if method.trainer != 'experts' and os.path.isdir(folder):
      points = _history(folder, method)
      if points:
        curves[method.label] = [
          (hours if over_hours else frames, score) for frames, hours, score in points
        ]
  if not curves:
    return None

  with pictures.picture(os.path.join(output, f'{experiment.name}.png')) as (axes,):
    for label, points in curves.items():
      axes.plot(*zip(*points, strict=True), label=label)
    axes.set_xlabel('hours' if over_hours else 'environment frames')
    axes.set_ylabel('mean capped human-normalised training score, %')
    axes.legend()
    axes.grid(alpha=0.3)

  rows = [['method', 'hours' if over_hours else 'frames', 'score']]
  rows += [[label, x, score] for label, points in curves.items() for x, score in points]
  tables.write(output, {f'{experiment.name}.csv': rows})
  return f'![{experiment.title}]({experiment.name}.png)'


def _levels_in(folder, experiment):
  """Levels of which something has run, those of the paper first."""
  found = []
  names = {method.folder for method in experiment.methods}
  for path, folders, names_here in os.walk(folder):
    if names & {*folders, *(name.removesuffix('.json') for name in names_here)}:
      found.append(os.path.relpath(path, folder))
    folders[:] = [name for name in folders if name not in names and not name.startswith('trial_')]
  order = {level: i for i, level in enumerate(experiment.levels)}
  return sorted(found, key=lambda level: (order.get(level, len(order)), level))


def _rate(measured):
  return None if measured is None else _whole(measured['results'][0]['frames_per_second'])


def _cost(measured):
  return (
    None if measured is None else f'{measured["results"][0]["cpu_seconds_per_1000_frames"]:.2f}'
  )


def _whole(number):
  return None if number is None else f'{number:,.0f}'


def _mean(values):
  return float(np.mean(values)) if values else None
