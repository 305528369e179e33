"""The learner of a cluster: its actors are processes of other machines, which come and go."""

import dataclasses
import time

from impala_tf.cluster import connection, sockets
from impala_tf.environments import base
from impala_tf.training import arrangement, pipeline

BEAT_SECONDS = 5.0  # between two notices of an actor
LOST_SECONDS = 30.0  # without a new notice, after which an actor counts as lost
_NAMED = 6  # levels in a sentence
_FAREWELL_SECONDS = 10.0  # for actors to learn that the training is over
_DISMISSAL_SECONDS = 20.0  # the same, for those that still look for the learner: more than they pause between two attempts


def dismiss(stop, clock=time.monotonic):
  """Tells actors that the training is over, for a learner that is started when it is already.

  Args:
    stop: whatever is true once that is to end before its time.
    clock: gives seconds.
  """
  connection.HeartbeatBoard().post(connection.LearnerHeartbeat('finished'))
  deadline = clock() + _DISMISSAL_SECONDS
  while not stop and clock() < deadline:
    time.sleep(0.2)


class ClusterPipeline(pipeline.QueueFed, arrangement.Learning):
  """An `arrangement.Learning` whose queue is filled by other processes; see `cluster_actor` for
  their side.

  It needs none of them: it waits for unrolls, whoever sends them. What it says of them is what
    their notices tell.
  """

  _over_network = True

  def __init__(self, suite, config, agent, seed, version=0, clock=time.monotonic):
    """As `arrangement.Learning`; `clock` gives seconds."""
    super().__init__(suite, config, agent, seed, version)
    self._crowd = Membership(clock)
    self._make_queue(
      device=connection.LEARNER_DEVICE, shared_name=connection.QUEUE, serialized=True
    )
    self._levels = suite.levels(config)
    terms = connection.terms(suite, config, agent, self._specs.unroll)
    self._notice = connection.LearnerHeartbeat('running', seed[-1], config.queue_capacity, terms)
    self._heartbeat_board = connection.HeartbeatBoard()
    self._clock = clock
    self._next_look = clock()

  def __enter__(self):
    self.weights = self._publish_weights(
      device=connection.LEARNER_DEVICE, shared_name=connection.WEIGHTS
    )
    self.queue.size()  # Makes it: an actor that were the first to ask would make it as it thinks right.
    self._heartbeat_board.post(self._notice)
    self.staging.start()
    print('Waiting for actors.', flush=True)
    return self

  def _error(self):
    return None  # Whatever happens to an actor, others may come.

  @property
  def connected(self):
    """How many actor processes are connected."""
    return len(self._crowd.present)

  @property
  def restarts(self):
    """See `arrangement.Learning`; of those that are connected."""
    return sum(notice.restarts for notice in self._crowd.present.values())

  def statistics(self):
    """See `arrangement.Learning`; of those that are connected."""
    return base.added(notice.statistics for notice in self._crowd.present.values())

  def actor_shares(self):
    """See `arrangement.Learning`; the mean of those that are connected, over the time before their
    last notice.
    """

    def shares():
      known = [notice.shares for notice in self._crowd.present.values() if notice.shares]
      return {stage: seconds / len(known) for stage, seconds in base.added(known).items()}

    return shares

  def _whereabouts(self):
    self._look()
    return self._crowd.describe(self._levels)

  def _attend(self):
    if self._clock() >= self._next_look:
      self._look()

  def _look(self):
    self._next_look = self._clock() + BEAT_SECONDS
    sockets.set_keepalive()  # Also of connections that were opened since, to fetch unrolls.
    came, went = self._crowd.update(self._heartbeat_board.read())
    if came or went:
      changes = [
        f'{verb}: {", ".join(map(str, tasks))}'
        for verb, tasks in (('came', came), ('went', went))
        if tasks
      ]
      print(
        f'Connected actors: {self.connected} ({"; ".join(changes)}).{self._crowd.idle(self._levels)}',
        flush=True,
      )

  def __exit__(self, *exception):
    self._heartbeat_board.post(
      dataclasses.replace(self._notice, state='finished' if self.is_over else 'stopped')
    )
    # Actors that wait here look at the notice then.
    self.queue.close()
    self.staging.close()
    deadline = self._clock() + _FAREWELL_SECONDS
    while self.is_over and self.connected and self._clock() < deadline:
      time.sleep(0.2)
      self._look()


class Membership:
  """Who is there, made out from notices: an actor is present as long as its notice keeps changing.

  present: dict from the tasks of the actors that are to their last `connection.ActorHeartbeat`s.
  """

  def __init__(self, clock=time.monotonic):
    """Nobody yet; `clock` gives seconds."""
    self.present = {}
    self._clock = clock
    self._last_seen = {}  # By task: (notice, when it was new).

  def update(self, notices):
    """Takes note of what is on the heartbeat_board, a dict from tasks to notices.

    Returns:
      Lists of the tasks that came and went.
    """
    now, before = self._clock(), set(self.present)
    for task, notice in notices.items():
      if task not in self._last_seen or self._last_seen[task][0] != notice:
        self._last_seen[task] = (notice, now)
    self.present = {
      task: notice
      for task, (notice, when) in sorted(self._last_seen.items())
      if now - when < LOST_SECONDS and not notice.left
    }
    return sorted(set(self.present) - before), sorted(before - set(self.present))

  def describe(self, levels):
    """Who is there and who was, in a sentence or two, given the names of the run's levels."""
    refused = [
      f'{task} ({notice.refused})'
      for task, (notice, _) in sorted(self._last_seen.items())
      if notice.refused
    ]
    return self._presence(levels) + f' Refused for other settings: {", ".join(refused)}.' * bool(
      refused
    )

  def _presence(self, levels):
    if not self._last_seen:
      return 'No actor has connected yet: start some, and see that they can reach the learner and it them.'
    if not self.present:
      task, (_, when) = max(self._last_seen.items(), key=lambda item: item[1][1])
      ago = f'{self._clock() - when:.0f} s ago'
      return f'No actor is connected; of the {len(self._last_seen)} that were, {task} was the last to be heard of, {ago}.'
    unrolls = sum(notice.unrolls for notice in self.present.values())
    return f'{len(self.present)} actors are connected and have sent {unrolls} unrolls.{self.idle(levels)}'

  def idle(self, levels):
    """Which of the levels none of those present plays, in a sentence after a space; the empty text
    if there are none.
    """
    played = {level for notice in self.present.values() for level in notice.levels}
    idle = [name for i, name in enumerate(levels) if i not in played]
    if not idle:
      return ''
    more = f' and {len(idle) - _NAMED} more' if len(idle) > _NAMED else ''
    return f' Levels that nobody plays: {", ".join(idle[:_NAMED])}{more}. Start more actors, or give them more --num_actors.'
