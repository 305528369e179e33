"""The learner of a cluster: its actors are processes of other machines, which come and go."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, ClassVar, Self

from impala_tf.acting import specs
from impala_tf.cluster import connection, heartbeats, roles, sockets
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
    unroll = specs.Specs(suite, config, learner.agent).unroll
    signature = connection.signature(suite, config, learner.agent, unroll)
    self._heartbeat = heartbeats.LearnerHeartbeat(
      'running', seed[-1], config.queue_capacity, signature
    )

  def _make_actors(self, suite, config, seed):
    return RemoteActors(suite.levels(config), self._clock)

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

  board: `heartbeats.Heartbeats`.
  membership: `heartbeats.Membership`.
  """

  error = None  # What happens to an actor is not the end: others may come.

  def __init__(self, levels: tuple[str, ...], clock: Callable[[], float] = time.monotonic):
    """Knows of nobody yet; `levels` are the names of the run's levels, `clock` gives seconds."""
    self.board = heartbeats.Heartbeats()
    self.membership = heartbeats.Membership(clock)
    self._levels = levels
    self._clock = clock
    self._next_look = clock()

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
    return self.membership.describe(self._levels)

  def poll(self) -> None:
    """Looks now and then at who is there."""
    if self._clock() >= self._next_look:
      self.refresh()

  def refresh(self) -> None:
    """Looks at who is there, and prints who came and went."""
    self._next_look = self._clock() + heartbeats.INTERVAL_SECONDS
    sockets.set_keepalive()  # Also of connections that were opened since, to fetch unrolls.
    came, went = self.membership.update(self.board.read())
    if came or went:
      changes = [
        f'{verb}: {", ".join(map(str, tasks))}'
        for verb, tasks in (('came', came), ('went', went))
        if tasks
      ]
      print(
        f'Connected actors: {self.connected} ({"; ".join(changes)}).'
        f'{self.membership.idle(self._levels)}',
        flush=True,
      )
