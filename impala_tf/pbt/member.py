"""A member of a population: a training run that now and then compares itself with another one,
copies it, and explores.

The members have no master. They meet in a folder that all of them see, see `folder`. A member reads
the others' files and writes only its own. If one of them dies, at any moment, the others continue:
a file that is missing or torn means one opponent less, and a checkpoint appears when it is whole.
"""

import dataclasses
import itertools
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
from impala_tf.pbt import folder, lineage, rules
from impala_tf.system.paths import is_remote
from impala_tf.training import checkpoints, episode_log, loop
from impala_tf.training.episodes import Episode


class _State(tf.Module):
  """State of a member in its checkpoints, besides a run's: hyper-parameters and evaluations.

  Attributes:
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
      logdir.rstrip('/') if is_remote(logdir) else os.path.normpath(logdir)
    )
    self._rules = folder.read_population(self._population).rules
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
    folder.withdraw(self._folder, int(self._state.evaluations))
    if not lineage.read(self._folder):
      self._log(evaluation=0, frames=frames, hyper_parameters=self._hyper_parameters())
    self._returns = {level: [] for level in self._levels}
    since = max(int(self._state.evaluated_at), self._rules.burn_in_frames)
    newest = episode_log.newest_first(self._folder)
    for row in reversed([*itertools.takewhile(lambda row: row.frames > since, newest)]):
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
    fitnesses = folder.read_fitnesses(self._population)
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
    published = folder.Published(self._name, frames, evaluation, fitness, self._hyper_parameters())
    files.write_json(os.path.join(self._folder, folder.MEMBER_FILE), dataclasses.asdict(published))
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
