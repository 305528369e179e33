"""Search spaces: the distributions of hyper-parameters as texts, and samples drawn from them.

    space = parse(['learning_rate=log_uniform(5e-6,5e-3)', 'epsilon=categorical(0.1,1e-3)',
                   'space.yaml'])
    samples = draw(space, num_samples=24, seed=1)      # a list of dicts

A YAML file holds the same, one `learning_rate: log_uniform(5e-6, 5e-3)` a line. Distributions are
Optuna's. Whole numbers at both ends of a range give whole numbers, both ends among them.
`each(1,2,3)` is not random: trial after trial takes the next value, such as of seeds.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from impala_tf import config as config_lib
from impala_tf.config import ConfigurationError, options
from impala_tf.errors import FileError

_FORM = re.compile(r'\s*(\w+)\s*\((.*)\)\s*', re.DOTALL)


class Each(CategoricalDistribution):
  """Choices that samples take in turn."""


Distribution = FloatDistribution | IntDistribution | CategoricalDistribution
Space = Mapping[str, Distribution]

# Of the paper's sweeps and of the first members of its populations.
TABLE_D1: Space = {
  'entropy_cost': FloatDistribution(5e-5, 1e-2, log=True),
  'learning_rate': FloatDistribution(5e-6, 5e-3, log=True),
  'epsilon': CategoricalDistribution((1e-1, 1e-3, 1e-5, 1e-7)),
}
_KINDS = ('uniform', 'log_uniform', 'categorical', 'each')


def parse(texts: list[str]) -> Space:
  """Reads a search space as users write it.

  Args:
    texts: each 'field=kind(...)' or the path of a YAML file.

  Returns:
    From fields of Config to distributions, in the order given.

  Raises:
    ConfigurationError: for a field or kind that does not exist, with the nearest name, a range that
      the field does not allow, a field given twice, or a file that can't be read.
  """
  space: dict[str, Distribution] = {}
  for text in texts:
    is_file = text.endswith(('.yaml', '.yml'))
    for name, form in _read_yaml(text).items() if is_file else [_split(text)]:
      if name in space:
        raise ConfigurationError(
          f'{name} has two distributions, {as_text(space[name])} and {form}. Leave one out.'
        )
      try:
        space[name] = parse_one(name, form)
      except ConfigurationError as error:
        raise (FileError(text, f'is refused: {error}') if is_file else error) from error

  return space


def from_texts(texts: Mapping[str, str]) -> Space:
  """Reads a search space that `as_texts` wrote; raises as `parse`."""
  return {name: parse_one(name, form) for name, form in texts.items()}


def parse_one(name: str, form: str) -> Distribution:
  """Reads the distribution of one field, such as 'log_uniform(5e-6,5e-3)'; raises as `parse`."""
  if name == 'level_name':
    raise ConfigurationError('level_name is not a hyper-parameter: make a sweep of each level.')
  field = config_lib.field_of(name)
  match = _FORM.fullmatch(form)
  if match is None:
    raise ConfigurationError(
      f'{name}={form} is not a distribution. Write one such as {name}=uniform(0.1,0.2), or '
      f'{" or ".join(_KINDS)}.'
    )

  kind, arguments = match[1], [argument for argument in match[2].split(',') if argument.strip()]
  if kind not in _KINDS:
    raise ConfigurationError(
      f'{kind!r} in {name}={form} is unknown. {options.did_you_mean(kind, _KINDS)}'
    )

  values: list[Any] = [options.parse(field, argument) for argument in arguments]
  if kind in ('categorical', 'each'):
    if not values:
      raise ConfigurationError(f'{name}={form} has no choices.')
    return (Each if kind == 'each' else CategoricalDistribution)(tuple(values))

  if len(values) != 2 or not all(type(value) in (int, float) for value in values):
    raise ConfigurationError(
      f'{name}={form} must have two numbers, the lowest and the highest {name} '
      f'({field.metadata["help"]}).'
    )

  low, high = values
  if low >= high:
    raise ConfigurationError(
      f'{name}={form}: {low} is not below {high}. Give the lowest value first.'
    )

  if kind == 'log_uniform' and low <= 0:
    raise ConfigurationError(f'{name}={form}: the logarithm needs a lowest value above 0.')
  make = IntDistribution if isinstance(low, int) else FloatDistribution
  return make(low, high, log=kind == 'log_uniform')


def draw(space: Space, num_samples: int, seed: int) -> list[dict[str, Any]]:
  """Draws independent samples.

  Each field has a stream of its own, so that a sample depends on neither the number of samples nor
  the other fields: two sweeps with the same seed have the same first samples.

  Args:
    space: as from `parse`.
    num_samples: how many.
    seed: at least 0.

  Returns:
    Values by fields, for each sample.
  """
  quantiles = {
    name: np.random.default_rng([seed, *name.encode()]).random(num_samples) for name in space
  }
  return [
    {
      name: form.choices[i % len(form.choices)]
      if isinstance(form, Each)
      else value_at(form, float(quantiles[name][i]))
      for name, form in space.items()
    }
    for i in range(num_samples)
  ]


def value_at(distribution: Distribution, quantile: float) -> Any:
  """Returns the value below which a share of the distribution, at least 0 and below 1, lies."""
  if isinstance(distribution, CategoricalDistribution):
    return distribution.choices[int(quantile * len(distribution.choices))]

  low, high = distribution.low, distribution.high
  is_whole = isinstance(distribution, IntDistribution)
  if distribution.log:
    value = low * (high / low) ** quantile
    return round(value) if is_whole else value
  return low + (int(quantile * (high - low + 1)) if is_whole else quantile * (high - low))


def as_text(distribution: Distribution) -> str:
  """Returns a distribution in the form that `parse_one` takes."""
  if isinstance(distribution, CategoricalDistribution):
    words = ('none' if choice is None else str(choice) for choice in distribution.choices)
    return f'{"each" if isinstance(distribution, Each) else "categorical"}({",".join(words)})'
  kind = 'log_uniform' if distribution.log else 'uniform'
  return f'{kind}({distribution.low},{distribution.high})'


def of_optuna(space: Space) -> dict[str, Distribution]:
  """Returns a search space in distributions that Optuna knows."""
  return {
    name: CategoricalDistribution(form.choices) if isinstance(form, Each) else form
    for name, form in space.items()
  }


def as_texts(space: Space) -> dict[str, str]:
  """Returns a search space with its distributions as texts."""
  return {name: as_text(distribution) for name, distribution in space.items()}


def _split(text):
  name, equals, form = text.partition('=')
  if not equals:
    raise ConfigurationError(
      f'{text!r} is neither field=distribution nor a file that ends in .yaml.'
    )
  return name.strip(), form.strip()


def _read_yaml(path):
  try:
    with open(os.path.expanduser(path), encoding='utf-8') as file:
      contents = yaml.safe_load(file)
  except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
    raise ConfigurationError(
      f"Can't read the search space {path}: {' '.join(str(error).split())}"
    ) from error

  if not isinstance(contents, dict) or not all(isinstance(form, str) for form in contents.values()):
    raise ConfigurationError(
      f'{path} must have lines such as "learning_rate: log_uniform(5e-6, 5e-3)".'
    )

  return {str(name): form for name, form in contents.items()}
