"""Gymnasium's environments as a suite that `impala_tf` can train on and evaluate."""

import contextlib
import functools

import gymnasium
import numpy as np

from impala_tf.agent import agents
from impala_tf.config import ConfigurationError
from impala_tf.environments.gymnasium_levels import environment
from impala_tf.environments.gymnasium_levels.presets import PREFIX


def make():
  """A `GymnasiumSuite`."""
  return GymnasiumSuite()


class GymnasiumSuite:
  """An `suite.Suite` of single levels."""

  def check(self, config):
    """Makes the environment once.

    Raises:
      ConfigurationError: if it can't be made, its spaces are not for this agent, or a field has no
        meaning for it.
    """
    for field in ('max_noops', 'full_action_space'):
      if getattr(config, field):
        raise ConfigurationError(
          f'{field}={getattr(config, field)} is for Atari only. Leave --{field} out.'
        )
    if self._is_vector(config):
      for field, value in (('agent', 'shallow'), ('frame_stack', 1), ('precision', 'float32')):
        if getattr(config, field) != value:
          raise ConfigurationError(
            f'{config.level_name} gives vectors, and {field}={getattr(config, field)} is for images. Take --{field}={value}.'
          )

  def check_installed(self, config):
    """Nothing: `check` has made the environment."""

  def levels(self, config):
    """The one level."""
    return (config.level_name,)

  def num_actions(self, config):
    """As many as the environment has."""
    return _facts(self._constructor(config, seed=0))[0]

  def observation_spec(self, config):
    """See `environment.GymnasiumEnvironment`."""
    return _facts(self._constructor(config, seed=0))[1]

  def make_environment(self, level, seed, is_test, config):
    """A constructor of `environment.GymnasiumEnvironment`."""
    del level, is_test
    return self._constructor(config, seed)

  def make_agent(self, config):
    """Feed-forward: for images the paper's Atari agents, for vectors two layers of 64."""
    image_network = {'shallow': 'nature', 'deep': 'deep'}[config.agent]
    return agents.make_agent(
      self.num_actions(config),
      network='vector' if self._is_vector(config) else image_network,
      use_lstm=False,
      use_last_action_and_reward=False,
      use_instruction=False,
    )

  def scores(self, level_returns):
    """None: there are no references."""
    del level_returns
    return {}

  def fitness(self, level_returns):
    """The mean return; see `suite.Suite`."""
    return float(np.mean([np.mean(returns) for returns in level_returns.values()]))

  def _is_vector(self, config):
    return len(self.observation_spec(config).frame.shape) == 1

  def _constructor(self, config, seed):
    return functools.partial(
      environment.GymnasiumEnvironment,
      config.level_name.removeprefix(PREFIX),
      seed,
      num_action_repeats=config.num_action_repeats,
      frame_stack=config.frame_stack,
      height=config.height,
      width=config.width,
      repeat_action_probability=config.repeat_action_probability,
    )


def _facts(constructor):
  """The number of actions and the observations' spec of what a constructor makes;
  ConfigurationError if it can't.
  """
  return _facts_of(constructor.args, tuple(constructor.keywords.items()))


@functools.cache
def _facts_of(args, options):
  try:
    with contextlib.closing(environment.GymnasiumEnvironment(*args, **dict(options))) as made:
      return made.num_actions, made.observation_spec
  except (gymnasium.error.Error, ImportError) as error:
    raise ConfigurationError(f'Gymnasium could not make {args[0]}: {error}') from error
