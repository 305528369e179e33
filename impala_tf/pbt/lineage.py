"""The history of a population: what each member went through, and the ancestry of an agent.

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
from typing import NamedTuple

from absl import logging

from impala_tf import files, saved_config
from impala_tf.errors import FileError

FILE_NAME = saved_config.HISTORY_NAME


@dataclasses.dataclass(frozen=True)
class Source:
  """Where copied weights are from.

  Attributes:
    member: the name of the one that was copied.
    frames: its own counter at that time.
    evaluation: how many evaluations it had had.
  """

  member: str
  frames: int
  evaluation: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Event:
  """A line of the file.

  Attributes:
    evaluation: how many evaluations the member has had; 0 at its start.
    frames: the member's own counter.
    hyper_parameters: those in use from here on.
    changed: names of those that exploration changed.
    fitness: of the agent before a copy; None at the start.
    opponent: name of the member it compared itself with, None if there was none.
    opponent_fitness: None without an opponent.
    copied_from: None if the member kept its agent.
    time: seconds since 1970.
  """

  evaluation: int
  frames: int
  hyper_parameters: dict[str, float]
  changed: list[str] = dataclasses.field(default_factory=list)
  fitness: float | None = None
  opponent: str | None = None
  opponent_fitness: float | None = None
  copied_from: Source | None = None
  time: float = 0.0

  @property
  def fitness_of_agent(self) -> float | None:
    """The fitness of the agent that the member has after the event: after a copy the other's."""
    return self.fitness if self.copied_from is None else self.opponent_fitness

  def line(self) -> str:
    """Returns the event as a line."""
    return json.dumps(dataclasses.asdict(self)) + '\n'


class Segment(NamedTuple):
  """A part of an agent's ancestry, during which one member trained its weights.

  Attributes:
    member: its name.
    start, end: the member's own frames at both ends.
    offset: frames that the weights had been trained on before.
    events: those of the member in it, the first is the one that began it.
  """

  member: str
  start: int
  end: int
  offset: int
  events: list[Event]

  def trained(self, frames: int) -> int:
    """Returns on how many frames the weights had been trained at those of the member."""
    return self.offset + frames - self.start


class Point(NamedTuple):
  """An event of an agent's ancestry.

  Attributes:
    frames: that the agent's weights had been trained on.
    member: the name of the member that had them.
    event: what it went through.
  """

  frames: int
  member: str
  event: Event


def read(folder: str) -> list[Event]:
  """Returns the events of a member; a warning names each line that is cut off or not an event."""
  path = os.path.join(folder, FILE_NAME)
  lines = (files.read(path) or b'').decode(errors='replace').splitlines()
  events = []
  for number, line in enumerate(lines, start=1):
    try:
      events.append(files.parse_json(f'{path}, line {number}', line, Event, 'It is passed over.'))
    except FileError as error:
      logging.warning('%s', error)
  return events


def append(folder: str, event: Event) -> None:
  """Adds an event to a member's file; raises files.StorageError if that can't be written."""
  path = os.path.join(folder, FILE_NAME)
  with files.writing(path), files.open_file(path, 'a') as file:
    file.write(event.line())


def repair(folder: str, evaluation: int) -> None:
  """Drops the events after so many evaluations, which were lost with the training since the last
  checkpoint.
  """
  kept = [event for event in read(folder) if event.evaluation <= evaluation]
  files.write(os.path.join(folder, FILE_NAME), ''.join(event.line() for event in kept))


def best_member(histories: dict[str, list[Event]]) -> str | None:
  """Returns the member whose agent has the highest fitness, None before any evaluation."""
  agents = {name: events[-1].fitness_of_agent for name, events in histories.items() if events}
  last = {name: fitness for name, fitness in agents.items() if fitness is not None}
  return max(last, key=lambda name: last[name]) if last else None


def ancestry(
  histories: dict[str, list[Event]], member: str, end: int | None = None
) -> list[Segment]:
  """Returns the segments of an agent's past, the oldest first.

  They begin later than at frame 0 if the history of an ancestor is missing.

  Args:
    histories: the events of each member.
    member: the one that has the agent.
    end: the member's frames now; None for those of its last event.
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
    # A member may have lost a part of its history that others had copied; then this would not end.
    if (member, first) in seen:
      break
    seen.add((member, first))
    backwards.append((member, events[first].frames, end, events[first:]))

    source = events[first].copied_from
    if source is None:
      break
    member, end, last_evaluation = source.member, source.frames, source.evaluation

  segments, offset = [], 0
  for name, start, end, events in reversed(backwards):
    segments.append(Segment(name, start, end, offset, events))
    offset += end - start

  return segments


def curve(segments: list[Segment]) -> list[Point]:
  """Returns the events whose fitness is that of the agent."""
  # The evaluation that made a member copy was its old agent's. That of the one copied is in its own
  # segment.
  return [
    Point(segment.trained(event.frames), segment.member, event)
    for segment in segments
    for event in segment.events[1:]
  ]


def schedule(segments: list[Segment]) -> list[Point]:
  """Returns the events that changed the agent's hyper-parameters, each until the next one."""
  return [
    Point(segment.trained(event.frames), segment.member, event)
    for segment in segments
    for event in segment.events
  ]
