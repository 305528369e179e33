"""Plays whole games with trained agents (Section 5.3.2: 200 games each, starting with 1 to 30
no-operations).

    python -m atari57.evaluate --logdir=runs/atari57                                   # one agent, all of its games
    python -m atari57.evaluate --logdir=runs/experts --output=evaluations/experts      # a folder of runs, a game each
    python -m atari57.evaluate --baseline=random --output=evaluations/random

Where the paper is silent, as usual in its time: games are played to their end and not to the loss
of a life, for at most 108,000 frames; actions are sampled from the policy; none sticks. --greedy
and --sticky play otherwise.

Each environment plays a share of the games that was fixed beforehand. Taking instead whichever
games end first would favour short ones, which in most games are the poor ones.

Several processes play at once. The results of a game are written when its episodes are finished;
the same command goes on with the games that are not.
"""

from absl import app, flags

from atari57 import suite
from impala_tf import cli
from impala_tf.evaluation import command

_STICKY = 0.25  # Machado et al. (2018).


def main(argv):
  """Evaluates as the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  return command.main(
    suite.SUITE,
    record_video=flags.FLAGS.record_video,
    test_changes={'repeat_action_probability': _STICKY if flags.FLAGS.sticky else 0.0},
  )


if __name__ == '__main__':
  command.define_flags(num_episodes=200, envs_per_process=16)
  flags.DEFINE_boolean(
    'sticky', False, f'repeat the action before with probability {_STICKY}, each frame'
  )
  flags.DEFINE_integer(
    'record_video',
    0,
    'how many episodes of each game to record, in `videos` of the output',
    lower_bound=0,
  )
  app.run(main)
