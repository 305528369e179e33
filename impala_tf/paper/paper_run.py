"""Runs the experiments of `paper_experiments`, each from the commands that there are for its parts.

All of them go on where they were ended: what is finished is not done again.
"""

import dataclasses
import functools
import os
import shlex
import sys
from typing import Any

from impala_tf import cli, config_flags, files, machine, processes, signals
from impala_tf.cluster import roles
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.paper import paper_experiments
from impala_tf.pbt import lineage, member
from impala_tf.pbt.population import Population
from impala_tf.pbt.rules import Rules
from impala_tf.sweeps import definition, search_space, worker
from impala_tf.sweeps import report as sweep_report
from impala_tf.sweeps.definition import Sweep
from impala_tf.sweeps.study import Study

EVALUATION = 'evaluation'  # Folder of an agent's, beside its runs.


@dataclasses.dataclass(frozen=True)
class Settings:
  """How an experiment is run.

  scale: share of the paper's frames.
  levels: names in place of the experiment's own, None for those.
  trials: samples, or members of a population.
  space: distributions by field, as texts; None for the paper's Table D.1.
  sweep_seed: of the samples.
  given: dict of further hyper-parameters.
  parallel: trials at a time.
  episodes: of an evaluation, None for the paper's.
  benchmark: further arguments of the benchmark.
  fake_environment: whether throughput is that of environments that cost nothing.
  runner: the module that trains, as after `python -m`.
  time_slice: seconds that each member of a population trains in turn, None for all side by side.
  cluster: how many actor processes of this machine each training has, or the 'host:port' at which
    its learner waits for actors; None for a training in one process.
  """

  scale: float = 1.0
  levels: tuple[str, ...] | None = None
  trials: int = 24
  space: dict[str, str] | None = None
  sweep_seed: int = 1
  given: dict[str, Any] = dataclasses.field(default_factory=dict)
  parallel: int = 1
  episodes: int | None = None
  benchmark: tuple[str, ...] = ()
  fake_environment: bool = False
  runner: str = processes.RUN_EXPERIMENT
  time_slice: float | None = None
  cluster: int | str | None = None

  def hyper_parameters(self, method):
    """What is given to the runs of a method, a dict."""
    return method.hyper_parameters(self.given, machine.cores())

  def runner_of(self, method):
    """What trains a method, as for `processes.Child`."""
    if not self._is_cluster(method):
      return self.runner
    if isinstance(self.cluster, int):
      return (
        f'impala_tf.launch --num_actor_processes={self.cluster} --runner={shlex.quote(self.runner)}'
      )
    return f'{self.runner} --job_name=learner --learner_address={self.cluster}'

  def _is_cluster(self, method):
    return self.cluster is not None and self._has_cluster_form(method)

  def _has_cluster_form(self, method):
    return self.hyper_parameters(method).get('architecture', 'impala') == 'impala'

  def has_one_address(self):
    """Whether no two trainings can run at a time, as their learners would listen at the same
    address.
    """
    return isinstance(self.cluster, str)

  def left_out(self, method):
    """Why a method of `paper_experiments.Agents` is not run, a text after 'as'; None if it is."""
    if method.trainer == 'experts':
      return None
    if self.levels:
      return f'it is one agent for all levels, and --levels={",".join(self.levels)} was given'
    if method.trainer == 'population' and self.has_one_address() and self.time_slice is None:
      return f'members train side by side, and at --cluster={self.cluster} is room for one learner; let them take --time_slice'
    return None

  def _levels(self, experiment, method):
    """The levels of a method's runs, of which the suite's name stands for all of its own."""
    if not isinstance(experiment, paper_experiments.Agents):
      return self.levels or experiment.levels
    if method.trainer == 'experts':
      return self.levels or _levels_of(experiment.suite)
    return () if self.left_out(method) else (experiment.suite,)

  def check(self, experiment):
    """Refuses what a part of an experiment would refuse after others had run, and a cluster where
    there is no use for it.
    """
    if self.cluster is not None and isinstance(experiment, paper_experiments.Throughput):
      raise ConfigurationError(
        f'--cluster={self.cluster}: {experiment.name} measures what one machine does. Leave --cluster out; '
        '`python -m impala_tf.benchmark cluster` measures the way between processes.'
      )
    for method in experiment.methods:
      given = self.hyper_parameters(method)
      if method.trainer == 'population' and not self.left_out(method):
        Population(given=given, space=self.space or search_space.as_texts(search_space.TABLE_D1))
      for level in (
        self._levels(experiment, method) if self.runner == processes.RUN_EXPERIMENT else ()
      ):
        # They load TensorFlow: not before --help.
        from impala_tf.cluster import learner
        from impala_tf.training import loop

        source = learner.ClusterSource if self._is_cluster(method) else None
        loop.check(*suites.resolve(**given | {'level_name': level}), source)
    if self.cluster is None:
      return
    alone = [method.label for method in experiment.methods if not self._has_cluster_form(method)]
    if len(alone) == len(experiment.methods):
      raise ConfigurationError(
        f'--cluster={self.cluster}: all methods of {experiment.name} keep actors and learner in step in one process. '
        'Leave --cluster out.'
      )
    if self.has_one_address():
      roles.host_and_port(self.cluster, flag='--cluster')
      if self.parallel > 1:
        raise ConfigurationError(
          f'--parallel={self.parallel}: at --cluster={self.cluster} there is room for one learner at a time. Leave --parallel '
          'out, or say by --cluster=N how many actor processes of this machine each training has.'
        )
    if alone:
      print(
        f'On this machine alone, as they have no form for a cluster: {"; ".join(alone)}.',
        flush=True,
      )


def run(experiment, logdir, settings):
  """Runs an experiment, or goes on with it.

  Args:
    experiment: `paper_experiments.Experiment`.
    logdir: folder of all experiments, made if missing.
    settings: Settings.

  Returns:
    0; 1 if something failed; or the exit code that tells which signal ended it early.

  Raises:
    ConfigurationError: if what is in the folder has other settings, or these are refused.
  """
  cli.check_local(logdir)
  settings.check(experiment)
  kinds = {paper_experiments.Throughput: _run_throughput, paper_experiments.Sweeps: _run_sweeps}
  worst = 0
  for code in kinds.get(type(experiment), _run_agents)(experiment, logdir, settings):
    if processes.ended_by_signal(code):
      return code
    worst = max(worst, code)
  return worst


def _run_throughput(experiment, logdir, settings):
  for level in settings.levels or experiment.levels:
    for method in experiment.methods:
      output = paper_experiments.rate_file(logdir, level, method, settings.fake_environment)
      given = settings.hyper_parameters(method) | {'level_name': level}
      if os.path.exists(output):
        _check_measured(output, given)
        print(f'{method.label} on {level} was measured before: {output}', flush=True)
        continue
      os.makedirs(os.path.dirname(output), exist_ok=True)
      arguments = config_flags.arguments(given)
      arguments += ['--fake_environment'] * settings.fake_environment
      yield _call(
        'impala_tf.benchmark', 'train', *arguments, *settings.benchmark, f'--output={output}'
      )


def _check_measured(path, given):
  """Refuses a rate that was measured with other hyper-parameters than the given ones."""
  now = dataclasses.asdict(suites.resolve(**given)[1])
  then = files.read_json(path)['config']
  different = [
    f'{name}: {then.get(name)} there, {now[name]} now'
    for name in now
    if then.get(name) != now[name]
  ]
  if different:
    raise ConfigurationError(
      f'{path} was measured with other settings ({"; ".join(different)}). Remove it to measure anew, or give another --logdir.'
    )


def _run_sweeps(experiment, logdir, settings):
  for level in settings.levels or experiment.levels:
    for method in experiment.methods:
      frames = paper_experiments.scaled(experiment.frames, settings.scale)
      given = settings.hyper_parameters(method) | {
        'level_name': level,
        'total_environment_frames': frames,
      }
      print(f'{experiment.name}: {method.label} ({method.group or "all"}) on {level}', flush=True)
      yield _sweep(paper_experiments.sweep_folder(logdir, level, method), method, given, settings)


def _sweep(folder, method, given, settings):
  space = search_space.from_texts(settings.space) if settings.space else search_space.TABLE_D1
  sweep = Sweep(given, space, settings.trials, settings.sweep_seed)
  try:
    return worker.run(folder, sweep, parallel=settings.parallel, runner=settings.runner_of(method))
  except worker.RefusedError as error:
    print(error, file=sys.stderr, flush=True)
    return 1


def _run_agents(experiment, logdir, settings):
  for method in experiment.methods:
    folder = paper_experiments.agents_folder(logdir, experiment, method)
    given = settings.hyper_parameters(method)
    print(f'{experiment.name}: {method.label}', flush=True)
    if reason := settings.left_out(method):
      print(f'Left out, as {reason}.', flush=True)
      continue
    if method.trainer == 'experts':
      frames = paper_experiments.scaled(experiment.expert_frames, settings.scale)
      failed = 0
      for level in settings.levels or _levels_of(experiment.suite):
        arguments = given | {'level_name': level, 'total_environment_frames': frames}
        # Just below the folder, where an evaluation looks for runs.
        run_folder = os.path.join(folder, level.strip('/').replace('/', '_'))
        code = _train(config_flags.arguments(arguments), run_folder, settings.runner_of(method))
        if code:
          failed += 1
          yield code
      if failed:
        # An evaluation keeps what it has found, and would refuse the same levels' agents of a later
        # training.
        print(
          f'{method.label} is not evaluated, as {failed} trainings failed. The same command tries them again.',
          flush=True,
        )
        continue
      yield _evaluate(experiment, folder, evaluation_folder(folder, method), settings)
    else:
      frames = paper_experiments.scaled(experiment.frames, settings.scale)
      given |= {'level_name': experiment.suite, 'total_environment_frames': frames}
      if method.trainer == 'sweep':
        code = _sweep(folder, method, given, settings)
      else:
        code = _call(
          'impala_tf.pbt',
          *config_flags.arguments(given),
          *_population(method, settings),
          f'--logdir={folder}',
        )
      yield code
      best = best_run(folder, method)
      if best is None:
        print(
          f'{method.label} is not evaluated: no run in {folder} has come far enough.', flush=True
        )
      elif code and method.trainer == 'population':
        # Its best member may be one that has not come to its end.
        print(
          f'{method.label} is not evaluated, as members failed. The same command lets them go on.',
          flush=True,
        )
      else:
        yield _evaluate(experiment, best, evaluation_folder(folder, method), settings)


def _population(method, settings):
  """The flags of a population; a shorter training has as many evaluations as one of the paper's
  length.
  """
  rules = Rules()
  values = {
    'population': settings.trials,
    'population_seed': settings.sweep_seed,
    'runner': settings.runner_of(method),
  }
  values |= {
    name: paper_experiments.scaled(getattr(rules, name), settings.scale)
    for name in ('burn_in_frames', 'episodes')
  }
  if settings.time_slice is not None:
    values['time_slice'] = settings.time_slice
  spaces = [
    f'--space={name}={distribution}' for name, distribution in (settings.space or {}).items()
  ]
  return [f'--{name}={value}' for name, value in values.items()] + spaces


def _evaluate(experiment, logdir, output, settings):
  arguments = [f'--logdir={logdir}', f'--output={output}']
  if settings.levels:  # Others in the folder may still be in training, here or on another machine.
    arguments.append(f'--levels={",".join(settings.levels)}')
  if settings.episodes is not None:
    arguments.append(f'--episodes={settings.episodes}')
  return _call(f'{experiment.suite}.evaluate', *arguments)


def evaluation_folder(folder, method):
  """Where the evaluation of a method's agents is: of a sweep or a population, that of the agent
  which is best now.
  """
  best = None if method.trainer == 'experts' else best_run(folder, method)
  return os.path.join(folder, EVALUATION, *([os.path.basename(best)] if best else []))


def best_run(folder, method):
  """The folder of the best agent of a sweep or a population, None while it has none."""
  if method.trainer == 'population':
    if not os.path.isdir(folder):
      return None
    best = lineage.best_member(member.read_histories(folder))
    return None if best is None else os.path.join(folder, best)
  sweep = definition.load(folder)
  ended = [] if sweep is None else sweep_report.ranked(Study(folder, sweep).trials())
  return os.path.join(folder, ended[0].name) if ended else None


def _levels_of(level_name):
  suite, config = suites.resolve(level_name)
  return suite.levels(config)


def _train(arguments, folder, runner):
  """Trains, with the output in the run's log.txt.

  Returns 0, 1 if that failed, or the exit code of the signal that ended this process.
  """
  start = functools.partial(processes.RunProcess, runner, arguments, folder)
  return _supervise(f'The run in {folder}', start)


def _call(module, *arguments):
  """Runs a command in a process of its own, after printing it; returns what `_train` does."""
  print(shlex.join(['python', '-m', module, *arguments]), flush=True)
  return _supervise(module, functools.partial(processes.Child, module, list(arguments)))


def _supervise(name, start):
  failed = False
  with signals.Stop() as stop, processes.Supervisor(stop) as children:
    children.start(name, start)
    for ended in children.ends():
      failed = ended.code != 0
      if failed:
        print(ended, file=sys.stderr, flush=True)
  return stop.exit_code or int(failed)
