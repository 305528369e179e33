"""Plays whole games with trained agents (Section 5.3.2: 200 games each, starting with 1 to 30
no-operations).

    # One agent, all of its games:
    python -m atari57.evaluate --logdir=runs/atari57
    # A folder of runs, a game each:
    python -m atari57.evaluate --logdir=runs/experts --output=evaluations/experts
    python -m atari57.evaluate --baseline=random --output=evaluations/random

Where the paper is silent, this is as usual in its time: games are played to their end and not to
the loss of a life, for at most 108,000 frames; actions are sampled from the policy and are not
sticky. --greedy and --sticky play otherwise.

Each environment plays a share of the games that was fixed beforehand. Taking instead the games that
end first would favour short ones, which in most games are the poor ones.

Several processes play at once. The results of a game are written when its episodes are finished;
the same command later plays only the games that are not.
"""

from collections.abc import Sequence

from absl import flags

from atari57 import suite
from impala_tf import cli
from impala_tf.evaluation import command

_STICKY = 0.25  # Machado et al. (2018).


def define_flags() -> None:
  """Defines the flags, with the paper's number of episodes."""
  command.define_flags(num_episodes=200, envs_per_process=16)
  flags.DEFINE_boolean(
    'sticky', False, f'repeat the previous action with probability {_STICKY}, at each frame'
  )


@cli.report_user_errors()
def main(argv: Sequence[str]) -> int:
  """Evaluates as the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  return command.run(
    suite.SUITE,
    test_changes={'repeat_action_probability': _STICKY if flags.FLAGS.sticky else 0.0},
  )


if __name__ == '__main__':
  define_flags()
  cli.run(main)
