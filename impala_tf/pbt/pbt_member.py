"""A member of a population: a training run that now and then compares itself with another, copies
it, and explores.

The members have no master. They meet in a folder that all of them see:

    population.json             what defines the population
    member_000/                 an ordinary run
      member.json               its fitness at its last evaluation; replaced whole
      lineage.jsonl             its history, see `lineage`

A member reads the others' files and writes only its own. Whatever happens to one, at any moment,
the others go on: a file that is missing or torn means an opponent less, and a checkpoint appears
when it is whole.
"""

import os
import time

import numpy as np
import tensorflow as tf
from absl import logging

from impala_tf import config as config_lib
from impala_tf import files
from impala_tf.config import ConfigurationError
from impala_tf.pbt import lineage, pbt_rules
from impala_tf.training import checkpoints, episode_log

POPULATION_FILE = 'population.json'
MEMBER_FILE = 'member.json'
_PREFIX = 'member_'


def member_folder(population, number):
  """The folder of a member."""
  return os.path.join(population, f'{_PREFIX}{number:03d}')


def member_folders(population):
  """A dict from the names of the members that there are to their folders."""
  names = sorted(name.rstrip('/') for name in tf.io.gfile.listdir(population))
  return {name: os.path.join(population, name) for name in names if name.startswith(_PREFIX)}


def read_population(population):
  """What `pbt` wrote to define a population, a dict.

  Raises:
    ConfigurationError: if there is none, or it can't be understood.
  """
  path = os.path.join(population, POPULATION_FILE)
  try:
    found = files.read_json(path)
  except ValueError as error:
    raise ConfigurationError(
      f'{error} Repair or remove the file, or give another folder.'
    ) from error
  if found is None:
    raise ConfigurationError(
      f'No population in {population}: it has no {POPULATION_FILE}. Start one with impala_tf.pbt.'
    )
  return found


def read_fitnesses(population):
  """A dict from the names of members to the fitness that each has published; those that have none
  are not in it.
  """
  fitnesses = {}
  for name, folder in member_folders(population).items():
    try:
      published = files.read_json(os.path.join(folder, MEMBER_FILE))
      if published is not None:
        fitnesses[name] = float(published['fitness'])
    except (ValueError, KeyError, TypeError, tf.errors.OpError) as error:
      logging.warning('%s is left out: %s', name, error)
  return fitnesses


class _State(tf.Module):
  """What a checkpoint of a member has beside a run's: the hyper-parameters, and the evaluations.

  evaluations: int64, how many there were.
  evaluated_at: int64, the member's frames at the last one.
  """

  def __init__(self, tunable, name='member'):
    super().__init__(name=name)
    for parameter, variable in tunable.variables().items():
      setattr(self, parameter, variable)
    self.evaluations = tf.Variable(0, dtype=tf.int64, trainable=False, name='evaluations')
    self.evaluated_at = tf.Variable(0, dtype=tf.int64, trainable=False, name='evaluated_at')


class Member:
  """A `loop.Callback`."""

  def __init__(self, suite, config, logdir):
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
      os.path.normpath(logdir) if '://' not in logdir else logdir.rstrip('/')
    )
    self._rules = pbt_rules.Rules(**read_population(self._population)['rules'])
    self._learner = self._state = None
    self._returns = {}

  def bind(self, learner):
    """See `loop.Callback`."""
    self._learner = learner
    self._state = _State(learner.tunable)
    return {'member': self._state}

  def start(self, frames):
    """See `loop.Callback`."""
    lineage.repair(self._folder, int(self._state.evaluations))
    if not lineage.read(self._folder):
      self._log(frames=frames, hyper_parameters=self._hyper_parameters())
    self._returns = {level: [] for level in self._levels}
    for row in episode_log.read(self._folder):
      if row.frames > max(int(self._state.evaluated_at), self._rules.burn_in_frames):
        self._returns[row.level].append(row.episode_return)

  def on_update(self, frames, episodes, save):
    """See `loop.Callback`."""
    if frames > self._rules.burn_in_frames:
      for episode in episodes:
        self._returns[self._levels[episode.level]].append(episode.episode_return)
    if pbt_rules.is_due(self._rules, frames, self._returns):
      self._evolve(frames, save)

  def _evolve(self, frames, save):
    fitness = float(self._suite.fitness(self._returns))
    fitnesses = read_fitnesses(self._population)
    evaluation = int(self._state.evaluations) + 1
    # Not the generator of a start: the same choices are made again where an evaluation was lost and
    # is repeated.
    random = np.random.default_rng([self._seed, evaluation])
    opponent = pbt_rules.choose_opponent(self._name, fitnesses, random)
    better = opponent is not None and pbt_rules.should_copy(
      self._rules, fitness, fitnesses[opponent]
    )
    copied_from = self._copy(opponent) if better else None
    before = self._hyper_parameters()
    after = pbt_rules.explore(self._rules, before, random)
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
      copied_from=copied_from,
    )
    save()
    # The checkpoint before the fitness: who reads this and copies finds an agent at least as new.
    published = {
      'member': self._name,
      'frames': frames,
      'evaluation': evaluation,
      'fitness': fitness,
    }
    files.write_json(
      os.path.join(self._folder, MEMBER_FILE),
      published | {'hyper_parameters': self._hyper_parameters()},
    )
    self._tell(frames, fitness, opponent, copied_from)

  def _copy(self, opponent):
    """Takes the weights, optimizer slots and hyper-parameters of another; returns what they are
    from, None if it failed.
    """
    integer = lambda: tf.Variable(0, dtype=tf.int64, trainable=False)
    frames, evaluation = integer(), integer()
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
        "%s can't be copied, %s goes on with its own agent: %s", opponent, self._name, error
      )
      return None
    return {'member': opponent, 'frames': int(frames), 'evaluation': int(evaluation)}

  def _hyper_parameters(self):
    return {name: float(variable) for name, variable in self._learner.tunable.variables().items()}

  def _log(self, **values):
    lineage.append(self._folder, lineage.Event(**{'evaluation': 0, 'time': time.time()} | values))

  def _tell(self, frames, fitness, opponent, copied_from):
    did = f'copied {opponent}' if copied_from else 'kept its agent'
    values = ', '.join(f'{name} {value:.4g}' for name, value in self._hyper_parameters().items())
    print(
      f'{self._name} at frame {frames:_}: fitness {fitness:.4g}, {did}; now {values}', flush=True
    )


def define(path, definition):
  """Writes what defines a population, or makes sure that it is what is there.

  Args:
    path: folder of the population, anything that tf.io.gfile takes; made if missing.
    definition: dict with `population`, `seed`, `given`, `space` and `rules`.

  Raises:
    ConfigurationError: if another population is there.
  """
  checkpoints.prepare_logdir(path)
  # How fast a member runs is a matter of its machine.
  definition = definition | {'given': config_lib.lasting(definition['given'])}
  if not tf.io.gfile.exists(os.path.join(path, POPULATION_FILE)):
    files.write_json(os.path.join(path, POPULATION_FILE), definition)
  there = read_population(path)
  different = [name for name in definition if there.get(name) != definition[name]]
  if different:
    rows = '\n'.join(
      f'  {name}: {there.get(name)} in {POPULATION_FILE}, {definition[name]} now'
      for name in different
    )
    raise ConfigurationError(
      f'The population in {path} is another one:\n{rows}\nGive the old values, or another --logdir.'
    )
