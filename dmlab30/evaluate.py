"""Plays complete episodes of the levels' test versions with trained agents (Section 5.3.1: 500
episodes a level).

    python -m dmlab30.evaluate --logdir=runs/dmlab30
    python -m dmlab30.evaluate --logdir=runs/expert_1,runs/expert_2 --output=evaluations/experts
    --processes=8

Each agent plays what it was trained on, one level or all thirty. Several levels are played at once.
The results of a level are written when it is finished; the same command goes on with those that are
not.
"""

import dataclasses

from absl import app, flags

from dmlab30 import suite
from impala_tf import cli
from impala_tf.config import Config, parse
from impala_tf.evaluation import command

_CHANGES = ('dataset_path', 'level_cache_dir', 'level_cache_max_gigabytes', 'renderer')


@cli.report_user_errors()
def main(argv):
  """Evaluates as the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  given = {name: flags.FLAGS[name].value for name in _CHANGES}
  changes = {name: parse(name, value) for name, value in given.items() if value is not None}
  return command.main(suite.SUITE, changes=changes)


if __name__ == '__main__':
  command.define_flags(num_episodes=500, envs_per_process=1)
  for field in dataclasses.fields(Config):
    if field.name in _CHANGES:
      flags.DEFINE_string(field.name, None, f'{field.metadata["help"]} (default: that of the run)')
  app.run(main)
