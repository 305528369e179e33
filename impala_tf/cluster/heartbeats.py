"""Heartbeats: what learner and actors of a cluster report of themselves, and who is there by them.

board = Heartbeats()
board.post(LearnerHeartbeat(...))                            # the learner
learner = board.exchange(role.task, ActorHeartbeat(...))     # an actor, every few seconds
came, went = membership.update(board.read())                 # the learner, every few seconds
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence

import tensorflow as tf

from impala_tf.cluster.roles import LEARNER_DEVICE

INTERVAL_SECONDS = 5.0  # between two heartbeats of an actor
LOST_SECONDS = 30.0  # without a new heartbeat, after which an actor counts as lost
_BOARD = 'heartbeats'  # the name of the table on the learner's machine
_LEARNER = -1  # the key of the learner's heartbeat; those of actors are their tasks
_NAMED = 6  # levels in a sentence


@dataclasses.dataclass(frozen=True)
class ActorHeartbeat:
  """Report of an actor's process on itself.

  beat: how many heartbeats it sent before; its sign of life.
  levels: the indices of the levels that it plays.
  unrolls: sent so far.
  restarts: of its processes of environments.
  statistics: counters of its environments by name.
  shares: how it spent its time since the heartbeat before, by stage.
  left: whether it has ended.
  refused: why the learner's settings are not its own, the empty text if they are.
  """

  beat: int = 0
  levels: list = dataclasses.field(default_factory=list)
  unrolls: int = 0
  restarts: int = 0
  statistics: dict = dataclasses.field(default_factory=dict)
  shares: dict = dataclasses.field(default_factory=dict)
  left: bool = False
  refused: str = ''

  def __post_init__(self) -> None:
    """Raises TypeError for what the learner could not add up."""
    numbers = (*self.levels, *self.statistics.values(), *self.shares.values())
    if not all(isinstance(number, int | float) for number in numbers):
      raise TypeError(f'Not all numbers: {self}')


@dataclasses.dataclass(frozen=True)
class LearnerHeartbeat:
  """Report of the learner on itself.

  state: 'running', 'stopped' (it will be back) or 'finished' (it will not); empty as long as it has
    reported nothing.
  starts: how often its run was started.
  queue_capacity: of its queue. An actor that asked for another one would be refused.
  signature: see `connection.signature`.
  """

  state: str = ''
  starts: int = 0
  queue_capacity: int = 0
  signature: dict = dataclasses.field(default_factory=dict)


class Heartbeats:
  """A table on the learner's machine in which each process keeps its heartbeat.

  A heartbeat is JSON, of which nothing is executed.
  """

  @staticmethod
  def _table():
    # Made in each function again: an object made eagerly would destroy the shared table when it is
    # collected.
    return tf.raw_ops.MutableHashTableV2(
      key_dtype=tf.int64, value_dtype=tf.string, shared_name=_BOARD
    )

  @tf.function(
    input_signature=[tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.string)], autograph=False
  )
  def _exchange(self, key, text):
    with tf.device(LEARNER_DEVICE):
      table = self._table()
      inserted = tf.raw_ops.LookupTableInsertV2(table_handle=table, keys=key, values=text)
      with tf.control_dependencies([inserted]):
        return tf.raw_ops.LookupTableFindV2(
          table_handle=table, keys=tf.constant(_LEARNER, tf.int64), default_value=''
        )

  @tf.function(input_signature=[], autograph=False)
  def _all(self):
    with tf.device(LEARNER_DEVICE):
      return tf.raw_ops.LookupTableExportV2(
        table_handle=self._table(), Tkeys=tf.int64, Tvalues=tf.string
      )

  def post(self, heartbeat: LearnerHeartbeat) -> None:
    """Replaces the heartbeat of the learner."""
    self._exchange(tf.constant(_LEARNER, tf.int64), _text(heartbeat))

  def exchange(self, task: int, heartbeat: ActorHeartbeat) -> LearnerHeartbeat:
    """Replaces the heartbeat of an actor, and returns the learner's.

    Raises:
      tf.errors.OpError: one of `connection.CONNECTION_ERRORS` if the learner is lost.
    """
    answer = self._exchange(tf.constant(task, tf.int64), _text(heartbeat)).numpy()
    return _parsed(LearnerHeartbeat, answer) or LearnerHeartbeat()

  def read(self) -> dict[int, ActorHeartbeat]:
    """Returns the heartbeats of the actors by their tasks, without what can't be understood."""
    keys, values = self._all()
    heartbeats = {
      int(key): _parsed(ActorHeartbeat, value)
      for key, value in zip(keys.numpy(), values.numpy(), strict=True)
    }
    return {
      task: heartbeat
      for task, heartbeat in heartbeats.items()
      if task != _LEARNER and heartbeat is not None
    }


def _text(heartbeat):
  return tf.constant(json.dumps(dataclasses.asdict(heartbeat)))


def _parsed(type_, text):
  """Reads a heartbeat from its text; returns None if it is another program's."""
  try:
    heartbeat = type_(**json.loads(text))
  except (TypeError, ValueError):
    return None
  sound = all(
    type(getattr(heartbeat, field.name)) is field.type for field in dataclasses.fields(type_)
  )
  return heartbeat if sound else None


class Membership:
  """Who is there, by their heartbeats: an actor is present as long as its heartbeat changes.

  present: the last heartbeat of each actor that is present, by its task.
  """

  def __init__(self, clock: Callable[[], float] = time.monotonic):
    """Knows of nobody yet; `clock` gives seconds."""
    self.present: dict[int, ActorHeartbeat] = {}
    self._clock = clock
    self._last_seen: dict[int, tuple[ActorHeartbeat, float]] = {}  # and when it was new

  def update(self, heartbeats: dict[int, ActorHeartbeat]) -> tuple[list[int], list[int]]:
    """Takes in what is on the board; returns the tasks that came and those that went."""
    now, before = self._clock(), set(self.present)
    for task, heartbeat in heartbeats.items():
      if task not in self._last_seen or self._last_seen[task][0] != heartbeat:
        self._last_seen[task] = (heartbeat, now)
    self.present = {
      task: heartbeat
      for task, (heartbeat, when) in sorted(self._last_seen.items())
      if now - when < LOST_SECONDS and not heartbeat.left
    }
    return sorted(set(self.present) - before), sorted(before - set(self.present))

  def describe(self, levels: Sequence[str]) -> str:
    """Says who is there and who was, in a sentence or two, given the names of the run's levels."""
    refused = [
      f'{task} ({heartbeat.refused})'
      for task, (heartbeat, _) in sorted(self._last_seen.items())
      if heartbeat.refused
    ]
    described = self._describe_present(levels)
    if refused:
      described += f' Refused for other settings: {", ".join(refused)}.'
    return described

  def _describe_present(self, levels):
    if not self._last_seen:
      return (
        'No actor has connected yet: start some, and see that they can reach the learner and it '
        'them.'
      )
    if not self.present:
      task, (_, when) = max(self._last_seen.items(), key=lambda item: item[1][1])
      return (
        f'No actor is connected; of the {len(self._last_seen)} that were, {task} was the last to '
        f'be heard of, {self._clock() - when:.0f} s ago.'
      )
    unrolls = sum(heartbeat.unrolls for heartbeat in self.present.values())
    return (
      f'{len(self.present)} actors are connected and have sent {unrolls} unrolls.'
      f'{self.idle(levels)}'
    )

  def idle(self, levels: Sequence[str]) -> str:
    """Says which of the levels nobody present plays, in a sentence after a space.

    Returns:
      The empty text if all are played.
    """
    played = {level for heartbeat in self.present.values() for level in heartbeat.levels}
    idle = [name for i, name in enumerate(levels) if i not in played]
    if not idle:
      return ''
    more = f' and {len(idle) - _NAMED} more' if len(idle) > _NAMED else ''
    return (
      f' Levels that nobody plays: {", ".join(idle[:_NAMED])}{more}. Start more actors, or give '
      'them more --num_actors.'
    )
