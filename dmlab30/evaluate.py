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

from absl import flags

from dmlab30 import suite
from impala_tf import cli
from impala_tf.config import Config, options
from impala_tf.evaluation import command

# Options that may be other than in the training: those about the machine.
OPTIONS = [
  field
  for field in dataclasses.fields(suite.DMLabConfig)
  if field.metadata['runtime'] and field.name not in Config.field_names()
]


def define_flags() -> None:
  """Defines the flags, with the paper's number of episodes."""
  command.define_flags(num_episodes=500, envs_per_process=1)
  for option in OPTIONS:
    flags.DEFINE_string(option.name, None, f'{option.metadata["help"]} (default: that of the run)')


@cli.report_user_errors()
def main(argv: Sequence[str]) -> int:
  """Evaluates as the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  given = [(option, flags.FLAGS[option.name].value) for option in OPTIONS]
  changes = {field.name: options.parse(field, text) for field, text in given if text is not None}
  return command.run(suite.SUITE, changes=changes)


if __name__ == '__main__':
  define_flags()
  cli.run(main)
