"""Hyper-parameters for Gymnasium's environments. Importing this module imports no TensorFlow.

The paper has none of these environments. The values are those of its Atari experts (Table G.1), but
for what concerns the emulator, and for small tasks: a shorter training, with more and bolder
updates for as many frames.
"""

import dataclasses
import importlib

from impala_tf.config import Config, ConfigurationError

PREFIX = 'gymnasium:'

PRESETS = {}

_DEFAULT = Config(
  level_name=f'{PREFIX}CartPole-v1',
  agent='shallow',
  total_environment_frames=2_000_000,
  batch_size=8,
  unroll_length=20,
  num_action_repeats=1,
  seed=1,
  entropy_cost=0.01,
  baseline_cost=0.5,
  discounting=0.99,
  reward_clipping='abs_one',
  learning_rate=0.001,
  decay=0.99,
  momentum=0.0,
  epsilon=0.01,
  clip_global_norm=40.0,
  width=84,
  height=84,
  frame_stack=1,
  max_noops=0,
  full_action_space=False,
)


def preset(level_name, agent):
  """The `Config` to start from.

  Args:
    level_name: str, 'gymnasium:' and what `gymnasium.make` takes; a module that registers the
      environment may precede it, as in 'gymnasium:highway_env:highway-v0'.
    agent: 'shallow', or 'deep' for images.

  Raises:
    ConfigurationError: if the name is not of that form, or Gymnasium does not have the environment;
      with its own words.
  """
  if not level_name.startswith(PREFIX):
    raise ConfigurationError(f'{level_name!r} does not start with {PREFIX!r}.')
  import gymnasium  # It takes a moment, and concerns these levels alone.

  name = level_name.removeprefix(PREFIX)
  module, _, registered = name.rpartition(':')
  try:
    if module:
      importlib.import_module(module)  # As `gymnasium.make` does, and `gymnasium.spec` does not.
    gymnasium.spec(registered)
  except (gymnasium.error.Error, ImportError, ValueError, TypeError) as error:
    raise ConfigurationError(
      f'Gymnasium has no environment {name!r}: {error} One of another package is named with the module that registers it, such '
      f"as '{PREFIX}highway_env:highway-v0'."
    ) from error
  return dataclasses.replace(_DEFAULT, level_name=level_name, agent=agent)


def known_levels():
  """An example; there is no end of names."""
  return [_DEFAULT.level_name]
