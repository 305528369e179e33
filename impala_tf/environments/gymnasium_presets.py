"""Options of runs on Gymnasium's environments, and their values for those that were tried.

The paper has none of these environments. The values are those of its Atari experts (Table G.1), but
for what concerns the emulator, and for small tasks: a shorter training, with more and bolder
updates for as many frames. Rewards are not clipped: what is good in a task of one's own may be a
large reward that is rare.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from impala_tf.config import ConfigurationError, StackedImageConfig
from impala_tf.config.options import option
from impala_tf.files import schema


@dataclasses.dataclass(frozen=True, kw_only=True)
class GymnasiumConfig(StackedImageConfig):
  """The configuration of a run on Gymnasium environments."""

  use_lstm: bool = option(
    'whether the agent has a memory, an LSTM of 256, which also sees its last action and reward',
    default=False,
  )
  image_values: str = option(
    'what the values of images are: pixels; codes, each of which the network sees by itself, as in '
    'the grids of MiniGrid; or numbers, for a table that only looks like an image',
    default='pixels',
    choices=('pixels', 'codes', 'numbers'),
  )
  scale_numbers: bool = option(
    'whether observed numbers are scaled by the bounds of their space, and squeezed where it has '
    'none',
    default=True,
  )
  max_episode_steps: int = option(
    "steps of the environment after which an episode is cut, 0 for the environment's own limit",
    default=0,
    minimum=0,
  )
  env_kwargs: str = option(
    'arguments of the constructor of the environment, a JSON object such as {"size": 8}; empty for '
    'none',
    default='',
    may_be_empty=True,
  )

  def __post_init__(self) -> None:
    """Checks every field, the arguments of the constructor among them."""
    super().__post_init__()
    self.arguments()

  def arguments(self) -> dict[str, Any]:
    """Returns `env_kwargs` as a dict."""
    try:
      return schema.convert(json.loads(self.env_kwargs or '{}'), dict)
    except (ValueError, RecursionError) as error:
      raise ConfigurationError(
        f'env_kwargs={self.env_kwargs!r} must be a JSON object, such as {{"size": 8}}, with names '
        'and texts in double quotes. Change --env_kwargs.'
      ) from error

  @classmethod
  def of_older_version(cls, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields that a file of an older version has, as this version has them."""
    return super().of_older_version({'scale_numbers': False, **values})


_DEFAULT = GymnasiumConfig(
  level_name='gymnasium:CartPole-v1',
  agent='shallow',
  total_environment_frames=2_000_000,
  batch_size=8,
  unroll_length=20,
  num_action_repeats=1,
  seed=1,
  entropy_cost=0.01,
  baseline_cost=0.5,
  discounting=0.99,
  reward_clipping='none',
  learning_rate=0.001,
  decay=0.99,
  momentum=0.0,
  epsilon=0.01,
  clip_global_norm=40.0,
  width=84,
  height=84,
  frame_stack=1,
)

_MINIGRID = {
  'image_values': 'codes',
  'use_lstm': True,
  'total_environment_frames': 1_000_000,
  'learning_rate': 0.002,
  'epsilon': 0.0001,
}

# The modules that register environments whose names begin like this, and what their levels have in
# place of the preset's values. The Atari experts' (Table G.1) are for the environments of `ale_py`,
# which repeat each action four times by themselves.
_FAMILIES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
  'MiniGrid-': ('minigrid', _MINIGRID),
  'BabyAI-': ('minigrid', _MINIGRID),
  'ALE/': (
    'ale_py',
    {
      'total_environment_frames': 50_000_000,
      'batch_size': 32,
      'learning_rate': 0.0006,
      'reward_clipping': 'abs_one',
      'frame_stack': 4,
      'env_kwargs': json.dumps({'obs_type': 'grayscale'}),
    },
  ),
}

# What single levels have in place of these, found by short trials; see results/README.md.
_TUNED: Mapping[str, Mapping[str, Any]] = {
  'CartPole-v1': {
    'total_environment_frames': 200_000,
    'learning_rate': 0.003,
    'reward_scale': 0.1,
  },
  'LunarLander-v3': {
    'total_environment_frames': 2_000_000,
    'learning_rate': 0.003,
    'reward_scale': 0.03,
  },
  'MiniGrid-DoorKey-5x5-v0': {'total_environment_frames': 400_000, 'use_lstm': False},
  'BabyAI-GoToRedBallGrey-v0': {'total_environment_frames': 400_000, 'use_lstm': False},
}


def module_of(name: str) -> str:
  """Returns the module that registers an environment, where its name alone says so; or ''."""
  return next((module for start, (module, _) in _FAMILIES.items() if name.startswith(start)), '')


def values_of(name: str) -> GymnasiumConfig:
  """Returns the values for an environment of a name as Gymnasium has it, without its module."""
  values: dict[str, Any] = {}
  for start, (_, of_family) in _FAMILIES.items():
    if name.startswith(start):
      values |= of_family
  return dataclasses.replace(_DEFAULT, **values | dict(_TUNED.get(name, {})))
