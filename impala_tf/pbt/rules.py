"""The rules of population-based training (Appendix F of the paper), as functions of numbers.

Where the paper is silent: each member counts its own episodes, from 0 after each evaluation, and
without those of the burn-in; a hyper-parameter that changes grows or shrinks equally often;
opponents are the members that have published a fitness.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from impala_tf.config import ConfigurationError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
  """The numbers of the rules; those of the paper by default.

  Attributes:
    burn_in_frames: environment frames of each member before it takes part.
    episodes: returns to collect for an evaluation.
    threshold: by how much an opponent must be better to be copied, in the unit of
      `suite.Suite.fitness`: percent.
    probability: with which each hyper-parameter changes after an evaluation.
    factor: by which it then is multiplied or divided.

  Raises:
    ConfigurationError: for a number that makes no sense.
  """

  burn_in_frames: int = 20_000_000
  episodes: int = 5_000
  threshold: float = 5.0
  probability: float = 1 / 3
  factor: float = 1.2

  def __post_init__(self):
    """Checks the numbers."""
    for name, valid, remedy in (
      ('burn_in_frames', self.burn_in_frames >= 0, 'at least 0'),
      ('episodes', self.episodes >= 1, 'at least 1'),
      ('threshold', self.threshold >= 0, 'at least 0'),
      ('probability', 0 <= self.probability <= 1, 'from 0 to 1'),
      ('factor', self.factor > 1, 'above 1'),
    ):
      if not valid:
        raise ConfigurationError(f'{name}={getattr(self, name)} must be {remedy}. Change --{name}.')


def is_due(rules: Rules, frames: int, level_returns: Mapping[str, Sequence[float]]) -> bool:
  """Returns whether a member is to be evaluated.

  Args:
    rules: when.
    frames: the member's own counter.
    level_returns: the returns of each level since the burn-in or the last evaluation.
  """
  enough = sum(map(len, level_returns.values())) >= rules.episodes
  return frames >= rules.burn_in_frames and enough and all(level_returns.values())


def choose_opponent(
  member: str, fitnesses: Mapping[str, float], random: np.random.Generator
) -> str | None:
  """Returns another member, each equally likely; None if there is none.

  Args:
    member: name of the one who asks.
    fitnesses: what each member has published.
    random: gives one number.
  """
  others = sorted(name for name in fitnesses if name != member)
  return others[int(random.random() * len(others))] if others else None


def should_copy(rules: Rules, fitness: float, opponents_fitness: float) -> bool:
  """Returns whether the opponent is better by more than the threshold.

  It is not if it is better by just as much, nor if its fitness is NaN.
  """
  return opponents_fitness > fitness + rules.threshold


def explore(
  rules: Rules, hyper_parameters: Mapping[str, float], random: np.random.Generator
) -> dict[str, float]:
  """Returns the hyper-parameters, each changed with the given probability.

  Args:
    rules: how.
    hyper_parameters: by name.
    random: gives two numbers for each hyper-parameter, changed or not.
  """
  changed = {}
  for name, value in hyper_parameters.items():
    changes, grows = random.random() < rules.probability, random.random() < 0.5
    changed[name] = value * (rules.factor if grows else 1 / rules.factor) if changes else value
  return changed
