"""An hour, or so, of everything that goes wrong: what is killed, filled, damaged and mistyped, and
what is left of it.

    python -m tests.soak --minutes=60 --seed=1 --folder=runs/soak

Trainings of the tests' small task, in turns one that is alone and a cluster of a learner and two
actors, suffer one fault after the other, in an order drawn from the seed; `soak_faults` has the
faults, and what must hold after each. In the end comes a table, and `soak.json` in the folder has
every fault. The exit code is 1 if a fault was not survived or something was left behind. To fill a
disk it mounts a small one, for which it needs root's rights; without them that fault is reported as
skipped.
"""

import argparse
import collections
import json
import pathlib
import random
import signal
import sys
import time
import traceback

from tests import soak_faults, soak_training
from tests.support import run_files
from tests.support.cluster_processes import Processes

SURVIVED, FAILED, SKIPPED = 'survived', 'FAILED', 'skipped'
_ACTORS = {'alone': (), 'cluster': ('0', '1')}
_COLUMNS = (
  'where',
  'fault',
  'injected',
  SURVIVED,
  FAILED,
  SKIPPED,
  'frames lost, most',
  'since checkpoint',
  'left',
)


def soak(folder, minutes, seed, events):
  """Runs trainings until the time is over, and the fault then under way.

  Args:
    folder: `pathlib.Path`, empty.
    minutes: how long.
    seed: int, of the order of faults.
    events: a list to which comes a dict for each fault: `where`, `fault`, `seconds`, `outcome`, and
      what the fault reports.
  """
  draw = random.Random(seed)
  deadline = time.monotonic() + 60 * minutes
  while time.monotonic() < deadline:
    for where, actors in _ACTORS.items():
      if time.monotonic() < deadline:
        place = folder / f'{len(list(folder.iterdir()))}_{where}'
        _train(place, where, actors, draw, deadline, events)


def _train(place, where, actors, draw, deadline, events):
  """One training, through all faults in some order as long as there is time; ends with the first
  that it does not survive.
  """
  faults = [*soak_faults.EVERYWHERE, *(soak_faults.IN_A_CLUSTER if actors else ())]
  draw.shuffle(faults)
  shared_memory = run_files.shared_memory_names()
  logdir = place / 'disk' / 'run'
  flags = (
    '--level_name=tests.support.catch:slow_catch',
    f'--logdir={logdir}',
    '--total_environment_frames=1_000_000_000',
    '--num_actors=2',
  )
  flags += (f'--checkpoint_interval={soak_training.CHECKPOINT_SECONDS}', '--summary_interval=0.5')
  with soak_training.small_disk(place / 'disk') as no_disk, Processes(place, *flags) as processes:
    training = soak_training.Training(processes, logdir, actors, no_disk)

    def note(name, deed):
      began = time.monotonic()
      try:
        event = {'outcome': SURVIVED, **deed()}
      except soak_faults.Skipped as reason:
        event = {'outcome': SKIPPED, 'detail': str(reason)}
      except Exception as error:  # A fault may show in any way.
        detail = str(error) if isinstance(error, AssertionError) else traceback.format_exc()
        event = {'outcome': FAILED, 'detail': detail}
      events.append(
        {'where': where, 'fault': name, 'seconds': round(time.monotonic() - began, 1), **event}
      )
      print(f'{time.strftime("%H:%M:%S")} {summary_line(events[-1])}', flush=True)
      return event['outcome'] != FAILED

    if not note('(start)', training.start):
      return
    for fault in faults:
      if time.monotonic() >= deadline:
        break
      if not note(fault.__name__, lambda fault=fault: fault(training, draw)):
        return
    note('(end)', lambda: training.end(shared_memory))


def summary_line(event):
  """An event in a line."""
  more = [
    f'{name} {event[name]}'
    for name in ('frames_lost', 'frames_since_checkpoint', 'left')
    if event.get(name)
  ]
  detail = event.get('detail', '').splitlines()
  return f'{event["where"]}: {event["fault"]} {event["outcome"]} after {event["seconds"]} s. {" ".join(more + detail[:1])}'.strip()


def table(events):
  """The rows of the report, the header first and the sums last, as lists of text."""
  groups = collections.defaultdict(list)
  for event in events:
    groups[event['where'], event['fault']].append(event)
  rows = [[*key, *_numbers(group)] for key, group in groups.items()]
  faults = [event for event in events if not event['fault'].startswith('(')]
  return [list(_COLUMNS), *rows, ['all faults', '', *_numbers(faults)]]


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
  )
  return [
    *map(str, columns),
    ', '.join(f'{number} {kind}' for kind, number in left.items()) or 'nothing',
  ]


def is_good(events):
  """Whether something was injected, all of that was survived, no more was lost than may be, and
  nothing was left.
  """
  return (
    any(event['outcome'] == SURVIVED and not event['fault'].startswith('(') for event in events)
    and all(event['outcome'] != FAILED for event in events)
    and all(
      event.get('frames_lost', 0) <= event.get('frames_since_checkpoint', 0) for event in events
    )
    and not any(event.get('left') for event in events)
  )


def main():
  """Runs what the command line says; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--minutes', type=float, default=60.0, help='how long faults are injected')
  parser.add_argument(
    '--seed', type=int, default=1, help='of the order of faults, and who suffers them'
  )
  parser.add_argument(
    '--folder',
    type=pathlib.Path,
    required=True,
    help='a new folder for runs, their output and soak.json',
  )
  arguments = parser.parse_args()
  try:
    arguments.folder = arguments.folder.absolute()  # What it starts runs elsewhere.
    arguments.folder.mkdir(parents=True)
  except OSError as error:
    parser.error(f"--folder={arguments.folder} can't be made: {error}. Name a new folder.")
  # Nothing is left running, or mounted, when this is stopped.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
  events, complete = [], False
  try:
    soak(arguments.folder, arguments.minutes, arguments.seed, events)
    complete = True
  finally:  # Also of what there was before it was stopped.
    good = complete and is_good(events)
    report = {
      'seed': arguments.seed,
      'minutes': arguments.minutes,
      'complete': complete,
      'good': good,
      'events': events,
    }
    (arguments.folder / 'soak.json').write_text(json.dumps(report, indent=2) + '\n')
    for row in table(events):
      print('| ' + ' | '.join(row) + ' |')
  return 0 if good else 1


if __name__ == '__main__':
  sys.exit(main())
