"""The report of a soak test: a line for each fault, a table, and whether all was well.

An event is a dict: `where`, `fault`, `seconds`, `outcome`, and what the fault reports.
"""

import collections
import statistics

SURVIVED, FAILED, SKIPPED = 'survived', 'FAILED', 'skipped'
_COLUMNS = (
  'where',
  'fault',
  'injected',
  SURVIVED,
  FAILED,
  SKIPPED,
  'frames lost, most',
  'since checkpoint',
  'MiB, most',
  'left',
)


def line(event):
  """Describes an event in a line."""
  more = [
    f'{name} {event[name]}'
    for name in ('frames_lost', 'frames_since_checkpoint', 'memory', 'left')
    if event.get(name)
  ]
  detail = event.get('detail', '').splitlines()
  what = f'{event["where"]}: {event["fault"]} {event["outcome"]} after {event["seconds"]} s.'
  return ' '.join([what, *more, *detail[:1]])


def table(events):
  """Returns the rows of the report, the header first and the sums last, as lists of text."""
  groups = collections.defaultdict(list)
  for event in events:
    groups[event['where'], event['fault']].append(event)
  rows = [[*key, *_numbers(group)] for key, group in groups.items()]
  faults = [event for event in events if not event['fault'].startswith('(')]
  return [list(_COLUMNS), *rows, ['all faults', '', *_numbers(faults)]]


def memory(events):
  """Returns the memory of each training over time, as rows of text, the header first: medians of
  the thirds of its faults, in MiB. Processes that live through faults, such as actors, show by it
  what they keep.
  """
  trainings = collections.defaultdict(list)
  for event in events:
    if event.get('memory') and not event['fault'].startswith('('):
      trainings[event['training']].append(event['memory'])
  rows = [['training', 'faults', 'MiB, first third', 'second', 'last']]
  for name, sizes in trainings.items():
    third = -(-len(sizes) // 3)
    thirds = [sizes[i : i + third] for i in range(0, len(sizes), third)]
    medians = [str(round(statistics.median(sizes))) for sizes in thirds]
    rows.append([name, str(len(sizes)), *medians, *['-'] * (3 - len(medians))])
  return rows


def _numbers(group):
  outcomes = collections.Counter(event['outcome'] for event in group)
  # What was skipped was not injected.
  injected = len(group) - outcomes[SKIPPED]
  most = lambda name: max((event[name] for event in group if name in event), default='-')
  left = collections.Counter()
  for event in group:
    left.update(event.get('left', {}))
  columns = (
    injected,
    outcomes[SURVIVED],
    outcomes[FAILED],
    outcomes[SKIPPED],
    most('frames_lost'),
    most('frames_since_checkpoint'),
    most('memory'),
  )
  return [
    *map(str, columns),
    ', '.join(f'{number} {kind}' for kind, number in left.items()) or 'nothing',
  ]


def is_good(events):
  """Returns whether something was injected, all of that was survived, no more was lost than may be,
  and nothing was left.
  """
  return (
    any(event['outcome'] == SURVIVED and not event['fault'].startswith('(') for event in events)
    and all(event['outcome'] != FAILED for event in events)
    and all(
      event.get('frames_lost', 0) <= event.get('frames_since_checkpoint', 0) for event in events
    )
    and not any(event.get('left') for event in events)
  )
