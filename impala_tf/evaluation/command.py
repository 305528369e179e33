"""Flags and main function of the commands that evaluate.

if __name__ == '__main__':
  command.define_flags(...)
  app.run(...)
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags, logging

from impala_tf import cli, machine
from impala_tf.config import ConfigurationError
from impala_tf.environments.suite import Suite
from impala_tf.evaluation import evaluate

flags.disclaim_key_flags()  # So that --help shows them among those of the command.


def define_flags(num_episodes: int, envs_per_process: int) -> None:
  """Defines the flags, with a suite's defaults for two of them."""
  flags.DEFINE_list(
    'logdir', [], 'folders of trained runs, or folders of such folders, separated by commas'
  )
  flags.DEFINE_enum(
    'baseline', None, ['random'], 'policy to evaluate instead of trained agents: random actions'
  )
  flags.DEFINE_string(
    'output',
    None,
    'folder of the results (default: `evaluation` in the logdir, if there is only one)',
  )
  flags.DEFINE_integer(
    'episodes', num_episodes, 'number of complete episodes of each level', lower_bound=1
  )
  flags.DEFINE_list(
    'levels',
    [],
    'levels to play, separated by commas (default: all that the runs were trained on)',
  )
  flags.DEFINE_integer('seed', 1, 'random seed of environments and actions', lower_bound=0)
  flags.DEFINE_boolean(
    'greedy', False, 'take the action of the highest probability instead of sampling one'
  )
  flags.DEFINE_integer(
    'processes',
    machine.cores(),
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


@cli.report_user_errors(OSError)
def main(
  suite: Suite,
  *,
  record_video: int = 0,
  changes: Mapping[str, Any] | None = None,
  test_changes: Mapping[str, Any] | None = None,
) -> int:
  """Evaluates as the flags say; returns the exit code.

  Args:
    suite: the suite.
    record_video, changes, test_changes: as in `evaluate.EvaluationSettings`.
  """
  values = flags.FLAGS
  if bool(values.logdir) == bool(values.baseline):
    raise ConfigurationError(
      'Give either --logdir, with folders of trained runs, or --baseline=random.'
    )
  output = values.output or _default_output(values.logdir)

  logging.set_verbosity(logging.WARNING)
  machine.configure_tensorflow(values.processes)
  settings = evaluate.EvaluationSettings(
    num_episodes=values.episodes,
    seed=values.seed,
    levels=values.levels,
    processes=values.processes,
    processes_per_level=values.processes_per_level,
    envs_per_process=values.envs_per_process,
    greedy=values.greedy,
    record_video=record_video,
    changes=changes or {},
    test_changes=test_changes or {},
  )

  if values.baseline:
    found, exit_code = evaluate.evaluate_random_policy(suite, output, settings)
  else:
    found, exit_code = evaluate.evaluate_runs(suite, values.logdir, output, settings)
  print(suite.summary(found.returns()), flush=True)
  return exit_code


def _default_output(logdirs: Sequence[str]) -> str:
  if len(logdirs) != 1 or '://' in logdirs[0]:
    raise ConfigurationError(
      '--output is missing: name a local folder for the results. It is only optional with one '
      '--logdir that is local.'
    )
  return os.path.join(logdirs[0], 'evaluation')
