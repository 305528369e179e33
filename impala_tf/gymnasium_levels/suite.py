"""Gymnasium's environments as a suite that `impala_tf` can train on and evaluate."""

import contextlib
import functools

import gymnasium
import numpy as np

from impala_tf import agents
from impala_tf.gymnasium_levels import environment
from impala_tf.gymnasium_levels.hparams import PREFIX
from impala_tf.hparams import ConfigurationError


def make():
  """A `GymnasiumSuite`."""
  return GymnasiumSuite()


class GymnasiumSuite:
  """An `experiment.Suite` of single levels."""

  def check(self, hparams):
    """Makes the environment once.

    Raises:
      ConfigurationError: if it can't be made, its spaces are not for this agent, or a field has no meaning for it.
    """
    for field in ('max_noops', 'full_action_space'):
      if getattr(hparams, field):
        raise ConfigurationError(f'{field}={getattr(hparams, field)} is for Atari only. Leave --{field} out.')
    if self._is_vector(hparams):
      for field, value in (('agent', 'shallow'), ('frame_stack', 1), ('precision', 'float32')):
        if getattr(hparams, field) != value:
          raise ConfigurationError(
            f'{hparams.level_name} gives vectors, and {field}={getattr(hparams, field)} is for images. Take --{field}={value}.'
          )

  def check_installed(self, hparams):
    """Nothing: `check` has made the environment."""

  def levels(self, hparams):
    """The one level."""
    return (hparams.level_name,)

  def num_actions(self, hparams):
    """As many as the environment has."""
    return _facts(self._constructor(hparams, seed=0))[0]

  def observation_spec(self, hparams):
    """See `environment.GymnasiumEnvironment`."""
    return _facts(self._constructor(hparams, seed=0))[1]

  def make_environment(self, level, seed, is_test, hparams):
    """A constructor of `environment.GymnasiumEnvironment`."""
    del level, is_test
    return self._constructor(hparams, seed)

  def make_agent(self, hparams):
    """Feed-forward: for images the paper's Atari agents, for vectors two layers of 64."""
    image_network = {'shallow': 'nature', 'deep': 'deep'}[hparams.agent]
    return agents.make_agent(
      self.num_actions(hparams),
      network='vector' if self._is_vector(hparams) else image_network,
      use_lstm=False,
      use_last_action_and_reward=False,
      use_instruction=False,
    )

  def scores(self, level_returns):
    """None: there are no references."""
    del level_returns
    return {}

  def fitness(self, level_returns):
    """The mean return; see `experiment.Suite`."""
    return float(np.mean([np.mean(returns) for returns in level_returns.values()]))

  def _is_vector(self, hparams):
    return len(self.observation_spec(hparams).frame.shape) == 1

  def _constructor(self, hparams, seed):
    return functools.partial(
      environment.GymnasiumEnvironment,
      hparams.level_name.removeprefix(PREFIX),
      seed,
      num_action_repeats=hparams.num_action_repeats,
      frame_stack=hparams.frame_stack,
      height=hparams.height,
      width=hparams.width,
      repeat_action_probability=hparams.repeat_action_probability,
    )


def _facts(constructor):
  """The number of actions and the observations' spec of what a constructor makes; ConfigurationError if it can't."""
  return _facts_of(constructor.args, tuple(constructor.keywords.items()))


@functools.cache
def _facts_of(args, options):
  try:
    with contextlib.closing(environment.GymnasiumEnvironment(*args, **dict(options))) as made:
      return made.num_actions, made.observation_spec
  except (gymnasium.error.Error, ImportError) as error:
    raise ConfigurationError(f'Gymnasium could not make {args[0]}: {error}') from error
