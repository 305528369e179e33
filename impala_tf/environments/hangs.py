"""Processes of environments that hang: they are named after a time, and killed after a longer one.

A process hangs if none of its environments finishes what it is at: its step, its reset, its
constructor. Time in which the process waits for a core of a busy machine does not count, nor such
time of programs that it runs, so that maps which take a core half a minute may take many times as
long: DeepMind Lab has them compiled by others, and sleeps meanwhile.

    watch = HangWatch(processes, warn_seconds=120.0, kill_seconds=600.0)
    watch.start()
    ...
    watch.close()
"""

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import logging

# Constructors and first resets, which import modules and load files, may take so many times as
# long.
_PATIENCE_AT_THE_START = 5
_AT_THE_START = ('__init__', 'initial')
# Between two looks; hangs are noticed so much later.
_SHARE_OF_WARNING = 0.1
_MAX_SECONDS_BETWEEN_LOOKS = 5.0
_PROC = '/proc'


class Activity(NamedTuple):
  """Work of a process, equal to a later one if nothing has happened in between.

  Attributes:
    pid: its id.
    method: that it was called for.
    calls: how many it had had by then.
    reports: how often it had reported its progress.
    environment: the index of the environment that was at work.
  """

  pid: int
  method: str
  calls: int
  reports: int
  environment: int


@dataclasses.dataclass
class _Call:
  """The call that a process is busy with.

  Attributes:
    activity: as it was seen; None if it is idle.
    since: when it was seen first.
    seen: when it was seen last.
    waits: as of `_waits_for_core` so far; None until it was seen twice, as most calls never are.
    waited: seconds since then for which it waited for a core.
    is_named: whether a warning named it.
  """

  activity: Activity | None
  since: float
  seen: float = 0.0
  waits: dict[int, float] | None = None
  waited: float = 0.0
  is_named: bool = False

  def look(self, now, children):
    """Returns the seconds that it has taken by now without those of waiting for a core, given
    `_children`.
    """
    waits = _waits_for_core(self.activity.pid, children)
    if self.waits is not None:
      before = self.waits
      # Of the thread that waits most: many that wait a little do not hold a process up.
      more = [seconds - before.get(thread, 0.0) for thread, seconds in waits.items()]
      self.waited += min(max(more, default=0.0), now - self.seen)
    self.waits = (self.waits or {}) | waits
    self.seen = now
    return now - self.since - self.waited


class HangWatch:
  """A thread that looks at processes now and then."""

  def __init__(
    self,
    processes: Sequence[Any],
    warn_seconds: float,
    kill_seconds: float,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Describes it.

    Args:
      processes: `py_process.PyProcess`es that also have `activity()`, an `Activity` or None, and
        `describe(environment)`, which names one of its environments by its index.
      warn_seconds: after which a process that hangs is named.
      kill_seconds: after which it is killed. The thread that waits for it gets its ProcessError.
      clock: gives seconds.
    """
    self._processes = tuple(processes)
    self._warn_seconds = warn_seconds
    self._kill_seconds = kill_seconds
    self._clock = clock
    self._calls = [_Call(None, 0.0) for _ in self._processes]
    self._closed = threading.Event()
    self._thread: threading.Thread | None = None

  def start(self) -> None:
    """Begins to watch; does nothing if it watches."""
    if self._thread is None:
      self._thread = threading.Thread(target=self._run, name='hang-watch', daemon=True)
      self._thread.start()

  def close(self) -> None:
    """Stops to watch."""
    self._closed.set()

  def _run(self):
    pause = min(_SHARE_OF_WARNING * self._warn_seconds, _MAX_SECONDS_BETWEEN_LOOKS)
    while not self._closed.wait(pause):
      self.look()

  def look(self) -> None:
    """Looks at all processes once: names and kills those for which it is time."""
    now, children = self._clock(), None
    for i, process in enumerate(self._processes):
      activity = process.activity()
      if activity is None or activity != self._calls[i].activity:
        self._calls[i] = _Call(activity, now)
      else:
        children = _children() if children is None else children
        self._judge(process, self._calls[i], now, children)

  def _judge(self, process, call, now, children):
    activity = call.activity
    seconds = call.look(now, children)
    patience = _PATIENCE_AT_THE_START if activity.method in _AT_THE_START else 1
    if seconds >= patience * self._kill_seconds:
      process.kill(
        activity.pid, f'did not finish {activity.method} for {seconds:.0f} s and was killed'
      )
    elif seconds >= patience * self._warn_seconds and not call.is_named:
      call.is_named = True
      logging.warning(
        'Process %d seems to hang: %s has not finished %s for %.0f s. The others play on. If it '
        'stays so, the process is killed and restarted after %.0f s (--hang_timeout).',
        activity.pid,
        process.describe(activity.environment),
        activity.method,
        seconds,
        patience * self._kill_seconds,
      )


def _children() -> dict[int, list[int]]:
  """Returns the ids of all processes that were started by another one, by the latter's id; empty
  where the system does not say.
  """
  children: dict[int, list[int]] = {}
  for name in os.listdir(_PROC) if os.path.isdir(_PROC) else ():
    if name.isdecimal():
      with contextlib.suppress(OSError, ValueError, IndexError):  # It has ended.
        # Behind the name of its program, which may have spaces, are its state and its parent.
        parent = int(_read(f'{_PROC}/{name}/stat').rpartition(')')[2].split()[1])
        children.setdefault(parent, []).append(int(name))
  return children


def _waits_for_core(pid: int, children: dict[int, list[int]]) -> dict[int, float]:
  """Returns for how many seconds each thread of a process and of its descendants was ready to run
  and had no core; without those that have ended, empty where the system does not say.
  """
  waits, pids = {}, [pid]
  while pids:
    pid = pids.pop()
    pids += children.get(pid, ())
    folder, threads = f'{_PROC}/{pid}/task', []
    with contextlib.suppress(OSError):
      threads = os.listdir(folder)
    for thread in threads:
      with contextlib.suppress(OSError, ValueError, IndexError):
        waits[int(thread)] = int(_read(f'{folder}/{thread}/schedstat').split()[1]) / 1e9
  return waits


def _read(path):
  with open(path) as file:
    return file.read()
