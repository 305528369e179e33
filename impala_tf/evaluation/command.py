"""Flags and main function of the commands that evaluate.

`python -m impala_tf.evaluation` is for any suite. A suite with a protocol of its own has a command
of its own, which gives `run` the suite.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from impala_tf import cli, saved_config
from impala_tf.cli import config_flags
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.environments.suite import Suite
from impala_tf.errors import FileError
from impala_tf.evaluation import evaluate, pretrained
from impala_tf.system import machine, quiet
from impala_tf.system.paths import is_remote

flags.disclaim_key_flags()  # So that --help shows them among those of the command.


def define_flags(num_episodes: int = 100, envs_per_process: int = 4) -> None:
  """Defines the flags, with a suite's defaults for two of them."""
  cli.define_paths(
    'logdir', [], 'folders of trained runs, or folders of such folders, separated by commas'
  )
  flags.DEFINE_string(
    'pretrained',
    None,
    'agent that comes with the project, in place of --logdir; see pretrained/README.md',
  )
  flags.DEFINE_enum(
    'baseline', None, ['random'], 'policy to evaluate instead of trained agents: random actions'
  )
  cli.define_path(
    'output',
    None,
    'folder for the results (default: `evaluation` in the logdir, if there is only one)',
  )
  flags.DEFINE_integer(
    'episodes', num_episodes, 'number of complete episodes of each level', lower_bound=1
  )
  flags.DEFINE_list(
    'levels',
    [],
    'levels to play, separated by commas (default: all that the runs were trained on)',
  )
  flags.DEFINE_integer(
    'seed',
    1,
    'random seed of environments and actions; it gives the same episodes only with equal '
    '--processes (by default the number of cores) and --envs_per_process',
    lower_bound=0,
  )
  flags.DEFINE_boolean(
    'greedy', False, 'take the action of the highest probability instead of sampling one'
  )
  flags.DEFINE_integer(
    'processes',
    None,
    'number of environment processes that play at once (default: one for each core)',
    lower_bound=1,
  )
  flags.DEFINE_integer(
    'processes_per_level',
    0,
    "number of processes that share a level's episodes; 0 keeps all --processes busy",
    lower_bound=0,
  )
  flags.DEFINE_integer(
    'envs_per_process',
    envs_per_process,
    'number of environments in each process, which share calls of the network',
    lower_bound=1,
  )
  flags.DEFINE_integer(
    'record_video',
    0,
    'number of episodes of each level to record, in `videos` of the output; for environments that '
    'give pictures',
    lower_bound=0,
  )


@cli.report_user_errors(OSError)
def main(argv: Sequence[str]) -> int:
  """Evaluates on the suite of the runs, or of the levels to play at random; returns the exit
  code.
  """
  cli.no_positional_arguments(argv)
  _check_flags()
  suite = _find_suite(_logdirs(), flags.FLAGS.levels)
  return run(suite, changes=config_flags.given(suite))


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses a command line, for `cli.run`; first defines flags for those options of the suite to be
  played that may be other than in the training: the ones about the machine.
  """
  given = cli.values_on_line(argv)
  levels = [level for level in given.get('levels', '').split(',') if level]
  with contextlib.suppress(ConfigurationError):  # `main` will meet it, too, and say it.
    name = given.get('pretrained')
    logdirs = [pretrained.folder(name)] if name else cli.paths(given.get('logdir', ''))
    suite = _find_suite(logdirs, levels)
    config_flags.define_options_of(suite, runtime_only=True)
  return cli.parse_flags(argv)


@cli.report_user_errors(OSError)
def run(
  suite: Suite,
  *,
  changes: Mapping[str, Any] | None = None,
  test_changes: Mapping[str, Any] | None = None,
) -> int:
  """Evaluates on a suite as the flags say; returns the exit code.

  Args:
    suite: the suite.
    changes, test_changes: as in `evaluate.EvaluationSettings`.
  """
  values = flags.FLAGS
  _check_flags()
  cli.set_up_log()
  logdirs = _logdirs()
  output = values.output or _default_output(logdirs)
  processes = values.processes or machine.cores()

  settings = evaluate.EvaluationSettings(
    num_episodes=values.episodes,
    seed=values.seed,
    levels=values.levels,
    processes=processes,
    processes_per_level=values.processes_per_level,
    envs_per_process=values.envs_per_process,
    greedy=values.greedy,
    record_video=values.record_video,
    changes=changes or {},
    test_changes=test_changes or {},
  )

  evaluate.check(suite, logdirs, settings)
  quiet.load_tensorflow()
  machine.configure_tensorflow(processes)
  if values.baseline:
    found, exit_code = evaluate.evaluate_random_policy(suite, output, settings)
  else:
    found, exit_code = evaluate.evaluate_runs(suite, logdirs, output, settings)

  print(suite.summary(found.returns()), flush=True)
  return exit_code


def _check_flags() -> None:
  given = [flag for flag in ('logdir', 'pretrained', 'baseline') if flags.FLAGS[flag].value]
  if len(given) != 1:
    raise ConfigurationError(
      'Give one of --logdir, with folders of trained runs, --pretrained and --baseline=random.'
    )


def _logdirs() -> list[str]:
  """Returns the folders of the trained agents, none for the random policy."""
  name = flags.FLAGS.pretrained
  return [pretrained.folder(name)] if name else flags.FLAGS.logdir


def _find_suite(logdirs: Sequence[str], levels: Sequence[str]) -> Suite:
  if logdirs:
    return _suite_of(saved_config.runs_in(logdirs))
  if not levels:
    raise ConfigurationError('--levels is missing: name the levels to play at random.')
  return suites.find(levels[0])


def _suite_of(runs):
  """Returns the suite of the first of some runs that is not damaged."""
  *others, last = runs
  for run in others:
    with contextlib.suppress(FileError):  # It is named when it is to be played.
      return suites.find(saved_config.load_with(run, {}).level_name)
  return suites.find(saved_config.load_with(last, {}).level_name)


def _default_output(logdirs: Sequence[str]) -> str:
  if flags.FLAGS.pretrained:
    return os.path.join('runs', 'pretrained', flags.FLAGS.pretrained, 'evaluation')
  if len(logdirs) != 1 or is_remote(logdirs[0]):
    raise ConfigurationError(
      '--output is missing: name a local folder for the results. It is only optional with one '
      '--logdir that is local.'
    )
  return os.path.join(logdirs[0], 'evaluation')
