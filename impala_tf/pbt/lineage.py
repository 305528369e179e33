"""The history of a population: what each member went through, and from there the ancestry of an
agent.

Each member appends to lineage.jsonl in its folder: a line for its start, and one for each
  evaluation.

    history = read(member_folder)               # a list of Event
    segments = ancestry({'member_000': history, ...}, 'member_000')

An agent's weights were trained by the member that has them now, before that by the one it copied
them from, and so on. Its curve follows that line (as the paper's Figure 5 does), and counts only
the frames that its own weights were trained on.
"""

import dataclasses
import json
import os
from typing import Any, NamedTuple

import tensorflow as tf
from absl import logging

from impala_tf import files

FILE_NAME = 'lineage.jsonl'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
  """A line of the file.

  evaluation: int, how many evaluations the member has had; 0 at its start.
  frames: int, the member's own counter.
  hyper_parameters: dict of those in use from here on.
  changed: list of the names of those that exploration changed.
  fitness: float, None at the start. It is that of the agent before a copy.
  opponent: name of the member it compared itself with, None if there was none.
  opponent_fitness: float, None without an opponent.
  copied_from: None, or a dict of what the weights are from: `member`, its `frames`, and its number
    of `evaluation`s.
  time: float, seconds since 1970.
  """

  evaluation: int
  frames: int
  hyper_parameters: dict[str, float]
  changed: list[str] = dataclasses.field(default_factory=list)
  fitness: float | None = None
  opponent: str | None = None
  opponent_fitness: float | None = None
  copied_from: dict[str, Any] | None = None
  time: float = 0.0


class Segment(NamedTuple):
  """A part of an agent's ancestry, during which one member trained its weights.

  member: name.
  start, end: int, the member's frames at both ends.
  offset: int, frames that the weights had been trained on before.
  events: list of the member's Events in it: the first is the one that began it.
  """

  member: str
  start: int
  end: int
  offset: int
  events: list[Event]


def read(folder):
  """The events of a member; without those whose lines are cut off or otherwise no events, of which
  a warning tells.
  """
  path = os.path.join(folder, FILE_NAME)
  try:
    with tf.io.gfile.GFile(path, 'rb') as file:
      lines = file.read().decode(errors='replace').splitlines()
  except tf.errors.NotFoundError:
    return []
  events = []
  for number, line in enumerate(lines, start=1):
    try:
      events.append(Event(**json.loads(line)))
    except (TypeError, ValueError) as error:
      logging.warning('%s, line %d, is no event and is passed over: %s', path, number, error)
  return events


def append(folder, event):
  """Adds an event to a member's file; raises files.StorageError if that can't be written."""
  path = os.path.join(folder, FILE_NAME)
  with files.writing(path), tf.io.gfile.GFile(path, 'a') as file:
    file.write(json.dumps(dataclasses.asdict(event)) + '\n')


def repair(folder, evaluation):
  """Drops the events after the given number of evaluations: they were lost with the training since
  the last checkpoint.
  """
  events = read(folder)
  kept = [event for event in events if event.evaluation <= evaluation]
  text = ''.join(json.dumps(dataclasses.asdict(event)) + '\n' for event in kept)
  files.write(os.path.join(folder, FILE_NAME), text)


def ancestry(histories, member, end=None):
  """The segments of an agent's past, the oldest first.

  Args:
    histories: dict from members to lists of Event.
    member: who has the agent.
    end: int, the member's frames now; None for those of its last event.

  Returns:
    A list of Segment. It begins later than at frame 0 if the history of an ancestor is missing.
  """
  backwards, seen = [], set()
  last_evaluation = None
  while histories.get(member):
    events = [
      e for e in histories[member] if last_evaluation is None or e.evaluation <= last_evaluation
    ]
    if not events:
      break
    end = events[-1].frames if end is None else end
    first = max((i for i, event in enumerate(events) if event.copied_from), default=0)
    if (
      (member, first) in seen
    ):  # A member lost a part of its history that others had copied; there is no more to know.
      break
    seen.add((member, first))
    backwards.append((member, events[first].frames, end, events[first:]))
    source = events[first].copied_from
    if source is None:
      break
    member, end, last_evaluation = source['member'], source['frames'], source['evaluation']
  segments, offset = [], 0
  for name, start, end, events in reversed(backwards):
    segments.append(Segment(name, start, end, offset, events))
    offset += end - start
  return segments


def curve(segments):
  """The fitness of an agent over the frames its weights were trained on.

  Returns:
    A list of (frames, member, member's frames, fitness).
  """
  points = []
  for segment in segments:
    for event in segment.events[1:]:
      points.append(
        (segment.offset + event.frames - segment.start, segment.member, event.frames, event.fitness)
      )
  # The evaluation that made a member copy was its old agent's. That of the one copied is in its own
  # segment.
  return points


def schedule(segments):
  """The hyper-parameters of an agent over the frames its weights were trained on.

  Returns:
    A list of (frames, member, member's frames, dict of hyper-parameters), each in use until the
    next one's frames.
  """
  return [
    (
      segment.offset + event.frames - segment.start,
      segment.member,
      event.frames,
      event.hyper_parameters,
    )
    for segment in segments
    for event in segment.events
  ]
