"""The definition of a sweep, kept in its folder as sweep.json, by which later starts resume it."""

import dataclasses
import json
import os
from typing import Any

from impala_tf import config as config_lib
from impala_tf import files
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.sweeps import search_space
from impala_tf.sweeps.search_space import Space

FILE_NAME = 'sweep.json'


@dataclasses.dataclass(frozen=True)
class Sweep:
  """Definition of a sweep.

  given: the hyper-parameters that all trials have in common, by name.
  space: from names to the distributions of the others.
  num_trials: number of samples.
  sweep_seed: decides the samples.

  Raises:
    ConfigurationError: if a hyper-parameter is both given and drawn.
  """

  given: dict[str, Any]
  space: Space
  num_trials: int = 24
  sweep_seed: int = 1

  def __post_init__(self):
    """Checks the definition."""
    both = sorted(self.space.keys() & self.given.keys())
    if both:
      raise ConfigurationError(
        f'{both[0]} is both given and in the search space. Leave --{both[0]} out, or give another '
        '--space.'
      )

  def samples(self) -> list[dict[str, Any]]:
    """Returns the hyper-parameters that were drawn, for each trial."""
    return search_space.draw(self.space, self.num_trials, self.sweep_seed)

  def as_json(self) -> dict[str, Any]:
    """Returns the contents of sweep.json."""
    texts = search_space.as_texts(self.space)
    return dataclasses.asdict(dataclasses.replace(self, space={})) | {'space': texts}


def load(logdir: str) -> Sweep | None:
  """Returns the sweep in a folder, None if there is none.

  Raises:
    ConfigurationError: if its file can't be understood, or is an earlier version's and names a
      database.
  """
  path = os.path.join(logdir, FILE_NAME)
  try:
    values = files.read_json(path)
    if values is None:
      return None
    database = values.pop('storage', '')
    if 'level_name' in values['given']:
      suites.find(values['given']['level_name'])  # Whose options may be in the space.
    sweep = Sweep(**values | {'space': search_space.from_texts(values['space'])})
  except (ValueError, KeyError, TypeError, ConfigurationError) as error:
    raise ConfigurationError(
      f'{path}: {error} Repair or remove the file, or give another --logdir.'
    ) from error
  if database:
    raise ConfigurationError(
      f'The sweep in {logdir} is kept in a database, by an earlier version. Remove {path} and give '
      'the same command again without --storage: its trials resume from their folders, and those '
      'that had finished are found finished.'
    )
  return sweep


def check_or_save(logdir: str, sweep: Sweep) -> None:
  """Writes the definition on the first start; on later ones makes sure that it is the same.

  Args:
    logdir: existing folder.
    sweep: the sweep that is about to start.

  Raises:
    ConfigurationError: if the folder has another sweep. The number of trials may grow, and fields
      that leave alone what is learned may change.
  """
  old = load(logdir)
  if old is not None:
    different = [name for name in ('space', 'sweep_seed') if _differ(old, sweep, name)]
    if config_lib.learning_overrides(old.given) != config_lib.learning_overrides(sweep.given):
      different.append('given')
    if sweep.num_trials < old.num_trials:
      different.append('num_trials')
    if different:
      _refuse(logdir, old.as_json(), sweep.as_json(), different)
  files.write_json(os.path.join(logdir, FILE_NAME), sweep.as_json())


def _differ(old, new, name):
  return getattr(old, name) != getattr(new, name)


def _refuse(logdir, old, new, different):
  rows = '\n'.join(
    f'  {name}: {json.dumps(old[name])} in {FILE_NAME}, {json.dumps(new[name])} now'
    for name in different
  )
  raise ConfigurationError(
    f'The sweep in {logdir} is another one:\n{rows}\nGive the old values to resume it, or another '
    '--logdir.'
  )
