"""The 57 games: names, reference scores, and what the paper reports for each (Table C.1)."""

import csv
import dataclasses
import functools
import importlib.resources
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from impala_tf.config import ConfigurationError
from impala_tf.config.options import did_you_mean

SUITE = 'atari57'


@dataclasses.dataclass(frozen=True)
class Game:
  """One game, its scores as mean returns of whole games under up to 30 no-operation starts.

  Attributes:
    name: as the paper's tables have it, in snake case; also the name of the emulator's ROM.
    random: score of a random agent; human: of a human tester, both as in the literature since DQN.
    random_paper_implied, human_paper_implied: the same, but for two games where only these give the
      mean of normalised scores that the paper prints (Table 4): video_pinball's random score 0.0
      and pong's human score 9.3.
    acktr, reactor, impala_deep_multitask, impala_shallow_experts, impala_deep_experts: the columns
      of Table C.1. None where it has no number.
  """

  name: str
  random: float
  human: float
  random_paper_implied: float
  human_paper_implied: float
  acktr: float | None
  reactor: float | None
  impala_deep_multitask: float
  impala_shallow_experts: float
  impala_deep_experts: float

  def human_normalised(self, score: float, *, paper_implied: bool = False) -> float:
    """Returns a score in percent: 0 is the random agent's, 100 the human's.

    Args:
      score: mean return.
      paper_implied: whether to take the references that the paper's means imply.
    """
    random = self.random_paper_implied if paper_implied else self.random
    human = self.human_paper_implied if paper_implied else self.human
    return 100 * (score - random) / (human - random)


@functools.cache
def all_games() -> tuple[Game, ...]:
  """Returns the 57 games, by name."""
  text = (
    importlib.resources.files(__package__).joinpath('data/atari57.csv').read_text(encoding='utf-8')
  )
  rows = csv.reader(text.splitlines())
  names = next(rows)
  games = []
  for game, *numbers in rows:
    scores: dict[str, Any] = {
      name: float(number) if number else None
      for name, number in zip(names[1:], numbers, strict=True)
    }
    games.append(Game(name=game, **_by_field(scores)))

  return tuple(games)


@functools.cache
def find(name: str) -> Game:
  """Returns the game of a name in any usual spelling: ms_pacman, MsPacman, ALE/MsPacman-v5,
  MsPacmanNoFrameskip-v4.

  Raises:
    ConfigurationError: if there is no such game, with the names that are nearest.
  """
  by_key = {_key(game.name): game for game in all_games()}
  key = _key(name)
  if key in by_key:
    return by_key[key]
  hint = did_you_mean(key, [game.name for game in all_games()])
  raise ConfigurationError(f'{name!r} is not one of the 57 Atari games. {hint}')


def find_level(name: str) -> str:
  """Returns the name under which a run has a level: 'atari57', or that of a game or, with '+'
  between, several, in any spelling.

  Raises:
    ConfigurationError: if there is no such game, with the names that are nearest, or one is named
      twice.
  """
  if _key(name) == SUITE:
    return SUITE
  names = [find(part).name for part in name.split('+')]
  twice = next((game for game in names if names.count(game) > 1), None)
  if twice:
    raise ConfigurationError(f'{name!r} has {twice} twice. Name each game once.')
  return '+'.join(names)


def names_in(level: str) -> tuple[str, ...]:
  """Returns the games that a name from `find_level` stands for."""
  return tuple(game.name for game in all_games()) if level == SUITE else tuple(level.split('+'))


def normalised(scores: Mapping[str, float], *, paper_implied: bool = False) -> np.ndarray:
  """Returns human-normalised scores of all games in percent, float64 [57], as `all_games` has them.

  Args:
    scores: mean returns by game.
    paper_implied: as for `Game.human_normalised`.

  Raises:
    KeyError: if a game is missing.
  """
  return np.array(
    [game.human_normalised(scores[game.name], paper_implied=paper_implied) for game in all_games()]
  )


def _key(name: str) -> str:
  name = re.sub(r'^ALE/|(Deterministic|NoFrameskip)?-v\d+$', '', name.strip())
  return re.sub(r'[^a-z0-9]', '', name.lower())


def _by_field(scores: dict[str, Any]) -> dict[str, Any]:
  """Renames the columns of the file to the fields of Game."""
  fields = {'random_dqn_zoo': 'random', 'human_dqn_zoo': 'human'}
  return {fields.get(column, column): score for column, score in scores.items()}
