"""Runs the experiments of `paper_experiments`, each from the commands that there are for its parts.

All of them go on where they were ended: what is finished is not done again.
"""

import dataclasses
import os
import subprocess
import sys
from typing import Any

from impala_tf import experiment as experiment_lib
from impala_tf import (
  hparams_flags,
  lineage,
  paper_experiments,
  pbt_member,
  pbt_report,
  run_process,
  search_space,
  suites,
  sweep_report,
  sweeps,
)
from impala_tf.hparams import ConfigurationError

EVALUATION = 'evaluation'  # Folder of an agent's, beside its runs.
_POLL_SECONDS = 0.5


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
  runner: str = 'run_experiment'

  def hyper_parameters(self, method):
    """What is given to the runs of a method, a dict."""
    return method.hyper_parameters(self.given, os.cpu_count() or 1)


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
  kinds = {paper_experiments.Throughput: _run_throughput, paper_experiments.Sweeps: _run_sweeps}
  worst = 0
  for code in kinds.get(type(experiment), _run_agents)(experiment, logdir, settings):
    if run_process.ended_by_signal(code):
      return code
    worst = max(worst, code)
  return worst


def _run_throughput(experiment, logdir, settings):
  for level in settings.levels or experiment.levels:
    for method in experiment.methods:
      output = paper_experiments.rate_file(logdir, level, method, settings.fake_environment)
      if os.path.exists(output):
        print(f'{method.label} on {level} was measured before: {output}', flush=True)
        continue
      os.makedirs(os.path.dirname(output), exist_ok=True)
      arguments = hparams_flags.arguments(settings.hyper_parameters(method) | {'level_name': level})
      arguments += ['--fake_environment'] * settings.fake_environment
      yield _call('impala_tf.benchmark', 'train', *arguments, *settings.benchmark, f'--output={output}')


def _run_sweeps(experiment, logdir, settings):
  for level in settings.levels or experiment.levels:
    for method in experiment.methods:
      frames = paper_experiments.scaled(experiment.frames, settings.scale)
      given = settings.hyper_parameters(method) | {'level_name': level, 'total_environment_frames': frames}
      print(f'{experiment.name}: {method.label} ({method.group or "all"}) on {level}', flush=True)
      yield _sweep(paper_experiments.sweep_folder(logdir, level, method), given, settings)


def _sweep(folder, given, settings):
  space = settings.space or {name: str(distribution) for name, distribution in search_space.TABLE_D1.items()}
  sweep = {
    'given': given,
    'space': space,
    'num_trials': settings.trials,
    'sweep_seed': settings.sweep_seed,
    'storage': '',
  }
  return sweeps.run(folder, sweep, parallel=settings.parallel, runner=settings.runner)


def _run_agents(experiment, logdir, settings):
  for method in experiment.methods:
    folder = paper_experiments.agents_folder(logdir, experiment, method)
    given = settings.hyper_parameters(method)
    print(f'{experiment.name}: {method.label}', flush=True)
    if method.trainer == 'experts':
      frames = paper_experiments.scaled(experiment.expert_frames, settings.scale)
      for level in settings.levels or _levels_of(experiment.suite):
        arguments = given | {'level_name': level, 'total_environment_frames': frames}
        code = _train(hparams_flags.arguments(arguments), os.path.join(folder, level), settings)
        if code:
          yield code
      best = folder
    elif settings.levels:
      print(f'Left out, as it is one agent for all levels, and --levels={",".join(settings.levels)} was given.', flush=True)
      continue
    else:
      frames = paper_experiments.scaled(experiment.frames, settings.scale)
      given |= {'level_name': experiment.suite, 'total_environment_frames': frames}
      if method.trainer == 'sweep':
        code = _sweep(folder, given, settings)
      else:
        population = [f'--population={settings.trials}', f'--logdir={folder}']
        code = _call('impala_tf.pbt', *hparams_flags.arguments(given), *population)
      yield code
      best = best_run(folder, method)
    if best is not None:
      yield _evaluate(experiment, best, os.path.join(folder, EVALUATION), settings)


def _evaluate(experiment, logdir, output, settings):
  episodes = [] if settings.episodes is None else [f'--episodes={settings.episodes}']
  return _call(f'{experiment.suite}.evaluate', f'--logdir={logdir}', f'--output={output}', *episodes)


def best_run(folder, method):
  """The folder of the best agent of a sweep or a population, None while it has none."""
  if method.trainer == 'population':
    if not os.path.isdir(folder):
      return None
    histories = {name: lineage.read(path) for name, path in pbt_member.member_folders(folder).items()}
    best = pbt_report.best_member(histories)
    return None if best is None else pbt_member.member_folders(folder)[best]
  sweep = sweeps.load(folder)
  ended = [] if sweep is None else sweep_report.ranked(sweeps.open_study(folder, sweep)[0].trials())
  return os.path.join(folder, ended[0].name) if ended else None


def _levels_of(suite):
  found = suites.find(suite)
  return found.make().levels(found.configure(suite))


def _train(arguments, folder, settings):
  """Trains, with the output in the run's log.txt. Returns the exit code."""
  with experiment_lib.Stop() as stop:
    process = run_process.RunProcess(settings.runner, arguments, folder)
    code = None
    while code is None:
      try:
        code = process.wait(_POLL_SECONDS)
      except subprocess.TimeoutExpired:
        if stop and not process.was_stopped:
          process.stop()
  if code and not stop:
    raise ConfigurationError(f'The run in {folder} ended with exit code {code}:\n{process.last_lines()}')
  return stop.exit_code


def _call(module, *arguments):
  """Runs a command in a process of its own, after printing it. Returns its exit code."""
  command = ['-m', module, *arguments]
  print('python ' + ' '.join(command), flush=True)
  with experiment_lib.Stop() as stop:
    # The terminal sends Ctrl-C to both.
    code = subprocess.run([sys.executable, *command], check=False).returncode
  return stop.exit_code or (128 - code if code < 0 else code)
