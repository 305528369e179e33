"""About an hour of faults: processes killed, disks filled, checkpoints damaged, flags mistyped.

    python -m tests.soak --minutes=60 --seed=1 --folder=runs/soak

Trainings of the tests' small task suffer one fault after the other, in an order drawn from the
seed; `faults` has the faults, and the conditions that must hold after each. Two sequences of
trainings run side by side, in each by turns one that is alone and a cluster of a learner and two
actors: 60 minutes of two cores that have nothing else to do hold some 30 faults of each kind. A
table is printed in the end, and `soak.json` in the folder has every fault. The exit code is 1 if a
fault was not survived or something was left behind. The fault that fills a disk mounts a small one,
which needs root's rights; without them it is reported as skipped.
"""

import argparse
import collections
import concurrent.futures
import itertools
import json
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time
import traceback

from tests.soak import faults, summary
from tests.soak import training as training_lib
from tests.support.cluster_processes import Processes

_ACTORS = {'alone': (), 'cluster': ('0', '1')}


def soak(folder, minutes, seed, side_by_side, stopped, events):
  """Runs trainings until the time is over, and the faults under way have ended.

  Args:
    folder: `pathlib.Path`, empty.
    minutes: how long.
    seed: int, of the order of faults.
    side_by_side: how many trainings there are at a time.
    stopped: `threading.Event`, set when it should end early.
    events: a list, to which an event of `summary` is added for each fault.
  """
  counts: collections.Counter = collections.Counter()
  deadline = time.monotonic() + 60 * minutes
  is_over = lambda: stopped.is_set() or time.monotonic() >= deadline

  def one_after_the_other(number):
    draw = random.Random(f'{seed} {number}')
    for turn in itertools.count():
      where = list(_ACTORS)[(number + turn) % len(_ACTORS)]
      _train(folder / f'{number}_{turn}_{where}', where, draw, is_over, counts, events)
      if is_over():
        return

  with concurrent.futures.ThreadPoolExecutor(side_by_side) as threads:
    for done in [threads.submit(one_after_the_other, n) for n in range(side_by_side)]:
      done.result()


def _train(place, where, draw, is_over, counts, events):
  """Leads one training through some faults, always one that was inflicted least often so far, while
  there is time; ends with the first fault that it does not survive.
  """
  actors = _ACTORS[where]
  inflicted = [*faults.EVERYWHERE, *(faults.IN_A_CLUSTER if actors else ())]
  logdir = place / 'disk' / 'run'
  flags = (
    '--level_name=tests.support.catch:slow_catch',
    f'--logdir={logdir}',
    '--total_environment_frames=1_000_000_000',
    f'--num_actors={training_lib.NUM_ACTORS}',
  )
  flags += (f'--checkpoint_interval={training_lib.CHECKPOINT_SECONDS}', '--summary_interval=0.5')
  with (
    training_lib.small_disk(place / 'disk') as no_disk,
    # Of a short name, as the paths of sockets are.
    tempfile.TemporaryDirectory(prefix='soak_', dir='/tmp') as temporary,
    Processes(place, *flags, environment={'TMPDIR': temporary}) as processes,
  ):
    environment = {'TMPDIR': temporary}
    training = training_lib.Training(processes, logdir, actors, no_disk, environment)

    def note(name, deed):
      began = time.monotonic()
      try:
        event = {'outcome': summary.SURVIVED, **deed()}
      except training_lib.Skipped as reason:
        event = {'outcome': summary.SKIPPED, 'detail': str(reason)}
      except Exception as error:  # A fault may show in any way.
        detail = f'{type(error).__name__}: {error}\n{traceback.format_exc()}'
        event = {'outcome': summary.FAILED, 'detail': detail}
      event['memory'] = training.memory()
      what = {'training': place.name, 'where': where}
      if also := event.get('also'):
        counts[also] += 1
        events.append({**what, 'fault': also, 'outcome': summary.SURVIVED, 'seconds': 0.0})
      seconds = round(time.monotonic() - began, 1)
      events.append({**what, 'fault': name, 'seconds': seconds, **event})
      print(f'{time.strftime("%H:%M:%S")} {summary.line(events[-1])}', flush=True)
      return event['outcome'] != summary.FAILED

    if not note('(start)', training.start):
      return
    for _ in inflicted:
      if is_over():
        break
      fault = min(inflicted, key=lambda fault: (counts[fault.__name__], draw.random()))
      counts[fault.__name__] += 1
      if not note(fault.__name__, lambda fault=fault: fault(training, draw)):
        return
    note('(end)', training.end)


def main():
  """Runs what the command line says; returns the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--minutes', type=float, default=60.0, help='how long faults are injected')
  parser.add_argument(
    '--seed', type=int, default=1, help='of the order of faults, and who suffers them'
  )
  parser.add_argument(
    '--side_by_side', type=int, default=2, help='trainings at a time; one for each core is much'
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
  # Nothing is left running, or mounted, when this is stopped: it ends after the faults under way.
  stopped = threading.Event()
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: stopped.set())
  # Under nohup what it starts would ignore the signal, too; a handler is not handed on.
  signal.signal(signal.SIGHUP, lambda *_: None)
  events, complete = [], False
  try:
    soak(
      arguments.folder,
      arguments.minutes,
      arguments.seed,
      arguments.side_by_side,
      stopped,
      events,
    )
    complete = not stopped.is_set()
  finally:  # Also of what there was before it was stopped.
    good = complete and summary.is_good(events)
    report = {
      'seed': arguments.seed,
      'minutes': arguments.minutes,
      'complete': complete,
      'good': good,
      'events': events,
    }
    (arguments.folder / 'soak.json').write_text(json.dumps(report, indent=2) + '\n')
    for rows in (summary.table(events), summary.memory(events)):
      print(''.join(f'| {" | ".join(row)} |\n' for row in rows))
  return 0 if good else 1


if __name__ == '__main__':
  sys.exit(main())
