"""The command line that the suites' evaluations share.

if __name__ == '__main__':
  evaluation_command.define_flags(...)
  app.run(...)
"""

import os

from absl import flags, logging

from impala_tf import cli, machine
from impala_tf.config import ConfigurationError
from impala_tf.evaluation import level_evaluation

flags.disclaim_key_flags()  # So that --help shows them among those of the command.


def define_flags(num_episodes, envs_per_process):
  """Defines the flags, with a suite's defaults for two of them."""
  flags.DEFINE_list(
    'logdir', [], 'folders of trained runs, or folders of such folders, separated by commas'
  )
  flags.DEFINE_enum(
    'baseline',
    None,
    ['random'],
    'what to play instead of trained agents: all actions equally often',
  )
  flags.DEFINE_string(
    'output',
    None,
    'folder of the results (default: `evaluation` in the logdir, if that is only one)',
  )
  flags.DEFINE_integer('episodes', num_episodes, 'complete episodes of each level', lower_bound=1)
  flags.DEFINE_list('levels', [], 'levels to play (default: all that the runs were trained on)')
  flags.DEFINE_integer('seed', 1, 'of environments and actions', lower_bound=0)
  flags.DEFINE_boolean(
    'greedy', False, 'take the action of the highest probability instead of sampling one'
  )
  flags.DEFINE_integer(
    'processes', machine.cores(), 'processes of environments that play at once', lower_bound=1
  )
  flags.DEFINE_integer(
    'processes_per_level',
    0,
    'among how many of them a level is divided; 0: as keeps all of them busy',
    lower_bound=0,
  )
  flags.DEFINE_integer(
    'envs_per_process', envs_per_process, 'environments in each process', lower_bound=1
  )


@cli.report_user_errors(OSError)
def main(evaluated, summary, *, record_video=0, changes=None, test_changes=None):
  """Evaluates as the flags say; returns the exit code.

  Args:
    evaluated: a `level_evaluation.EvaluatedSuite`.
    summary: function of a `level_results.Evaluation` that gives the last lines to print.
    record_video, changes, test_changes: as in `level_evaluation.Settings`.
  """
  values = flags.FLAGS
  if bool(values.logdir) == bool(values.baseline):
    raise ConfigurationError(
      'Give either --logdir, with folders of trained runs, or --baseline=random.'
    )
  output = values.output or _default_output(values.logdir)
  logging.set_verbosity(logging.WARNING)
  machine.configure_tensorflow(values.processes)
  settings = level_evaluation.Settings(
    num_episodes=values.episodes,
    seed=values.seed,
    only=values.levels,
    processes=values.processes,
    processes_per_level=values.processes_per_level,
    envs_per_process=values.envs_per_process,
    greedy=values.greedy,
    record_video=record_video,
    changes=changes or {},
    test_changes=test_changes or {},
  )
  if values.baseline:
    found, exit_code = level_evaluation.evaluate_random(evaluated, output, settings)
  else:
    found, exit_code = level_evaluation.evaluate(evaluated, values.logdir, output, settings)
  print(summary(found), flush=True)
  return exit_code


def _default_output(logdirs):
  if len(logdirs) != 1 or '://' in logdirs[0]:
    raise ConfigurationError(
      '--output is missing: name a local folder for the results, unless they are those of one --logdir that is local.'
    )
  return os.path.join(logdirs[0], 'evaluation')
