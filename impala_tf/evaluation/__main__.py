"""Plays complete episodes with trained agents of any suite, or at random, and keeps the results.

    python -m impala_tf.evaluation --logdir=runs/cartpole
    python -m impala_tf.evaluation --logdir=runs/mine_1,runs/mine_2 --output=evaluations/mine
    python -m impala_tf.evaluation --baseline=random --levels=my_package.suite:easy --output=random

The suite is that of the runs, or of the levels to play at random. Several processes play at once.
The results of a level are written when its episodes are finished; the same command later plays only
the levels that are not. Atari-57 and DMLab-30 have commands of their own, atari57.evaluate and
dmlab30.evaluate, which play by the paper's protocol.
"""

from impala_tf import cli
from impala_tf.evaluation import command

if __name__ == '__main__':
  command.define_flags()
  cli.run(command.main, command.parse_flags)
