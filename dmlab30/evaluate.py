"""Plays complete episodes of the levels' test versions with trained agents (Section 5.3.1: 500
episodes a level).

    python -m dmlab30.evaluate --logdir=runs/dmlab30
    python -m dmlab30.evaluate --logdir=runs/experts --output=evaluations/experts --processes=8

Each agent plays what it was trained on, one level or all thirty. Several levels are played at once.
The results of a level are written when it is finished; the same command later plays only the levels
that are not.
"""

from collections.abc import Sequence

from dmlab30 import suite
from impala_tf import cli
from impala_tf.cli import config_flags
from impala_tf.evaluation import command


def define_flags() -> None:
  """Defines the flags, with the paper's number of episodes."""
  command.define_flags(num_episodes=500, envs_per_process=1)
  config_flags.define_options_of(suite.SUITE, runtime_only=True)


@cli.report_user_errors()
def main(argv: Sequence[str]) -> int:
  """Evaluates as the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  return command.run(suite.SUITE, changes=config_flags.given(suite.SUITE))


if __name__ == '__main__':
  define_flags()
  cli.run(main)
