"""The suites of levels that there are, found by the name of a level.

    suite, config = suites.resolve('pong', batch_size=16)

A suite is registered by an entry point of its package,

    [project.entry-points."impala_tf.suites"]
    mine = "my_package.suite:SUITE"

which makes `--level_name=mine:easy` known to all commands, or it is not registered but named:
`--level_name=my_package.suite:easy` looks for `SUITE` in the module `my_package.suite`. The suites
of this project are registered in its own pyproject.toml, which serves a clone of it that is not
installed, too.
"""

import functools
import importlib.metadata
import pathlib
import re
import tomllib
from typing import Any

from absl import logging

from impala_tf.config import Config, ConfigurationError
from impala_tf.config.options import did_you_mean, import_module
from impala_tf.environments.suite import Suite, split_level_name

GROUP = 'impala_tf.suites'
_ATTRIBUTE = 'SUITE'


@functools.cache
def registered() -> dict[str, Suite]:
  """Returns the registered suites by name, in the order in which they are asked for a plain name of
  a level. One that can't be loaded is missing, with a warning.
  """
  found = {}
  for name, value in _entries().items():
    try:
      found[name] = _load(value)
    except ConfigurationError as error:
      logging.warning('The levels of the suite %s are not known here: %s', name, error)
  return found


def _entries():
  """Returns by name where the registered suites are."""
  project = pathlib.Path(__file__).parents[2] / 'pyproject.toml'
  values = {}
  if project.exists():
    table = tomllib.loads(project.read_text(encoding='utf-8'))
    values = table.get('project', {}).get('entry-points', {}).get(GROUP, {})
  for entry_point in importlib.metadata.entry_points(group=GROUP):
    values.setdefault(entry_point.name, entry_point.value)
  return dict(sorted(values.items()))


def presets() -> dict[str, Config]:
  """Returns the presets of all registered suites, by name."""
  return {name: config for suite in registered().values() for name, config in suite.presets.items()}


def option_names() -> set[str]:
  """Returns the names of the options that not all registered suites have."""
  every = Config.field_names()
  return {
    name
    for suite in registered().values()
    for name in suite.config_class.field_names()
    if name not in every
  }


def find(level_name: str) -> Suite:
  """Returns the suite that has a level.

  Raises:
    ConfigurationError: if there is none, with the nearest names of all suites.
  """
  prefix, _ = split_level_name(level_name)
  if prefix:
    return registered().get(prefix) or _load(_entries().get(prefix, f'{prefix}:{_ATTRIBUTE}'))

  with_plain_names = [suite for suite in registered().values() if suite.has_plain_names]
  for suite in with_plain_names:
    if re.match(suite.claimed_names, level_name):
      return suite

  for suite in with_plain_names:
    try:
      suite.find(level_name)
      return suite
    except ConfigurationError:
      continue

  known = [
    level if suite.has_plain_names else f'{name}:{level}'
    for name, suite in registered().items()
    for level in suite.known_levels()
  ]
  hint = did_you_mean(level_name.strip().lower(), known)
  raise ConfigurationError(
    f'No suite has a level {level_name!r}. {hint} A level script of DeepMind Lab is named by its '
    'path, with a slash in it; an environment of Gymnasium as gymnasium:CartPole-v1; a level of a '
    'suite of your own as my_package.module:my_level.'
  )


def resolve(level_name: str, **overrides: Any) -> tuple[Suite, Config]:
  """Returns the suite of a level, and the configuration of a run on it.

  Args:
    level_name: in any spelling.
    **overrides: fields that are other than the level's preset.

  Raises:
    ConfigurationError: if no suite has the level, or a value is refused.
  """
  suite = find(level_name)
  return suite, suite.configure(level_name, **overrides)


def _load(value: str) -> Suite:
  module_name, _, attribute = value.partition(':')
  try:
    suite = getattr(import_module(module_name), attribute)
  except (ConfigurationError, AttributeError) as error:
    raise ConfigurationError(
      f'There is no suite {value}: {error} Before the colon of a level stands the name of a suite '
      'that is registered, or a module on the path (see PYTHONPATH) with an instance of '
      f'`Suite` by the name of {_ATTRIBUTE}.'
    ) from error

  if not isinstance(suite, Suite):
    raise ConfigurationError(f'{value} is a {type(suite).__name__}, not an instance of `Suite`.')
  return suite
