"""The suites of levels that the commands know, found by the name of a level.

Nothing here imports a suite. They are looked up when a command asks, in packages that each have

    config.preset(level_name, agent)   the paper's hyper-parameters, or ConfigurationError for a
    level it does not have
    config.known_levels()              the names of its levels, for suggestions
    config.PRESETS                     the paper's hyper-parameters by names of their own, a dict
    suite.make()                        an `suite.Suite`; importing it loads TensorFlow

The name of a package is that of the level which stands for all levels of its suite, if there is
one.
"""

import dataclasses
import difflib
import importlib
import re

from impala_tf.config import ConfigurationError


@dataclasses.dataclass(frozen=True)
class _Entry:
  """package: name of the suite's package. own: names of levels that begin like this are this
  suite's or nobody's, a pattern.
  """

  package: str
  own: str

  def load(self, module):
    return importlib.import_module(f'{self.package}.{module}')


# In the order in which they are asked: any other name with a slash may be a level script of
# DeepMind Lab.
_ENTRIES = (
  _Entry('impala_tf.environments.gymnasium_levels', own='gymnasium:'),
  _Entry('atari57', own=r'ALE/|[^/:]+\+[^/:]*$'),
  _Entry('dmlab30', own='/?contributed/dmlab30/'),
)

PACKAGES = tuple(entry.package for entry in _ENTRIES)


class FoundSuite:
  """A suite that has the level it was looked up for."""

  def __init__(self, entry):
    """Made by `find`."""
    self._entry = entry

  def configure(self, level_name, **given):
    """The paper's `config.Config` for a level, but for the fields that are given.

    Raises:
      ConfigurationError: if a given value is refused.
    """
    preset = self._entry.load('presets').preset(level_name, given.get('agent', 'shallow'))
    return dataclasses.replace(preset, **given)

  def presets(self):
    """The `config.Config` that have names of their own, a dict."""
    return self._entry.load('presets').PRESETS

  def make(self):
    """The `suite.Suite`. It loads TensorFlow, which takes seconds."""
    return self._entry.load('suite').make()


def presets():
  """The `FoundSuite.presets` of all suites together."""
  return {
    name: values for entry in _ENTRIES for name, values in FoundSuite(entry).presets().items()
  }


def check(given, in_cluster=False):
  """Refuses what a run would refuse before anything is written that binds a folder to it.

  Args:
    given: a dict of fields of `Config`, `level_name` among them.
    in_cluster: whether its actors are other processes.

  Raises:
    ConfigurationError: if no suite has the level, or the suite, the fields or the training don't go
      with the given values.
  """
  from impala_tf.training import loop

  found = find(given['level_name'])
  loop.check(found.make(), found.configure(**given), in_cluster)


def find(level_name):
  """The `FoundSuite` that has a level.

  Raises:
    ConfigurationError: if no suite has it, with the nearest names of all suites.
  """
  for entry in _ENTRIES:
    try:
      entry.load('presets').preset(level_name, 'shallow')
      return FoundSuite(entry)
    except ConfigurationError:
      if re.match(entry.own, level_name):
        raise
  known = [name for entry in _ENTRIES for name in entry.load('presets').known_levels()]
  nearest = difflib.get_close_matches(level_name.strip().lower(), known)
  hint = f'Did you mean {" or ".join(nearest)}?' if nearest else f'Known: {", ".join(known)}.'
  raise ConfigurationError(
    f'{level_name!r} is neither one of the 57 Atari games nor a level of DMLab-30. {hint} Another level script of '
    'DeepMind Lab is named by its path, with a slash in it, an environment of Gymnasium as gymnasium:CartPole-v1.'
  )
