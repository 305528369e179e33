"""The definition of a sweep, kept in its folder as sweep.json, by which later starts resume it."""

import dataclasses
import json
import os
from typing import Any

from impala_tf import config as config_lib
from impala_tf import files
from impala_tf.config import ConfigurationError, options
from impala_tf.environments import suites
from impala_tf.errors import FileError
from impala_tf.sweeps import search_space
from impala_tf.sweeps.search_space import Space

FILE_NAME = 'sweep.json'
_MAX_TRIALS = 1_000_000
_REMEDY = 'Repair or remove the file, or give another --logdir.'


@dataclasses.dataclass(frozen=True)
class _File:
  """The contents of sweep.json; `storage` is of earlier versions."""

  given: dict[str, options.Value]
  space: dict[str, str]
  num_trials: int
  sweep_seed: int
  storage: str | None = None


@dataclasses.dataclass(frozen=True)
class Sweep:
  """Definition of a sweep.

  Attributes:
    given: the hyper-parameters that all trials have in common, by name.
    space: from names to the distributions of the others.
    num_trials: number of samples.
    sweep_seed: decides the samples.

  Raises:
    ConfigurationError: if a hyper-parameter is both given and drawn, or a number makes no sense.
  """

  given: dict[str, Any]
  space: Space
  num_trials: int = 24
  sweep_seed: int = 1

  def __post_init__(self):
    """Checks the definition."""
    if not 1 <= self.num_trials <= _MAX_TRIALS or self.sweep_seed < 0:
      raise ConfigurationError(
        f'num_trials={self.num_trials} must be from 1 to {_MAX_TRIALS:_}, and sweep_seed='
        f'{self.sweep_seed} at least 0. Change --num_trials or --sweep_seed.'
      )
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
    FileError: if its file can't be understood.
    ConfigurationError: if that is an earlier version's and names a database.
  """
  path = os.path.join(logdir, FILE_NAME)
  found = files.read_json(path, _File | None, _REMEDY)
  if found is None:
    return None
  try:
    if 'level_name' in found.given:
      suites.find(str(found.given['level_name']))  # Whose options may be in the space.
    given = {
      name: options.check(config_lib.field_of(name), value) for name, value in found.given.items()
    }
    space = search_space.from_texts(found.space)
    sweep = Sweep(given, space, found.num_trials, found.sweep_seed)
  except ConfigurationError as error:
    raise FileError(path, f'is refused: {error}', _REMEDY) from error

  if found.storage:
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
      that leave alone what is learned may change; so may choices that trials take in turn, if more
      are added to them.
  """
  old = load(logdir)
  if old is not None:
    different = [] if _continues(old, sweep) else ['space']
    if sweep.sweep_seed != old.sweep_seed:
      different.append('sweep_seed')
    if config_lib.learning_overrides(old.given) != config_lib.learning_overrides(sweep.given):
      different.append('given')
    if sweep.num_trials < old.num_trials:
      different.append('num_trials')
    if different:
      _refuse(logdir, old.as_json(), sweep.as_json(), different)
  files.write_json(os.path.join(logdir, FILE_NAME), sweep.as_json())


def _continues(old, new):
  """Returns whether the trials of an old sweep have the same samples by the space of a new one."""

  def is_longer(before, after):
    """Whether there are more choices, of which the old trials took none but those before."""
    are_in_turn = isinstance(before, search_space.Each) and isinstance(after, search_space.Each)
    return (
      are_in_turn
      and old.num_trials <= len(before.choices)
      and before.choices == after.choices[: len(before.choices)]
    )

  return old.space.keys() == new.space.keys() and all(
    form == new.space[name] or is_longer(form, new.space[name]) for name, form in old.space.items()
  )


def _refuse(logdir, old, new, different):
  rows = '\n'.join(
    f'  {name}: {json.dumps(old[name])} in {FILE_NAME}, {json.dumps(new[name])} now'
    for name in different
  )
  raise ConfigurationError(
    f'The sweep in {logdir} is another one:\n{rows}\nGive the old values to resume it, or another '
    '--logdir.'
  )
