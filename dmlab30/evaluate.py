"""Plays complete episodes of the levels' test versions with trained agents (Section 5.3.1: 500
episodes a level).

    python -m dmlab30.evaluate --logdir=runs/dmlab30
    python -m dmlab30.evaluate --logdir=runs/experts --output=evaluations/experts --processes=8

Each agent plays what it was trained on, one level or all thirty. Several levels are played at once.
The results of a level are written when it is finished; the same command later plays only the levels
that are not.
"""

import dataclasses
from collections.abc import Sequence

from absl import app, flags

from dmlab30 import suite
from impala_tf import cli
from impala_tf.config import Config, parse
from impala_tf.evaluation import command

CHANGES = ('dataset_path', 'level_cache_dir', 'level_cache_max_gigabytes', 'renderer')


def define_flags() -> None:
  """Defines the flags, with the paper's number of episodes."""
  command.define_flags(num_episodes=500, envs_per_process=1)
  for field in dataclasses.fields(Config):
    if field.name in CHANGES:
      flags.DEFINE_string(field.name, None, f'{field.metadata["help"]} (default: that of the run)')


@cli.report_user_errors()
def main(argv: Sequence[str]) -> int:
  """Evaluates as the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  given = {name: flags.FLAGS[name].value for name in CHANGES}
  changes = {name: parse(name, value) for name, value in given.items() if value is not None}
  return command.run(suite.SUITE, changes=changes)


if __name__ == '__main__':
  define_flags()
  app.run(main)
