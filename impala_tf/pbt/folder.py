"""Folder of a population, where its members meet, as each of them and the commands see it.

population.json             what defines the population
member_000/                 an ordinary run
  member.json               its fitness at its last evaluation; replaced whole
  lineage.jsonl             its history, see `lineage`
"""

import contextlib
import dataclasses
import os

from absl import logging

from impala_tf import files
from impala_tf.config import ConfigurationError
from impala_tf.errors import FileError
from impala_tf.pbt import lineage
from impala_tf.pbt.population import Population

POPULATION_FILE = 'population.json'
MEMBER_FILE = 'member.json'
_PREFIX = 'member_'
_REMEDY = 'Repair or remove the file, or give another folder.'


def member_folder(population: str, number: int) -> str:
  """Returns the folder of a member."""
  return os.path.join(population, f'{_PREFIX}{number:03d}')


def member_folders(population: str) -> dict[str, str]:
  """Returns the folders of the members that there are, by name."""
  names = [name for name in files.names_in(population) if name.startswith(_PREFIX)]
  return {name: os.path.join(population, name) for name in names}


def define(path: str, population: Population) -> None:
  """Writes what defines a population, or makes sure that it is what is there.

  Args:
    path: folder of the population, anything that tf.io.gfile takes; made if missing.
    population: its definition.

  Raises:
    ConfigurationError: if another population is there.
  """
  files.prepare_folder(path)
  population = population.lasting()
  if not files.exists(os.path.join(path, POPULATION_FILE)):
    files.write_json(os.path.join(path, POPULATION_FILE), dataclasses.asdict(population))

  there = read_population(path)
  names = [field.name for field in dataclasses.fields(Population)]
  different = [name for name in names if getattr(there, name) != getattr(population, name)]
  if different:
    rows = '\n'.join(
      f'  {name}: {getattr(there, name)} in {POPULATION_FILE}, {getattr(population, name)} now'
      for name in different
    )
    raise ConfigurationError(
      f'The population in {path} is another one:\n{rows}\nGive the old values, or another --logdir.'
    )


def read_population(path: str) -> Population:
  """Returns the definition of the population in a folder.

  Raises:
    FileError: if its file can't be understood.
    ConfigurationError: if there is none.
  """
  found = files.read_json(os.path.join(path, POPULATION_FILE), Population | None, _REMEDY)
  if found is None:
    raise ConfigurationError(
      f'No population in {path}: it has no {POPULATION_FILE}. Start one with impala_tf.pbt.'
    )
  return found


@dataclasses.dataclass(frozen=True)
class Published:
  """The last evaluation of a member, as it publishes it: the contents of member.json."""

  member: str
  frames: int
  evaluation: int
  fitness: float
  hyper_parameters: dict[str, float]


def withdraw(member: str, evaluation: int) -> None:
  """Removes from a member's folder the fitness of a later evaluation than the given one, which was
  lost with the agent that had it.
  """
  path = os.path.join(member, MEMBER_FILE)
  with contextlib.suppress(FileError):  # Nobody reads one that is damaged.
    published = files.read_json(path, Published | None)
    if published is not None and published.evaluation > evaluation:
      files.remove(path)


def read_fitnesses(path: str) -> dict[str, float]:
  """Returns the fitness that each member of a population has published, by its name."""
  fitnesses = {}
  for name, folder in member_folders(path).items():
    try:
      published = files.read_json(os.path.join(folder, MEMBER_FILE), Published | None)
      if published is not None:
        fitnesses[name] = published.fitness
    except FileError as error:
      logging.warning('%s is left out: %s', name, error)
  return fitnesses


def read_histories(path: str) -> dict[str, list[lineage.Event]]:
  """Returns the history of each member of a population, by its name."""
  return {name: lineage.read(folder) for name, folder in member_folders(path).items()}
