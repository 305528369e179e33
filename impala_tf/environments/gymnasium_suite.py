"""Any Gymnasium environment with discrete actions, as a level: `gymnasium:CartPole-v1`.

The paper has none of these environments. The preset's values are those of its Atari experts (Table
G.1), but for what concerns the emulator, and for small tasks: a shorter training, with more and
bolder updates for as many frames.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Sequence

from impala_tf import structs
from impala_tf.config import ConfigurationError, ImageConfig
from impala_tf.config.options import option
from impala_tf.environments import base
from impala_tf.environments.suite import Suite, split_level_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class GymnasiumConfig(ImageConfig):
  """The configuration of a run on a Gymnasium environment."""

  frame_stack: int = option(
    'most recent images in an observation, one for each agent step', minimum=1
  )
  repeat_action_probability: float = option(
    'probability with which each step takes the action of the step before (sticky actions)',
    default=0.0,
    minimum=0,
    below=1,
  )


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
  reward_clipping='abs_one',
  learning_rate=0.001,
  decay=0.99,
  momentum=0.0,
  epsilon=0.01,
  clip_global_norm=40.0,
  width=84,
  height=84,
  frame_stack=1,
)


class GymnasiumSuite(Suite):
  """Suite of single levels.

  The name of a level is what `gymnasium.make` takes; a module that registers the environment may
  precede it, as in `gymnasium:highway_env:highway-v0`.
  """

  name = 'gymnasium'
  config_class = GymnasiumConfig

  def known_levels(self) -> Sequence[str]:
    """Returns an example: the names have no end."""
    return ('CartPole-v1',)

  def find(self, level: str) -> str:
    """Returns the name; ConfigurationError with Gymnasium's own words if it does not have it."""
    import gymnasium  # It takes a moment, and concerns these levels alone.

    module, _, registered = level.rpartition(':')
    try:
      if module:
        importlib.import_module(module)  # As `gymnasium.make` does, and `gymnasium.spec` does not.
      gymnasium.spec(registered)
    except (gymnasium.error.Error, ImportError, ValueError, TypeError) as error:
      raise ConfigurationError(
        f'Gymnasium has no environment {level!r}: {error} One of another package is named with the '
        "module that registers it, such as 'gymnasium:highway_env:highway-v0'."
      ) from error
    return level

  def preset(self, level: str) -> GymnasiumConfig:
    """Returns the same values for all levels."""
    return dataclasses.replace(_DEFAULT, level_name=f'{self.name}:{level}')

  def check(self, config: GymnasiumConfig) -> None:
    """Makes the environment once.

    Raises:
      ConfigurationError: if it can't be made, or its spaces are not for this agent.
    """
    if len(self.observation_spec(config).frame.shape) == 1:
      for field, value in (('agent', 'shallow'), ('frame_stack', 1), ('precision', 'float32')):
        if getattr(config, field) != value and ':' not in str(getattr(config, field)):
          raise ConfigurationError(
            f'{config.level_name} gives vectors, and {field}={getattr(config, field)} is for '
            f'images. Take --{field}={value}.'
          )

  def levels(self, config: GymnasiumConfig) -> tuple[str, ...]:
    """Returns the one level, with the suite's name before it."""
    return (config.level_name,)

  def make_environment(
    self, level: str, seed: int, is_test: bool, config: GymnasiumConfig
  ) -> Callable[[], base.Environment]:
    """Returns a constructor of `gymnasium_environment.GymnasiumEnvironment`."""
    from impala_tf.environments import gymnasium_environment

    del is_test
    return functools.partial(
      gymnasium_environment.GymnasiumEnvironment,
      split_level_name(level)[1],
      seed,
      num_action_repeats=config.num_action_repeats,
      frame_stack=config.frame_stack,
      height=config.height,
      width=config.width,
      repeat_action_probability=config.repeat_action_probability,
    )

  def num_actions(self, config: GymnasiumConfig) -> int:
    """Returns as many as the environment has; ConfigurationError if it can't be made."""
    return self._ask(super().num_actions, config)

  def observation_spec(self, config: GymnasiumConfig) -> structs.Observation:
    """Returns that of the environment; ConfigurationError if it can't be made."""
    return self._ask(super().observation_spec, config)

  def _ask(self, question, config):
    import gymnasium

    try:
      return question(config)
    except (gymnasium.error.Error, ImportError) as error:
      raise ConfigurationError(f'Gymnasium could not make {config.level_name}: {error}') from error


SUITE = GymnasiumSuite()
