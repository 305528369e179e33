"""What a population has come to: its members, the best agent's ancestry, and the hyper-parameters
that it found.

Writes report.md, members.csv, ancestry.csv (the curve of one agent, as in the paper's Figure 5),
schedule.csv (Figure F.1), ancestry.png and schedule.png.
"""

import io
import os

import matplotlib
import tensorflow as tf

from impala_tf import files
from impala_tf.config import ConfigurationError
from impala_tf.pbt import lineage, pbt_member
from impala_tf.reports import tables


def best_member(histories):
  """The member whose agent has the highest fitness, None before any evaluation."""
  last = {
    name: _fitness(events[-1])
    for name, events in histories.items()
    if events and events[-1].fitness is not None
  }
  return max(last, key=last.get) if last else None


def _fitness(event):
  """That of the agent that a member has after an event: after a copy the other's."""
  return event.fitness if event.copied_from is None else event.opponent_fitness


def write(population, output):
  """Writes the report's files.

  Args:
    population: folder of a population, which may be running.
    output: folder, made if missing; both anything that tf.io.gfile takes.

  Returns:
    The report's text.

  Raises:
    ConfigurationError: if there is no population, or no member was evaluated yet.
  """
  pbt_member.read_population(population)
  histories = {
    name: lineage.read(folder) for name, folder in pbt_member.member_folders(population).items()
  }
  best = best_member(histories)
  if best is None:
    raise ConfigurationError(
      f'No member of {population} was evaluated yet: there is nothing to report.'
    )
  segments = lineage.ancestry(histories, best)
  curve, schedule = lineage.curve(segments), lineage.schedule(segments)
  names = list(schedule[0][-1])
  members = [_summary(name, events) for name, events in histories.items() if events]
  text = _markdown(best, _fitness(histories[best][-1]), segments, members)
  tf.io.gfile.makedirs(output)
  for name, contents in (
    ('report.md', text),
    ('members.csv', tables.as_csv([list(members[0]), *(row.values() for row in members)])),
    ('ancestry.csv', tables.as_csv([['frames', 'member', 'member_frames', 'fitness'], *curve])),
    (
      'schedule.csv',
      tables.as_csv(
        [
          ['frames', 'member', 'member_frames', *names],
          *((*row[:3], *row[3].values()) for row in schedule),
        ]
      ),
    ),
  ):
    files.write(os.path.join(output, name), contents)
  _draw_ancestry(histories, best, segments, curve, os.path.join(output, 'ancestry.png'))
  _draw_schedule(segments, schedule, names, os.path.join(output, 'schedule.png'))
  return text


def _summary(name, events):
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
    f'# Population\n\nThe best agent is that of {best}, of fitness {fitness:.4g} at its last evaluation. Its weights were '
    f'trained by {line}.\n\n{table}\n'
  )


def _draw_ancestry(histories, best, segments, curve, output):
  figure, (axes,) = _figure(1)
  for name, events in histories.items():
    points = [(event.frames, event.fitness) for event in events if event.fitness is not None]
    if points:
      label = 'members, over their own frames' if name == min(histories) else None
      axes.plot(*zip(*points, strict=True), color='gray', alpha=0.4, linewidth=1, label=label)
  if curve:
    axes.plot(
      [row[0] for row in curve], [row[3] for row in curve], '.-', label=f'ancestry of {best}'
    )
  _mark_copies([axes], segments)
  axes.set_ylabel('fitness')
  axes.legend()
  _save(figure, axes, output)


def _draw_schedule(segments, schedule, names, output):
  figure, all_axes = _figure(len(names))
  end = segments[-1].offset + segments[-1].end - segments[-1].start
  for axes, name in zip(all_axes, names, strict=True):
    frames = [row[0] for row in schedule] + [end]
    values = [row[3][name] for row in schedule]
    axes.step(frames, [*values, values[-1]], where='post')
    axes.set_yscale('log')
    axes.set_ylabel(name)
  _mark_copies(all_axes, segments)
  _save(figure, all_axes[-1], output)


def _figure(rows):
  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  figure, axes = plt.subplots(
    rows, 1, figsize=(8, 2 + 2.2 * rows), sharex=True, squeeze=False, layout='constrained'
  )
  return figure, axes[:, 0]


def _mark_copies(all_axes, segments):
  for axes in all_axes:
    for segment in segments[1:]:
      axes.axvline(segment.offset, color='tab:red', linestyle=':', linewidth=1)
    axes.grid(alpha=0.3)


def _save(figure, lowest_axes, output):
  from matplotlib import pyplot as plt

  lowest_axes.set_xlabel(
    'environment frames that the agent was trained on; dotted where it was copied'
  )
  picture = io.BytesIO()
  figure.savefig(picture, dpi=120, format='png')
  plt.close(figure)
  with tf.io.gfile.GFile(output, 'wb') as file:
    file.write(picture.getvalue())
