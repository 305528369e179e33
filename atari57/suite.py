"""Atari-57 as a suite that `impala_tf` can train on and evaluate."""

import functools

import numpy as np

from atari57 import environment, games
from impala_tf import structs
from impala_tf.agent import agents
from impala_tf.config import ConfigurationError


def make():
  """An `AtariSuite`."""
  return AtariSuite()


class AtariSuite:
  """An `suite.Suite`; level names are those of `games.find_level`."""

  def check(self, config):
    """Refuses one agent for all games without the full action set; see `suite.Suite`."""
    if len(self.levels(config)) > 1 and not config.full_action_space:
      raise ConfigurationError(
        f'One agent for {config.level_name} needs actions that mean the same in all games. Give --full_action_space, or leave '
        'out --nofull_action_space, or the preset for experts that stands for it.'
      )

  def check_installed(self, config):
    """Nothing: emulator and games come with the requirements."""

  def levels(self, config):
    """All 57 for 'atari57', otherwise the games that are named."""
    return games.names_in(config.level_name)

  def num_actions(self, config):
    """18, or as many as the game uses."""
    return environment.num_actions(config.level_name, config.full_action_space)

  def observation_spec(self, config):
    """A stack of grey frames."""
    return structs.Observation(
      structs.ArraySpec((config.height, config.width, config.frame_stack), np.uint8)
    )

  def make_environment(self, level, seed, is_test, config):
    """A constructor of `environment.AtariEnvironment`."""
    return functools.partial(
      environment.AtariEnvironment,
      level,
      seed,
      is_test=is_test,
      full_action_space=config.full_action_space,
      num_action_repeats=config.num_action_repeats,
      max_noops=config.max_noops,
      repeat_action_probability=config.repeat_action_probability,
      frame_stack=config.frame_stack,
      height=config.height,
      width=config.width,
    )

  def make_agent(self, config):
    """The feed-forward agent of Section 5.3: it sees frames alone. Its shallow net has three
    convolutions.
    """
    return agents.make_agent(
      self.num_actions(config),
      network={'shallow': 'nature', 'deep': 'deep'}[config.agent],
      use_lstm=False,
      use_last_action_and_reward=False,
      use_instruction=False,
    )

  def scores(self, level_returns):
    """Median and mean over games of the human-normalised scores in percent.

    Args:
      level_returns: dict from each of the run's games to its unclipped returns, one at least.

    Returns:
      A dict from names to floats. The suite's name is in them only if the games are all 57; a
      single game has none.
    """
    if len(level_returns) == 1:
      return {}
    scores = [
      games.find(name).human_normalised(np.mean(returns)) for name, returns in level_returns.items()
    ]
    of = games.SUITE if len(scores) == len(games.all_games()) else 'games'
    return {
      f'{of}/training_median': float(np.median(scores)),
      f'{of}/training_mean': float(np.mean(scores)),
    }

  def fitness(self, level_returns):
    """The mean human-normalised score in percent, capped at 100 for each game; see `suite.Suite`."""
    scores = [
      games.find(name).human_normalised(np.mean(returns)) for name, returns in level_returns.items()
    ]
    return float(np.mean(np.minimum(scores, 100)))
