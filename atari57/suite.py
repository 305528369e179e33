"""Atari-57 as a suite that `impala_tf` can train on and evaluate, with the paper's
hyper-parameters.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from atari57 import games
from impala_tf import errors, structs
from impala_tf.config import ConfigurationError, StackedImageConfig
from impala_tf.config.options import option
from impala_tf.environments import base
from impala_tf.environments.suite import Suite

_MAX_LISTED = 5  # Of the games that are missing.


@dataclasses.dataclass(frozen=True, kw_only=True)
class AtariConfig(StackedImageConfig):
  """The configuration of a run on Atari."""

  max_noops: int = option(
    'most no-operation frames with which a game starts, drawn from 1 to this many; 0 for none; '
    'paper: 30',
    minimum=0,
  )
  full_action_space: bool = option(
    'all 18 actions of the console instead of those that a game uses; paper: for one agent on all '
    'games only',
    default=False,
  )


# Table G.1. The decay of RMSProp is in neither paper nor table; 0.99 is that of the authors' code.
# The paper does not state the number of actors; the machine and the policy lag decide it.
EXPERT = AtariConfig(
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
# values.
MULTI_TASK = dataclasses.replace(
  EXPERT,
  level_name=games.SUITE,
  total_environment_frames=57 * EXPERT.total_environment_frames,
  full_action_space=True,
)


class AtariSuite(Suite):
  """Suite of the 57 games; level names are those of `games.find_level`."""

  name = games.SUITE
  config_class = AtariConfig
  has_plain_names = True
  claimed_names = r'ALE/|[^/:]+\+[^/:]*$'
  shared_modules = ('atari57.environment',)
  # The level of an expert is to be given beside it.
  presets: ClassVar = {
    f'atari_{kind}_{agent}': dataclasses.replace(values, agent=agent)
    for kind, values in (('expert', EXPERT), ('multitask', MULTI_TASK))
    for agent in ('shallow', 'deep')
  }

  def known_levels(self) -> Sequence[str]:
    """Returns the names of the games, and of all of them together."""
    return [*(game.name for game in games.all_games()), games.SUITE]

  def find(self, level: str) -> str:
    """Returns 'atari57', or the name of a game, or of several with '+' between."""
    return games.find_level(level)

  def preset(self, level: str) -> AtariConfig:
    """Returns the paper's hyper-parameters for an expert on one game, or for one agent on all of
    them; shallow and deep agents have the same.

    An agent for some games has as many frames for each of them as one for all.
    """
    count = len(games.names_in(level))
    if level == games.SUITE:
      return MULTI_TASK
    if count == 1:
      return dataclasses.replace(EXPERT, level_name=level)
    return dataclasses.replace(
      MULTI_TASK,
      level_name=level,
      total_environment_frames=count * EXPERT.total_environment_frames,
    )

  def check(self, config: AtariConfig) -> None:
    """Refuses one agent for several games without the full action set."""
    if len(self.levels(config)) > 1 and not config.full_action_space:
      raise ConfigurationError(
        f'One agent for {config.level_name} needs actions that mean the same in all games. Give '
        '--full_action_space, or leave out --nofull_action_space, or the preset for experts that '
        'stands for it.'
      )

  def levels(self, config: AtariConfig) -> tuple[str, ...]:
    """Returns all 57 for 'atari57', otherwise the games that are named."""
    return games.names_in(config.level_name)

  def make_environment(
    self, level: str, seed: int, is_test: bool, config: AtariConfig
  ) -> Callable[[], base.Environment]:
    """Returns a constructor of `environment.AtariEnvironment`."""
    from atari57 import environment  # The emulator takes a moment to load.

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

  def num_actions(self, config: AtariConfig) -> int:
    """Returns 18, or as many as the game uses."""
    from atari57 import environment

    return environment.num_actions(config.level_name, config.full_action_space)

  def observation_spec(self, config: AtariConfig) -> structs.Observation:
    """Returns that of a stack of grey frames."""
    return structs.Observation(
      structs.ArraySpec((config.height, config.width, config.frame_stack), np.uint8)
    )

  def scores(self, level_returns: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Returns median and mean over games of the human-normalised scores in percent.

    The suite's name is in their names only if the games are all 57; a single game has none.
    """
    if len(level_returns) == 1:
      return {}
    scores = _human_normalised(level_returns)
    of = games.SUITE if len(scores) == len(games.all_games()) else 'games'
    return {
      f'{of}/training_median': float(np.median(scores)),
      f'{of}/training_mean': float(np.mean(scores)),
    }

  def fitness(self, level_returns: Mapping[str, Sequence[float]]) -> float:
    """Returns the mean human-normalised score in percent, of several games capped at 100 for each:
    none may make up for others. A single game has no cap, at which all good agents would be alike.
    """
    scores = _human_normalised(level_returns)
    return float(np.mean(np.minimum(scores, 100) if len(scores) > 1 else scores))

  def protocol(self, config: AtariConfig) -> dict[str, Any]:
    """Returns how games are played."""
    from atari57 import environment

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

  def describe(self, result_name: str, mean: float) -> str:
    """Returns percent of the way from a random to a human player."""
    return f', {games.find(result_name).human_normalised(mean):.1f}% human-normalised'

  def score_columns(self) -> dict[str, Callable[[str, float], float | str]]:
    """Returns the human-normalised score by either references."""

    def normalised(game: str, mean: float, paper_implied: bool) -> float:
      return games.find(game).human_normalised(mean, paper_implied=paper_implied)

    return {
      'human_normalised_percent': functools.partial(normalised, paper_implied=False),
      'human_normalised_percent_paper_implied': functools.partial(normalised, paper_implied=True),
    }

  def summary(self, level_returns: Mapping[str, Sequence[float]]) -> str:
    """Returns median and mean over all games, or which of them are missing."""
    missing = [game.name for game in games.all_games() if game.name not in level_returns]
    if missing:
      some = errors.listed(missing, _MAX_LISTED)
      return f'No score of Atari-57 yet, it lacks {len(missing)} of 57 games: {some}.'
    means = {name: float(np.mean(returns)) for name, returns in level_returns.items()}
    scores = [games.normalised(means, paper_implied=implied) for implied in (False, True)]
    return (
      f'Human-normalised score: median {np.median(scores[0]):.1f}%, mean {np.mean(scores[0]):.1f}% '
      f"({np.mean(scores[1]):.1f}% by the references that the paper's means imply)."
    )


def _human_normalised(level_returns):
  return [
    games.find(name).human_normalised(np.mean(returns)) for name, returns in level_returns.items()
  ]


SUITE = AtariSuite()
