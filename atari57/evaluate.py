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

import functools

import numpy as np
from absl import app, flags

from atari57 import environment, games, presets, suite
from impala_tf import cli
from impala_tf.evaluation import command

_STICKY = 0.25  # Machado et al. (2018).


class AtariEvaluated:
  """A `evaluate.EvaluatedSuite`."""

  name = games.SUITE

  def __init__(self):
    """Makes the suite."""
    self.suite = suite.AtariSuite()
    self.scores = {
      'human_normalised_percent': functools.partial(_normalised, paper_implied=False),
      'human_normalised_percent_paper_implied': functools.partial(_normalised, paper_implied=True),
    }

  def find(self, name):
    """A game in any spelling, or 'atari57'."""
    return games.find_level(name)

  def result_name(self, level):
    """The same."""
    return level

  def check(self, levels, config):
    """Nothing: emulator and games come with the requirements."""

  def protocol(self, config):
    """How games are played."""
    return {
      'games': 'whole ones, all lives',
      'no_ops': f'1 to {config.max_noops}, uniform' if config.max_noops else 'none',
      'max_episode_frames': environment.MAX_EPISODE_FRAMES,
      'repeat_action_probability': config.repeat_action_probability,
      'action_set': 'full' if config.full_action_space else 'minimal',
      'num_action_repeats': config.num_action_repeats,
      'width': config.width,
      'height': config.height,
      'frame_stack': config.frame_stack,
      'score': 'mean return',
    }

  def describe(self, level, mean):
    """Percent of the way from a random to a human player."""
    return f', {games.find(level).human_normalised(mean):.1f}% human-normalised'

  def random_config(self, level):
    """Those of an expert, with the actions that the game uses."""
    return presets.preset(level, 'shallow')


def _normalised(level, mean, paper_implied):
  return games.find(level).human_normalised(mean, paper_implied=paper_implied)


def summary(found):
  """The suite's scores, or why there are none, as text."""
  missing = [game.name for game in games.all_games() if game.name not in found.levels]
  if missing:
    return f'No score of Atari-57 yet, it lacks {len(missing)} of 57 games: {", ".join(missing)}.'
  scores = [games.normalised(found.means(), paper_implied=implied) for implied in (False, True)]
  return (
    f'Human-normalised score: median {np.median(scores[0]):.1f}%, mean {np.mean(scores[0]):.1f}% '
    f"({np.mean(scores[1]):.1f}% by the references that the paper's means imply)."
  )


def main(argv):
  """Evaluates as the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  return command.main(
    AtariEvaluated(),
    summary,
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
