"""A member of a population: a training run that now and then compares itself with another one,
copies it, and explores.

The members have no master. They meet in a folder that all of them see:

    population.json             what defines the population
    member_000/                 an ordinary run
      member.json               its fitness at its last evaluation; replaced whole
      lineage.jsonl             its history, see `lineage`

A member reads the others' files and writes only its own. Whatever happens to one of them, at any
moment, the others continue: a file that is missing or torn means one opponent less, and a
checkpoint appears when it is whole.
"""

import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from impala_tf import files
from impala_tf.config import Config, ConfigurationError
from impala_tf.environments.suite import Suite
from impala_tf.learning import learner as learner_lib
from impala_tf.pbt import lineage, rules
from impala_tf.pbt.population import Population
from impala_tf.training import checkpoints, episode_log, loop
from impala_tf.training.episodes import Episode

POPULATION_FILE = 'population.json'
MEMBER_FILE = 'member.json'
_PREFIX = 'member_'


def member_folder(population: str, number: int) -> str:
  """Returns the folder of a member."""
  return os.path.join(population, f'{_PREFIX}{number:03d}')


def member_folders(population: str) -> dict[str, str]:
  """Returns the folders of the members that there are, by name."""
  names = sorted(name.rstrip('/') for name in tf.io.gfile.listdir(population))
  return {name: os.path.join(population, name) for name in names if name.startswith(_PREFIX)}


def define(path: str, population: Population) -> None:
  """Writes what defines a population, or makes sure that it is what is there.

  Args:
    path: folder of the population, anything that tf.io.gfile takes; made if missing.
    population: its definition.

  Raises:
    ConfigurationError: if another population is there.
  """
  checkpoints.prepare_logdir(path)
  population = population.lasting()
  if not tf.io.gfile.exists(os.path.join(path, POPULATION_FILE)):
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
    ConfigurationError: if there is none, or it can't be understood.
  """
  file = os.path.join(path, POPULATION_FILE)
  remedy = 'Repair or remove the file, or give another folder.'
  try:
    found = files.read_json(file)
  except ValueError as error:
    raise ConfigurationError(f'{error} {remedy}') from error
  if found is None:
    raise ConfigurationError(
      f'No population in {path}: it has no {POPULATION_FILE}. Start one with impala_tf.pbt.'
    )
  try:
    return Population(**found | {'rules': rules.Rules(**found['rules'])})
  except (TypeError, KeyError) as error:
    raise ConfigurationError(f'{file} does not define a population ({error}). {remedy}') from error


def read_fitnesses(path: str) -> dict[str, float]:
  """Returns the fitness that each member of a population has published, by its name."""
  fitnesses = {}
  for name, folder in member_folders(path).items():
    try:
      published = files.read_json(os.path.join(folder, MEMBER_FILE))
      if published is not None:
        fitnesses[name] = float(published['fitness'])
    except (ValueError, KeyError, TypeError, tf.errors.OpError) as error:
      logging.warning('%s is left out: %s', name, error)
  return fitnesses


def read_histories(path: str) -> dict[str, list[lineage.Event]]:
  """Returns the history of each member of a population, by its name."""
  return {name: lineage.read(folder) for name, folder in member_folders(path).items()}


class _State(tf.Module):
  """State of a member in its checkpoints, besides a run's: hyper-parameters and evaluations.

  evaluations: int64, how many there were.
  evaluated_at: int64, the member's frames at the last one.
  """

  def __init__(self, tunable, name='member'):
    super().__init__(name=name)
    for parameter, variable in tunable.variables().items():
      setattr(self, parameter, variable)
    self.evaluations = tf.Variable(0, dtype=tf.int64, trainable=False, name='evaluations')
    self.evaluated_at = tf.Variable(0, dtype=tf.int64, trainable=False, name='evaluated_at')


class Member(loop.Callback):
  """A callback by which a run takes part in a population."""

  def __init__(self, suite: Suite, config: Config, logdir: str):
    """Describes the member whose folder is `logdir`, in the folder of its population.

    Raises:
      ConfigurationError: if there is no population, or the learning rate decays: a population finds
        its own schedule.
    """
    if config.learning_rate_decay != 'none':
      raise ConfigurationError(
        'A member of a population finds its own schedule: give it --learning_rate_decay=none.'
      )
    self._suite = suite
    self._levels = suite.levels(config)
    self._seed = config.seed
    self._folder = logdir
    self._population, self._name = os.path.split(
      logdir.rstrip('/') if '://' in logdir else os.path.normpath(logdir)
    )
    self._rules = read_population(self._population).rules
    self._learner: Any = None
    self._state: Any = None
    self._returns: dict[str, list[float]] = {}

  def bind(self, learner: learner_lib.Learner) -> dict[str, tf.Module]:
    """See `loop.Callback`."""
    self._learner = learner
    self._state = _State(learner.tunable)
    return {'member': self._state}

  def start(self, frames: int) -> None:
    """See `loop.Callback`."""
    lineage.repair(self._folder, int(self._state.evaluations))
    if not lineage.read(self._folder):
      self._log(evaluation=0, frames=frames, hyper_parameters=self._hyper_parameters())
    self._returns = {level: [] for level in self._levels}
    for row in episode_log.read(self._folder):
      if row.frames > max(int(self._state.evaluated_at), self._rules.burn_in_frames):
        self._returns[row.level].append(row.episode_return)

  def on_update(
    self,
    frames: int,
    metrics: learner_lib.Metrics,
    episodes: list[Episode],
    save: Callable[[], None],
  ) -> None:
    """See `loop.Callback`."""
    if frames > self._rules.burn_in_frames:
      for episode in episodes:
        self._returns[self._levels[episode.level]].append(episode.episode_return)
    if rules.is_due(self._rules, frames, self._returns):
      self._evolve(frames, save)

  def _evolve(self, frames, save):
    """Evaluates the member, copies a better one, explores, and publishes the result."""
    fitness = float(self._suite.fitness(self._returns))
    fitnesses = read_fitnesses(self._population)
    evaluation = int(self._state.evaluations) + 1
    # Not the generator of a start: the same choices are made again where an evaluation was lost and
    # is repeated.
    random = np.random.default_rng([self._seed, evaluation])
    opponent = rules.choose_opponent(self._name, fitnesses, random)

    source = None
    if opponent is not None and rules.should_copy(self._rules, fitness, fitnesses[opponent]):
      source = self._copy(opponent)
    before = self._hyper_parameters()
    after = rules.explore(self._rules, before, random)
    for name, variable in self._learner.tunable.variables().items():
      variable.assign(after[name])
    self._state.evaluations.assign(evaluation)
    self._state.evaluated_at.assign(frames)
    self._returns = {level: [] for level in self._levels}

    # History first: if the member dies before the checkpoint is whole, its next start drops what
    # came after the last one.
    self._log(
      evaluation=evaluation,
      frames=frames,
      hyper_parameters=self._hyper_parameters(),
      changed=[name for name in after if after[name] != before[name]],
      fitness=fitness,
      opponent=opponent,
      opponent_fitness=fitnesses.get(opponent),
      copied_from=source,
    )
    save()
    # The checkpoint before the fitness: a member that reads this and copies finds an agent at least
    # as new.
    published = {
      'member': self._name,
      'frames': frames,
      'evaluation': evaluation,
      'fitness': fitness,
      'hyper_parameters': self._hyper_parameters(),
    }
    files.write_json(os.path.join(self._folder, MEMBER_FILE), published)
    self._print(frames, fitness, source)

  def _copy(self, opponent):
    """Takes the weights, optimizer slots and hyper-parameters of another member.

    Returns:
      The `lineage.Source` of what was taken, None if that failed.
    """
    frames, evaluation = (tf.Variable(0, dtype=tf.int64, trainable=False) for _ in range(2))
    parts = {
      ('learner', 'agent'): self._learner.agent,
      ('learner', 'optimizer'): self._learner.optimizer,
      ('learner', 'frames'): frames,
      ('member', 'evaluations'): evaluation,
      **{
        ('member', name): variable for name, variable in self._learner.tunable.variables().items()
      },
    }
    try:
      checkpoints.load_parts(os.path.join(self._population, opponent), parts)
    except checkpoints.CheckpointError as error:
      logging.warning(
        "%s can't be copied, and %s continues with its own agent: %s", opponent, self._name, error
      )
      return None
    return lineage.Source(opponent, int(frames), int(evaluation))

  def _hyper_parameters(self):
    return {name: float(variable) for name, variable in self._learner.tunable.variables().items()}

  def _log(self, **event):
    lineage.append(self._folder, lineage.Event(time=time.time(), **event))

  def _print(self, frames, fitness, source):
    deed = f'copied {source.member}' if source else 'kept its agent'
    values = ', '.join(f'{name} {value:.4g}' for name, value in self._hyper_parameters().items())
    print(
      f'{self._name} at frame {frames:_}: fitness {fitness:.4g}, {deed}; now {values}', flush=True
    )
