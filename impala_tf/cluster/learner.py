"""The learner of a cluster: its actors are processes of other machines, which come and go."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

from absl import logging

from impala_tf.acting import group, specs
from impala_tf.cluster import (
  complaints,
  connection,
  heartbeats,
  intake,
  quiet_levels,
  roles,
  sockets,
)
from impala_tf.config import Config, ConfigurationError
from impala_tf.environments import base
from impala_tf.environments import suite as suite_lib
from impala_tf.learning import learner as learner_lib
from impala_tf.training import impala

_FAREWELL_SECONDS = 10.0  # for actors to learn that the training is over
# The same for those that still look for the learner: more than they pause between two attempts.
_DISMISSAL_SECONDS = 20.0


class ClusterSource(impala.QueueSource):
  """A source whose queue is filled by other processes; see `cluster.actor` for their side.

  It needs none of them in particular: it waits for unrolls, whichever process sends them.
  """

  _over_network = True
  _place_of_queue: ClassVar = {
    'device': roles.LEARNER_DEVICE,
    'shared_name': connection.QUEUE,
    'serialized': True,
  }
  _place_of_weights: ClassVar = {
    'device': roles.LEARNER_DEVICE,
    'shared_name': connection.WEIGHTS,
  }

  def __init__(
    self,
    suite: suite_lib.Suite,
    config: Config,
    learner: learner_lib.Learner,
    seed: list[int],
    clock: Callable[[], float] = time.monotonic,
  ):
    """Describes the parts, as `sources.Source` says; `clock` gives seconds."""
    self._clock = clock
    super().__init__(suite, config, learner, seed)
    self._intake = intake.Intake(
      self.queue, learner.agent.num_actions, len(suite.levels(config)), self.actors
    )
    unroll = specs.Specs(suite, config, learner.agent).unroll
    signature = connection.signature(suite, config, learner.agent, unroll)
    self._heartbeat = heartbeats.LearnerHeartbeat(
      'running', seed[-1], config.queue_capacity, signature
    )

  def _make_actors(self, suite, config, seed):
    long_lag = functools.partial(group.long_lag, config)
    return RemoteActors(suite.levels(config), config.hang_warning, self._clock, long_lag)

  def _dequeue_batch(self, size):
    return self._intake.batch(size)

  @classmethod
  def check(cls, suite: suite_lib.Suite, config: Config) -> None:
    """Checks a configuration, for the learner and for its actors.

    Raises:
      ConfigurationError: for what a cluster does not have.
    """
    if config.architecture != 'impala':
      raise ConfigurationError(
        f"architecture={config.architecture} is for one machine; a cluster's is impala. Leave out "
        '--architecture, or --job_name.'
      )
    if config.inference == 'shared':
      raise ConfigurationError(
        'inference=shared (all actors of a process wait for one batch) looks for new weights at '
        'each step, which is too often with a learner on another machine. Leave --inference out.'
      )

  @classmethod
  def announce_end(cls, stop: Any) -> None:
    """Informs actors for a while that the training is over, for a learner started after its end."""
    heartbeats.Heartbeats().post(heartbeats.LearnerHeartbeat('finished'))
    deadline = time.monotonic() + _DISMISSAL_SECONDS
    while not stop and time.monotonic() < deadline:
      time.sleep(0.2)

  def __enter__(self) -> Self:
    # Makes the queue: an actor that were the first to ask would make it with its own settings.
    self.queue.size()
    self.actors.board.post(self._heartbeat)
    self.staging.start()
    print('Waiting for actors.', flush=True)
    return self

  def __exit__(self, *exception) -> None:
    # Actors that came since the last look are to learn of the end, too.
    self.actors.refresh()
    state = 'finished' if self.is_over else 'stopped'
    self.actors.board.post(dataclasses.replace(self._heartbeat, state=state))
    # Actors that wait for room in it look at the heartbeat then.
    self.queue.close()
    self.staging.close()

    deadline = self._clock() + _FAREWELL_SECONDS
    while self.is_over and self.actors.connected and self._clock() < deadline:
      time.sleep(0.2)
      self.actors.refresh()


class RemoteActors:
  """Actors of other processes, as their heartbeats show them; see `sources.Source.actors`.

  Attributes:
    board: `heartbeats.Heartbeats`.
    membership: `heartbeats.Membership`.
    quiet_levels: `quiet_levels.QuietLevels`.
  """

  error = None  # What happens to an actor is not the end: others may come.

  def __init__(
    self,
    levels: tuple[str, ...],
    quiet_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    long_lag: Callable[[int, int], str] = lambda environments, processes: '',
  ):
    """Knows of nobody yet.

    Args:
      levels: names of the run's levels.
      quiet_seconds: for which a level may be without actors or unrolls unnoticed.
      clock: gives seconds.
      long_lag: gives a warning for a number of environments and of actor processes, as
        `group.long_lag`, or the empty text.
    """
    self.board = heartbeats.Heartbeats()
    self.membership = heartbeats.Membership(clock)
    self.quiet_levels = quiet_levels.QuietLevels(levels, quiet_seconds, clock)
    self._num_levels = len(levels)
    self._clock = clock
    self._long_lag = long_lag
    self._environments = 0
    self._next_look = clock()
    self._faulty_heartbeats = complaints.Complaints(
      'Heartbeats that are not understood are passed over',
      'Such an actor does not count as connected: restart it with the version of its learner.',
      clock,
    )
    self._refused = complaints.Complaints(
      'Actors with other settings than the learner were refused',
      'Start them with the flags of the learner, or without a level.',
      clock,
    )
    self._faulty_unrolls = complaints.Complaints(
      'Unrolls that the learner can not learn from are left out',
      'Look for the cause where these actors run: memory, environments, version.',
      clock,
    )

  @property
  def _present(self):
    return self.membership.present.values()

  @property
  def connected(self) -> int:
    """How many actor processes are connected."""
    return len(self._present)

  @property
  def restarts(self) -> int:
    """How often processes of environments were restarted, of the actors that are connected."""
    return sum(heartbeat.restarts for heartbeat in self._present)

  def statistics(self) -> dict[str, float]:
    """Returns the counters of the environments by name, of the actors that are connected."""
    return base.added(heartbeat.statistics for heartbeat in self._present)

  def shares(self) -> Callable[[], dict[str, float]]:
    """Returns a function: the mean of the connected actors' shares of time by stage.

    It is of the time before their last heartbeats.
    """

    def mean():
      known = [heartbeat.shares for heartbeat in self._present if heartbeat.shares]
      return {stage: share / len(known) for stage, share in base.added(known).items()}

    return mean

  def describe_wait(self) -> str:
    """Says which actors there are, for somebody who waits for their unrolls."""
    self.refresh()
    return f'{self.membership.describe()} {self.quiet_levels.unplayed()}'.rstrip()

  def poll(self) -> None:
    """Looks now and then at who is there, and whether all levels are played."""
    if self._clock() < self._next_look:
      return
    self.refresh()
    for kind in (self._faulty_heartbeats, self._refused, self._faulty_unrolls):
      kind.poll()
    if self.connected:
      for sentence in self.quiet_levels.warnings():
        logging.warning('%s', sentence)

  def count(self, levels: Sequence[int]) -> None:
    """Takes in the levels of unrolls that the learner has taken from the queue."""
    self.quiet_levels.count(levels)

  def left_out(self, task: int, reason: str) -> None:
    """Takes in that an unroll of an actor was left out."""
    self._faulty_unrolls.add(task, reason)

  def refresh(self) -> None:
    """Looks at who is there, and prints who came and went."""
    self._next_look = self._clock() + heartbeats.INTERVAL_SECONDS
    sockets.set_keepalive()  # Also of connections that were opened since, to fetch unrolls.
    sound, faults = self.board.read(self._num_levels)
    for task, fault in faults.items():
      self._faulty_heartbeats.add(task, fault)
    for task, heartbeat in sound.items():
      if heartbeat.refused and self.membership.is_new(task, heartbeat):
        self._refused.add(task, heartbeat.refused)
    came, went = self.membership.update(sound)
    self.quiet_levels.update(self.membership.present)
    if came or went:
      changes = [
        f'{verb}: {", ".join(map(str, tasks))}'
        for verb, tasks in (('came', came), ('went', went))
        if tasks
      ]
      print(f'Connected actors: {self.connected} ({"; ".join(changes)}).', flush=True)

    self._warn_of_lag()

  def _warn_of_lag(self):
    """Warns of a long lag whenever there are more environments than before: an actor that has just
    come does not have its environments yet.
    """
    before, self._environments = self._environments, sum(h.environments for h in self._present)
    warning = self._long_lag(self._environments, self.connected)
    if warning and self._environments > before:
      logging.warning('%s', warning)
