"""Report of a population: its members, the best agent's ancestry, and the hyper-parameters
that it found.

The report has report.md, members.csv, ancestry.csv (the curve of one agent, as in the paper's
Figure 5), schedule.csv (Figure F.1), ancestry.png and schedule.png.
"""

import os
from typing import Any

from impala_tf.config import ConfigurationError
from impala_tf.pbt import folder, lineage
from impala_tf.reports import pictures, tables


def write(population: str, output: str) -> str:
  """Writes the report's files and returns its text.

  Args:
    population: folder of a population, which may be running.
    output: folder, made if missing; both anything that tf.io.gfile takes.

  Raises:
    ConfigurationError: if there is no population, or no member was evaluated yet.
  """
  folder.read_population(population)
  histories = folder.read_histories(population)
  best = lineage.best_member(histories)
  if best is None:
    raise ConfigurationError(
      f'No member of {population} was evaluated yet: there is nothing to report.'
    )

  segments = lineage.ancestry(histories, best)
  curve, schedule = lineage.curve(segments), lineage.schedule(segments)
  names = list(schedule[0].event.hyper_parameters)
  members = [_summary(name, events) for name, events in histories.items() if events]

  text = _markdown(best, histories[best][-1].fitness_of_agent, segments, members)
  contents: dict[str, str | list[list]] = {
    'report.md': text,
    'members.csv': [list(members[0]), *(list(row.values()) for row in members)],
    'ancestry.csv': [
      ['frames', 'member', 'member_frames', 'fitness'],
      *([frames, name, event.frames, event.fitness] for frames, name, event in curve),
    ],
    'schedule.csv': [
      ['frames', 'member', 'member_frames', *names],
      *(
        [frames, name, event.frames, *event.hyper_parameters.values()]
        for frames, name, event in schedule
      ),
    ],
  }
  tables.write(output, contents)
  _draw_ancestry(histories, best, segments, curve, os.path.join(output, 'ancestry.png'))
  _draw_schedule(segments, schedule, names, os.path.join(output, 'schedule.png'))
  return text


def _summary(name: str, events: list[lineage.Event]) -> dict[str, Any]:
  """Returns a row of the table of members, by column."""
  evaluated = [event.fitness for event in events if event.fitness is not None]
  return {
    'member': name,
    'evaluations': len(evaluated),
    'copies': sum(event.copied_from is not None for event in events),
    'changes': sum(len(event.changed) for event in events),
    'first_fitness': evaluated[0] if evaluated else None,
    'last_fitness': evaluated[-1] if evaluated else None,
    **events[-1].hyper_parameters,
  }


def _markdown(best, fitness, segments, members):
  line = ', then by '.join(f'{s.member} (its frames {s.start:_} to {s.end:_})' for s in segments)
  table = tables.markdown([list(members[0]), *(map(tables.short, row.values()) for row in members)])
  return (
    f'# Population\n\nThe best agent is that of {best}, of fitness {fitness:.4g} at its last '
    f'evaluation. Its weights were trained by {line}.\n\n{table}\n'
  )


def _draw_ancestry(histories, best, segments, curve, output):
  with pictures.picture(output, size=(8, 4.2)) as (axes,):
    for name, events in histories.items():
      points = [(event.frames, event.fitness) for event in events if event.fitness is not None]
      if points:
        label = 'members, over their own frames' if name == min(histories) else None
        axes.plot(*zip(*points, strict=True), color='gray', alpha=0.4, linewidth=1, label=label)
    if curve:
      axes.plot(
        [point.frames for point in curve],
        [point.event.fitness for point in curve],
        '.-',
        label=f'ancestry of {best}',
      )
    axes.set_ylabel('fitness')
    _mark_copies([axes], segments)


def _draw_schedule(segments, schedule, names, output):
  frames = [point.frames for point in schedule] + [segments[-1].trained(segments[-1].end)]
  with pictures.picture(output, rows=len(names), size=(8, 2 + 2.2 * len(names))) as all_axes:
    for axes, name in zip(all_axes, names, strict=True):
      values = [point.event.hyper_parameters[name] for point in schedule]
      axes.step(frames, [*values, values[-1]], where='post')
      axes.set_yscale('log')
      axes.set_ylabel(name)
    _mark_copies(all_axes, segments)


def _mark_copies(all_axes, segments):
  for axes in all_axes:
    for segment in segments[1:]:
      axes.axvline(segment.offset, color='tab:red', linestyle=':', linewidth=1)
    pictures.show_frames(axes)
    axes.set_xlabel('')
  all_axes[-1].set_xlabel(
    'environment frames that the agent was trained on; dotted where it was copied'
  )
