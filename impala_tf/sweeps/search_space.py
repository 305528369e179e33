"""From which distributions hyper-parameters are drawn, and the drawing.

    space = parse(['learning_rate=log_uniform(5e-6,5e-3)', 'epsilon=categorical(0.1,1e-3)',
    'space.yaml'])
    samples = draw(space, num_samples=24, seed=1)      # a list of dicts

A YAML file holds the same, one `learning_rate: log_uniform(5e-6, 5e-3)` a line. This module imports
no TensorFlow.
"""

import dataclasses
import difflib
import os
import re
from typing import Any

import numpy as np
import yaml

from impala_tf import config as config_lib
from impala_tf.config import ConfigurationError

_FORM = re.compile(r'\s*(\w+)\s*\((.*)\)\s*', re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Uniform:
  """Evenly from `low` to `high`, whole numbers with both ends if these are such."""

  low: float
  high: float

  def at(self, quantile):
    """The value below which the given share, at least 0 and below 1, of the distribution lies."""
    if isinstance(self.low, int):
      return self.low + int(quantile * (self.high - self.low + 1))
    return self.low + quantile * (self.high - self.low)

  def __str__(self):
    return f'uniform({self.low},{self.high})'


@dataclasses.dataclass(frozen=True)
class LogUniform:
  """From `low` to `high`, its logarithm evenly; rounded to whole numbers if the ends are such."""

  low: float
  high: float

  def at(self, quantile):
    """As `Uniform.at`."""
    value = self.low * (self.high / self.low) ** quantile
    return round(value) if isinstance(self.low, int) else value

  def __str__(self):
    return f'log_uniform({self.low},{self.high})'


@dataclasses.dataclass(frozen=True)
class Categorical:
  """Each of the choices equally often."""

  choices: tuple[Any, ...]

  def at(self, quantile):
    """As `Uniform.at`."""
    return self.choices[int(quantile * len(self.choices))]

  def __str__(self):
    words = ('none' if choice is None else str(choice) for choice in self.choices)
    return f'categorical({",".join(words)})'


# Of the paper's sweeps and of the first members of its populations.
TABLE_D1 = {
  'entropy_cost': LogUniform(5e-5, 1e-2),
  'learning_rate': LogUniform(5e-6, 5e-3),
  'epsilon': Categorical((1e-1, 1e-3, 1e-5, 1e-7)),
}
_KINDS = ('uniform', 'log_uniform', 'categorical')


def parse(texts):
  """The distributions that texts describe.

  Args:
    texts: list of str, each 'field=kind(...)' or the path of a YAML file.

  Returns:
    A dict from fields of Config to distributions, in the order given.

  Raises:
    ConfigurationError: for a field or kind that does not exist, with the nearest name, a range that
      the field does not allow, a field given twice, or a file that can't be read.
  """
  space = {}
  for text in texts:
    for name, form in (
      _read_yaml(text).items() if text.endswith(('.yaml', '.yml')) else [_split(text)]
    ):
      if name in space:
        raise ConfigurationError(
          f'{name} has two distributions, {space[name]} and {form}. Leave one out.'
        )
      space[name] = parse_one(name, form)
  return space


def parse_one(name, form):
  """The distribution of one field that a text such as 'log_uniform(5e-6,5e-3)' describes; raises as
  `parse`.
  """
  if name == 'level_name':
    raise ConfigurationError('level_name is not a hyper-parameter: make a sweep of each level.')
  field = config_lib.field_of(name)
  match = _FORM.fullmatch(form)
  if match is None:
    raise ConfigurationError(
      f'{name}={form} is no distribution. Write one such as {name}=uniform(0.1,0.2), or {_all_kinds()}.'
    )
  kind, arguments = match[1], [argument for argument in match[2].split(',') if argument.strip()]
  if kind not in _KINDS:
    nearest = difflib.get_close_matches(kind, _KINDS, n=1)
    raise ConfigurationError(
      f'{kind!r} in {name}={form} is unknown. Did you mean {nearest[0] if nearest else _all_kinds()}?'
    )
  values = [config_lib.parse(name, argument) for argument in arguments]
  if kind == 'categorical':
    if not values:
      raise ConfigurationError(f'{name}={form} has no choices.')
    return Categorical(tuple(values))
  if len(values) != 2 or not all(type(value) in (int, float) for value in values):
    raise ConfigurationError(
      f'{name}={form} must have two numbers, the lowest and the highest {name} ({field.metadata["help"]}).'
    )
  low, high = values
  if low >= high:
    raise ConfigurationError(
      f'{name}={form}: {low} is not below {high}. Give the lowest value first.'
    )
  if kind == 'log_uniform' and low <= 0:
    raise ConfigurationError(f'{name}={form}: the logarithm needs a lowest value above 0.')
  return {'uniform': Uniform, 'log_uniform': LogUniform}[kind](low, high)


def draw(space, num_samples, seed):
  """Draws independent samples.

  Each field has a stream of its own, so that a sample depends on neither the number of samples nor
  the other fields: two sweeps with the same seed have the same first samples.

  Args:
    space: as from `parse`.
    num_samples: int.
    seed: int, at least 0.

  Returns:
    A list of dicts from fields to values.
  """
  quantiles = {
    name: np.random.default_rng([seed, *name.encode()]).random(num_samples) for name in space
  }
  return [
    {name: distribution.at(float(quantiles[name][i])) for name, distribution in space.items()}
    for i in range(num_samples)
  ]


def as_texts(space):
  """A search space with its distributions as `parse_one` takes them, a dict from fields to str."""
  return {name: str(distribution) for name, distribution in space.items()}


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
  except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
    raise ConfigurationError(f"Can't read the search space {path}: {error}") from error
  if not isinstance(contents, dict) or not all(isinstance(form, str) for form in contents.values()):
    raise ConfigurationError(
      f'{path} must have lines such as "learning_rate: log_uniform(5e-6, 5e-3)".'
    )
  return {str(name): form for name, form in contents.items()}


def _all_kinds():
  return ' or '.join(_KINDS)
