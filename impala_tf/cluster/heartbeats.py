"""Heartbeats: what learner and actors of a cluster report of themselves, and who is there by them.

The board is on the learner's machine, and each process calls its own part:

    board = Heartbeats()
    board.post(LearnerHeartbeat(...))                            # the learner
    learner, _ = board.exchange(role.task, ActorHeartbeat(...))  # an actor, every few seconds
    sound, faults = board.read(num_levels)                       # the learner, every few seconds
    came, went = membership.update(sound)
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable

import tensorflow as tf

from impala_tf.cluster.roles import LEARNER_DEVICE
from impala_tf.files import schema

INTERVAL_SECONDS = 5.0  # between two heartbeats of an actor
LOST_SECONDS = 30.0  # without a new heartbeat, after which an actor counts as lost
_BOARD = 'heartbeats'  # the name of the table on the learner's machine
_LEARNER = -1  # the key of the learner's heartbeat; those of actors are their tasks
# A heartbeat has a few kilobytes. What is larger, or has larger numbers, is not one: sums of such
# numbers would not be finite in the types of summaries.
_MAX_BYTES = 1 << 18
_MAX_NUMBER = 1e15


@dataclasses.dataclass(frozen=True)
class ActorHeartbeat:
  """Report of an actor's process on itself.

  Attributes:
    beat: how many heartbeats it sent before; its sign of life.
    levels: the indices of the levels that it plays.
    environments: how many of them it has.
    unrolls: sent so far.
    restarts: of its processes of environments.
    statistics: counters of its environments by name.
    shares: how it spent its time since the heartbeat before, by stage.
    left: whether it has ended.
    refused: why the learner's settings are not its own, the empty text if they are.
    process: an id that each start of an actor draws for itself.
  """

  beat: int = 0
  levels: list[int] = dataclasses.field(default_factory=list)
  environments: int = 0
  unrolls: int = 0
  restarts: int = 0
  statistics: dict[str, float] = dataclasses.field(default_factory=dict)
  shares: dict[str, float] = dataclasses.field(default_factory=dict)
  left: bool = False
  refused: str = ''
  process: str = ''

  def __post_init__(self) -> None:
    """Raises ValueError for what the learner could not add up."""
    for name in ('statistics', 'shares'):
      if not all(-_MAX_NUMBER <= value <= _MAX_NUMBER for value in getattr(self, name).values()):
        raise ValueError(f'{name} has a number that is not finite, or too large')
    for name in ('beat', 'environments', 'unrolls', 'restarts'):
      if not 0 <= getattr(self, name) <= _MAX_NUMBER:
        raise ValueError(f'{name} is not a count')


@dataclasses.dataclass(frozen=True)
class LearnerHeartbeat:
  """Report of the learner on itself.

  Attributes:
    state: 'running', 'stopped' (it will be back) or 'finished' (it will not); empty as long as it
      has reported nothing.
    starts: how often its run was started.
    queue_capacity: of its queue. An actor that asked for another one would be refused.
    signature: see `connection.signature`.
  """

  state: str = ''
  starts: int = 0
  queue_capacity: int = 0
  signature: dict[str, str] = dataclasses.field(default_factory=dict)


class Heartbeats:
  """A table on the learner's machine in which each process keeps its heartbeat.

  A heartbeat is JSON, of which nothing is executed.
  """

  def __init__(self):
    """Has read nothing yet."""
    self._faulty: dict[int, bytes] = {}

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
      before = tf.raw_ops.LookupTableFindV2(table_handle=table, keys=key, default_value='')
      with tf.control_dependencies([before]):
        inserted = tf.raw_ops.LookupTableInsertV2(table_handle=table, keys=key, values=text)
      with tf.control_dependencies([inserted]):
        learner = tf.raw_ops.LookupTableFindV2(
          table_handle=table, keys=tf.constant(_LEARNER, tf.int64), default_value=''
        )
      return learner, before

  @tf.function(input_signature=[], autograph=False)
  def _all(self):
    with tf.device(LEARNER_DEVICE):
      return tf.raw_ops.LookupTableExportV2(
        table_handle=self._table(), Tkeys=tf.int64, Tvalues=tf.string
      )

  def post(self, heartbeat: LearnerHeartbeat) -> None:
    """Replaces the heartbeat of the learner."""
    self._exchange(tf.constant(_LEARNER, tf.int64), _text(heartbeat))

  def exchange(self, task: int, heartbeat: ActorHeartbeat) -> tuple[LearnerHeartbeat, str]:
    """Replaces the heartbeat of an actor, and returns the learner's, and the `process` of the
    heartbeat that it replaced; empty if there was none.

    Raises:
      tf.errors.OpError: one of `connection.CONNECTION_ERRORS` if the learner is lost.
    """
    answers = self._exchange(tf.constant(task, tf.int64), _text(heartbeat))
    learner, before = LearnerHeartbeat(), ActorHeartbeat()
    # Nothing was posted yet, or by another program.
    with contextlib.suppress(ValueError):
      learner = _parse(LearnerHeartbeat, answers[0].numpy())
    with contextlib.suppress(ValueError):
      before = _parse(ActorHeartbeat, answers[1].numpy())
    return learner, before.process

  def read(self, num_levels: int) -> tuple[dict[int, ActorHeartbeat], dict[int, str]]:
    """Reads the heartbeats of the actors.

    Args:
      num_levels: how many levels the run has.

    Returns:
      Those that are sound by their tasks, and of others that are new what is wrong with them.
    """
    keys, texts = self._all()
    sound, faults = {}, {}
    for task, text in zip(keys.numpy().tolist(), texts.numpy().tolist(), strict=True):
      if task == _LEARNER:
        continue
      try:
        heartbeat = _parse(ActorHeartbeat, text)
        if not all(0 <= level < num_levels for level in heartbeat.levels):
          raise ValueError(f'levels has one that is not in 0..{num_levels - 1}')
        sound[task] = heartbeat
      except ValueError as error:
        if text != self._faulty.get(task):
          faults[task] = str(error)
        self._faulty[task] = text

    return sound, faults


def _text(heartbeat):
  return tf.constant(json.dumps(dataclasses.asdict(heartbeat)))


def _parse(type_, text):
  """Reads a heartbeat from its text; raises ValueError, with the reason, if it is not one."""
  if len(text) > _MAX_BYTES:
    raise ValueError(f'{len(text)} bytes, where a few thousand are usual')
  try:
    values = json.loads(text)
    heartbeat = schema.convert(values, type_)
  except RecursionError as error:
    raise ValueError('it is nested too deep') from error
  unknown = values.keys() - vars(heartbeat).keys()
  if unknown:
    raise ValueError(f'{min(unknown)} is unknown')
  return heartbeat


class Membership:
  """Who is there, by their heartbeats: an actor is present as long as its heartbeat changes.

  Attributes:
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
      if self.is_new(task, heartbeat):
        self._last_seen[task] = (heartbeat, now)
    self.present = {
      task: heartbeat
      for task, (heartbeat, when) in sorted(self._last_seen.items())
      if now - when < LOST_SECONDS and not heartbeat.left
    }
    return sorted(set(self.present) - before), sorted(before - set(self.present))

  def is_new(self, task: int, heartbeat: ActorHeartbeat) -> bool:
    """Whether it is another heartbeat than the last one of that actor."""
    return task not in self._last_seen or self._last_seen[task][0] != heartbeat

  def describe(self) -> str:
    """Says who is there and who was, in a sentence or two."""
    refused = [
      f'{task} ({heartbeat.refused})'
      for task, (heartbeat, _) in sorted(self._last_seen.items())
      if heartbeat.refused
    ]
    described = self._describe_present()
    if refused:
      described += f' Refused for other settings: {", ".join(refused)}.'
    return described

  def _describe_present(self):
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
    return f'{len(self.present)} actors are connected and have sent {unrolls} unrolls.'
