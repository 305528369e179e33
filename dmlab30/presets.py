"""The paper's hyper-parameters for DMLab-30. Importing this module imports no TensorFlow."""

import dataclasses
import os

from dmlab30 import levels
from impala_tf.config import Config


def _cache_folder():
  return os.path.join(
    os.environ.get('XDG_CACHE_HOME') or os.path.join('~', '.cache'), 'impala_tf', 'dmlab30'
  )


# Table D.3. Entropy cost, learning rate and epsilon were swept (Table D.1); the decay of RMSProp is
# not in the paper. For these the values are the defaults of the authors' code. An environment fills
# a process, so that each actor has but one.
SINGLE_LEVEL = Config(
  level_name='explore_goal_locations_small',
  agent='shallow',
  total_environment_frames=1_000_000_000,
  batch_size=32,
  unroll_length=100,
  num_action_repeats=4,
  seed=1,
  entropy_cost=0.00025,
  baseline_cost=0.5,
  discounting=0.99,
  reward_clipping='abs_one',
  learning_rate=0.00048,
  decay=0.99,
  momentum=0.0,
  epsilon=0.1,
  clip_global_norm=None,
  width=96,
  height=72,
  frame_stack=1,
  max_noops=0,
  envs_per_actor=1,
  level_cache_dir=_cache_folder(),
)

# One agent for all levels. Entropy cost and learning rate are those of the authors' reference run;
# its reward clipping was their code's, this is the paper's (Figure D.1). As many actors on each
# level.
MULTI_TASK = dataclasses.replace(
  SINGLE_LEVEL,
  level_name=levels.SUITE,
  total_environment_frames=10_000_000_000,
  entropy_cost=0.0033391318945337044,
  learning_rate=0.00031866995608948655,
  reward_clipping='optimistic_asymmetric',
  num_actors=-(-SINGLE_LEVEL.num_actors // 30) * 30,
)

# An agent for one level, as in the single-level experiments (Section 5.2), and as an expert of
# DMLab-30, which has the suite's reward clipping (Table D.3); the level is to be given beside it.
PRESETS = {
  f'dmlab_{kind}_{agent}': dataclasses.replace(values, agent=agent)
  for kind, values in (
    ('single', SINGLE_LEVEL),
    ('expert', dataclasses.replace(SINGLE_LEVEL, reward_clipping=MULTI_TASK.reward_clipping)),
    ('multitask', MULTI_TASK),
  )
  for agent in ('shallow', 'deep')
}


def preset(level_name, agent):
  """The paper's hyper-parameters for one level, or for one agent on all of them.

  Args:
    level_name: str, a name that `levels.find` knows, among them 'dmlab30'.
    agent: 'shallow' or 'deep'; the paper gives both the same hyper-parameters.

  Raises:
    ConfigurationError: for an unknown level, with the nearest names, or an unknown agent.
  """
  level_name = levels.find(level_name)
  chosen = MULTI_TASK if level_name == levels.SUITE else SINGLE_LEVEL
  return dataclasses.replace(chosen, level_name=level_name, agent=agent)


def known_levels():
  """The names of the thirty levels for training and for tests, of all of them together, and of one
  more, a list.
  """
  names = [
    name for level in levels.all_levels() for name in dict.fromkeys((level.name, level.test_name))
  ]
  return [levels.SUITE, 'seekavoid_arena_01', *names]
