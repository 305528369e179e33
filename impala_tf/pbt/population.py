"""Definition of a population: its size, its rules, and what its members start with."""

import dataclasses

from impala_tf import config as config_lib
from impala_tf.cli import config_flags
from impala_tf.config import ConfigurationError, options
from impala_tf.pbt.rules import Rules
from impala_tf.sweeps import search_space

_MAX_MEMBERS = 10_000
ADAPTED = ('learning_rate', 'entropy_cost', 'epsilon', 'clip_global_norm')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Population:
  """The definition of a population, as its file has it.

  Attributes:
    population: how many members there are.
    seed: decides the first hyper-parameters and what is drawn later.
    given: the fixed hyper-parameters of all members, by name.
    space: from hyper-parameters to the distributions of their first values, as texts.
    rules: when members compare themselves and what they do then.

  Raises:
    ConfigurationError: if the settings make no sense.
  """

  population: int = 24
  seed: int = 1
  given: dict[str, options.Value]
  space: dict[str, str]
  rules: Rules = dataclasses.field(default_factory=Rules)

  def __post_init__(self):
    """Checks the settings."""
    if not 1 <= self.population <= _MAX_MEMBERS or self.seed < 0:
      raise ConfigurationError(
        f'population={self.population} must be from 1 to {_MAX_MEMBERS:_}, and seed={self.seed} at '
        'least 0. Change --population or --population_seed.'
      )

    for name, form in self.space.items():
      if name not in ADAPTED:
        raise ConfigurationError(
          f'{name} is not changed by a population, which adapts {", ".join(ADAPTED)}. Fix --{name}.'
        )
      if None in getattr(search_space.parse_one(name, form), 'choices', ()):
        raise ConfigurationError(
          f'--space={name}={form}: a population multiplies numbers, and none is not a number. '
          f'Leave it out, or fix --{name}.'
        )

    unwanted = sorted(self.given.keys() & {*self.space, 'seed', 'learning_rate_decay'})
    if unwanted:
      raise ConfigurationError(f'--{unwanted[0]} is set by the population itself. Leave it out.')

  def lasting(self) -> 'Population':
    """Returns the definition without what only concerns how fast a member runs."""
    return dataclasses.replace(self, given=config_lib.learning_overrides(self.given))

  def member_arguments(self, number: int) -> list[str]:
    """Returns the command line of a member."""
    space = {name: search_space.parse_one(name, form) for name, form in self.space.items()}
    initial = search_space.draw(space, number + 1, self.seed)[number]
    # Each its own seed: members that copied each other would otherwise play the same episodes.
    own = {'learning_rate_decay': 'none', 'seed': self.seed + number}
    return ['--population_member', *config_flags.arguments(self.given | initial | own)]
