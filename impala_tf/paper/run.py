"""Runs the paper's experiments: as commands, one after the other, each of which can be resumed.

What has finished is not done again, and what fails does not keep the rest from running.
"""

import dataclasses
import functools
import os
import shlex
import sys
from collections.abc import Iterator

from impala_tf import cli, errors, saved_config
from impala_tf.cli import config_flags
from impala_tf.cluster import trainer
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.paper import experiments, rates
from impala_tf.paper.kinds import Agents, Experiment, Method, Sweeps, Throughput
from impala_tf.paper.settings import PaperSettings
from impala_tf.pbt import folder as pbt_folder
from impala_tf.pbt import lineage
from impala_tf.pbt.rules import Rules
from impala_tf.reports import live
from impala_tf.sweeps import definition
from impala_tf.sweeps import report as sweep_report
from impala_tf.sweeps.study import Study
from impala_tf.system import machine, processes, signals

EVALUATION = 'evaluation'  # Folder of an agent's, beside its runs.
_MOST_NAMED = 5  # runs in a message


@dataclasses.dataclass
class Command:
  """A part of an experiment.

  Attributes:
    module: what runs, as for `processes.Child`.
    arguments: of it.
    logdir: folder of the run if it is a single one, to whose log its output goes.
    code: its exit code once it has run; None before, and where commands are only listed.
  """

  module: str
  arguments: list[str]
  logdir: str | None = None
  code: int | None = None

  def __str__(self) -> str:
    logdir = [f'--logdir={self.logdir}'] if self.logdir else []
    return shlex.join(['python', '-m', *shlex.split(self.module), *self.arguments, *logdir])

  def start(self) -> processes.Child:
    """Starts the command."""
    if self.logdir:
      return processes.RunProcess(self.module, self.arguments, self.logdir)
    return processes.Child(self.module, self.arguments)


def run(experiment: Experiment, logdir: str, settings: PaperSettings) -> int:
  """Runs an experiment, or resumes it.

  Args:
    experiment: what to run.
    logdir: folder of all experiments, made if missing.
    settings: how to run it.

  Returns:
    0; 1 if something failed; or the exit code that says which signal ended it early.

  Raises:
    ConfigurationError: if the settings are refused.
  """
  failed = False
  lines = live.LiveLines()
  with signals.Stop() as stop, processes.Supervisor(stop, show=lines.print) as children:
    for command in commands(experiment, logdir, settings):
      lines.print(str(command))
      name = command.module.split()[0]
      children.start(name, command.start)
      # What else is run shows how far it is by itself.
      runs = {name: command.logdir} if command.logdir else {}
      ended = next(children.ends(watch=functools.partial(lines.show, runs)), None)
      if ended is None:  # A signal came.
        break
      command.code = 1 if ended.code is None else ended.code
      if command.code:
        failed = True
        print(ended, file=sys.stderr, flush=True)

  return stop.exit_code or int(failed)


def commands(experiment: Experiment, logdir: str, settings: PaperSettings) -> Iterator[Command]:
  """Yields what is to be run for an experiment, in order.

  Some commands follow from what those before have left, and from their `code`, if it is set before
  the next one is asked for. Lines of comment are printed between them.

  Raises:
    ConfigurationError: before the first one, if the settings are refused.
  """
  cli.check_local(logdir)
  settings.check(experiment)
  match experiment:
    case Throughput():
      yield from _throughput(experiment, logdir, settings)
    case Sweeps():
      yield from _sweeps(experiment, logdir, settings)
    case Agents():
      yield from _agents(experiment, logdir, settings)


def _throughput(experiment, logdir, settings):
  missing, has_card = [], bool(machine.graphics_cards())
  for level in settings.levels or experiment.levels:
    for method in experiment.methods:
      if bool(method.paper['GPUs']) != has_card:
        elsewhere = 'with CUDA_VISIBLE_DEVICES= in front' if has_card else 'there'
        _say(
          f'{method.label} on {level} is left out: its row is for a machine '
          f'{"without" if has_card else "with"} a graphics card. Run the command {elsewhere}.'
        )
        continue
      output = experiments.rate_file(logdir, level, method, settings.fake_environment)
      given = settings.hyper_parameters(method) | {'level_name': level}
      if os.path.exists(output):
        _check_measured(output, given)
        _say(f'{method.label} on {level} was measured before: {output}')
      else:
        missing.append((output, given))

  for output, given in missing:
    arguments = ['train', *config_flags.arguments(given)]
    if settings.fake_environment:
      arguments.append('--fake_environment')
    yield Command('impala_tf.benchmark', [*arguments, *settings.benchmark, f'--output={output}'])


def _check_measured(path, given):
  """Refuses a rate that was measured with other hyper-parameters than the given ones."""
  now = dataclasses.asdict(suites.resolve(**given)[1])
  then = rates.read(path).config
  different = [
    f'{name}: {then.get(name)} there, {now[name]} now'
    for name in now
    if then.get(name) != now[name]
  ]
  if different:
    raise ConfigurationError(
      f'{path} was measured with other settings ({"; ".join(different)}). Remove it to measure '
      'again, or give another --logdir.'
    )


def _sweeps(experiment, logdir, settings):
  frames = experiments.scaled(experiment.frames, settings.scale)
  for level in settings.levels or experiment.levels:
    for method in experiment.methods:
      _say(f'{experiment.name}: {method.label} ({method.group or "all"}) on {level}')
      folder = experiments.sweep_folder(logdir, level, method)
      yield _sweep(method, level, frames, folder, settings)


def _sweep(method, level, frames, folder, settings):
  return Command(
    'impala_tf.sweeps',
    [
      *settings.arguments(method, level, frames),
      f'--num_trials={settings.trials}',
      f'--sweep_seed={settings.sweep_seed}',
      f'--parallel={settings.parallel}',
      *_shared(method, settings),
      f'--logdir={folder}',
    ],
  )


def _population(method, level, frames, folder, settings):
  # A shorter training has as many evaluations as one of the paper's length.
  rules = Rules()
  scaled = [
    f'--{name}={experiments.scaled(getattr(rules, name), settings.scale)}'
    for name in ('burn_in_frames', 'episodes')
  ]
  if settings.time_slice is not None:
    scaled.append(f'--time_slice={settings.time_slice}')
  return Command(
    'impala_tf.pbt',
    [
      *settings.arguments(method, level, frames),
      f'--population={settings.trials}',
      f'--population_seed={settings.sweep_seed}',
      *scaled,
      *_shared(method, settings),
      f'--logdir={folder}',
    ],
  )


def _shared(method, settings):
  """Returns flags that sweeps and populations have in common."""
  cluster = settings.cluster_of(method)
  return [
    *(f'--space={name}={distribution}' for name, distribution in (settings.space or {}).items()),
    *([f'--cluster={cluster}'] if cluster else []),
  ]


def _agents(experiment, logdir, settings):
  for method in experiment.methods:
    _say(f'{experiment.name}: {method.label}')
    if reason := settings.left_out(experiment, method):
      _say(f'Left out, as {reason}.')
      continue
    folder = experiments.agents_folder(logdir, experiment, method)
    trainings = list(_trainings(experiment, method, folder, settings))
    yield from trainings

    try:
      runs = folder if method.trainer == 'experts' else best_run(folder, method)
    except errors.FileError as error:
      _say(f'{method.label} is not evaluated: {error}')
      continue
    if runs is None:
      _say(f'{method.label} is not evaluated: no run in {folder} has come far enough.')
    elif unfinished := _unfinished(method, trainings, runs):
      # An evaluation keeps what it has found, and would refuse the same levels' agents of a later
      # training; the best member of a population may be one that has not come to its end.
      names = errors.listed(unfinished, _MOST_NAMED)
      _say(f'{method.label} is not evaluated before these are complete: {names}')
    else:
      yield _evaluation(experiment, runs, evaluation_folder(folder, method), settings)


def _unfinished(method, trainings, runs):
  """Returns the runs whose agents would be evaluated and have not come to their end, as far as
  those trainings are concerned that did not just end well.
  """
  open_ones = [training for training in trainings if training.code != 0]
  if method.trainer == 'sweep' or not open_ones:  # The best trial of a sweep has finished.
    return []
  of_agents = [runs] if method.trainer == 'population' else [run.logdir for run in open_ones]
  return [logdir for logdir in of_agents if not _is_complete(logdir)]


def _is_complete(logdir):
  """Returns whether the newest checkpoint of a run has all of its frames."""
  from impala_tf.training import checkpoints  # It loads TensorFlow.

  try:
    config = saved_config.load(logdir)
    return config is not None and checkpoints.frames_in(logdir) >= config.total_environment_frames
  except errors.UserError:
    return False


def _trainings(experiment, method, folder, settings):
  frames = experiments.scaled(experiment.frames, settings.scale)
  if method.trainer == 'sweep':
    yield _sweep(method, experiment.suite, frames, folder, settings)
  elif method.trainer == 'population':
    yield _population(method, experiment.suite, frames, folder, settings)
  else:
    frames = experiments.scaled(experiment.expert_frames, settings.scale)
    module = trainer.module(settings.cluster_of(method))
    for level in settings.levels_of(experiment, method):
      # Just below the folder, where an evaluation looks for runs.
      run_folder = os.path.join(folder, level.strip('/').replace('/', '_'))
      yield Command(module, settings.arguments(method, level, frames), run_folder)


def _evaluation(experiment, logdir, output, settings):
  arguments = [f'--logdir={logdir}', f'--output={output}']
  if settings.levels:  # Others in the folder may still be in training, here or on another machine.
    arguments.append(f'--levels={",".join(settings.levels)}')
  if settings.episodes is not None:
    arguments.append(f'--episodes={settings.episodes}')
  return Command(f'{experiment.suite}.evaluate', arguments)


def evaluation_folder(folder: str, method: Method) -> str:
  """Returns where the evaluation of a method's agents is: of a sweep or a population, that of the
  agent which is best now.
  """
  best = None if method.trainer == 'experts' else best_run(folder, method)
  return os.path.join(folder, EVALUATION, *([os.path.basename(best)] if best else []))


def best_run(folder: str, method: Method) -> str | None:
  """Returns the folder of the best agent of a sweep or a population, None while it has none."""
  if not os.path.isdir(folder):
    return None
  if method.trainer == 'population':
    best = lineage.best_member(pbt_folder.read_histories(folder))
  else:
    sweep = definition.load(folder)
    ended = [] if sweep is None else sweep_report.finished(Study(folder, sweep).trials())
    best = ended[0].name if ended else None
  return None if best is None else os.path.join(folder, best)


def _say(text):
  """Prints a line that a shell passes over."""
  print(f'# {text}', flush=True)
