"""The paper's hyper-parameters for Atari. Importing this module imports no TensorFlow."""

import dataclasses

from atari57 import games
from impala_tf.config import Config

# Table G.1. The decay of RMSProp is in neither paper nor table; 0.99 is that of the authors' code.
# The paper does not state the number of actors; `num_actors` and `envs_per_actor` are set from the
# machine.
EXPERT = Config(
  level_name='pong',
  agent='shallow',
  total_environment_frames=200_000_000,
  batch_size=32,
  unroll_length=20,
  num_action_repeats=4,
  seed=1,
  entropy_cost=0.01,
  baseline_cost=0.5,
  discounting=0.99,
  reward_clipping='abs_one',
  learning_rate=0.0006,
  decay=0.99,
  momentum=0.0,
  epsilon=0.01,
  clip_global_norm=40.0,
  width=84,
  height=84,
  frame_stack=4,
  max_noops=30,
  full_action_space=False,
)

# One agent for all games (Section 5.3.2). The paper's is of a population that started from Table
# D.1, as `impala_tf.pbt` does; what it found is not printed, and a single agent has the experts'
# values. As many actors on each game; unrolls wait in their actors while the learner is busy, so
# that each has but a few environments, or they would be old when they are learned from.
MULTI_TASK = dataclasses.replace(
  EXPERT,
  level_name=games.SUITE,
  total_environment_frames=57 * EXPERT.total_environment_frames,
  full_action_space=True,
  num_actors=-(-EXPERT.num_actors // 57) * 57,
  envs_per_actor=4,
)

# By name. The level of an expert is to be given beside it.
PRESETS = {
  f'atari_{kind}_{agent}': dataclasses.replace(values, agent=agent)
  for kind, values in (('expert', EXPERT), ('multitask', MULTI_TASK))
  for agent in ('shallow', 'deep')
}


def preset(level_name, agent):
  """The paper's hyper-parameters for an expert on one game, or for one agent on all of them.

  An agent for some games has as many frames for each of them as one for all, and as many
  environments as one for a single game.

  Args:
    level_name: str, 'atari57', or a game or several in any spelling that `games.find_level` knows.
    agent: 'shallow' or 'deep'; the paper gives both the same hyper-parameters.

  Raises:
    ConfigurationError: for an unknown game, with the nearest names, or an unknown agent.
  """
  level_name = games.find_level(level_name)
  count = len(games.names_in(level_name))
  chosen = MULTI_TASK if level_name == games.SUITE else EXPERT
  if chosen is EXPERT and count > 1:
    actors = -(-EXPERT.num_actors // count) * count
    chosen = dataclasses.replace(
      MULTI_TASK,
      total_environment_frames=count * EXPERT.total_environment_frames,
      num_actors=actors,
      envs_per_actor=max(1, EXPERT.num_actors * EXPERT.envs_per_actor // actors),
    )
  return dataclasses.replace(chosen, level_name=level_name, agent=agent)


def known_levels():
  """The names of the games, and of all of them together, a list."""
  return [*(game.name for game in games.all_games()), games.SUITE]
