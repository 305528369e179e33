"""Processes of environments that hang: they are named after a time, and killed after a longer one.

A process hangs if none of its environments finishes what it is at: its step, its reset, its
constructor. Time in which the process waits for a core of a busy machine does not count, so that
maps which take a core half a minute may take many times as long.

    watch = HangWatch(processes, warn_seconds=120.0, kill_seconds=600.0)
    watch.start()
    ...
    watch.close()
"""

import dataclasses
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
    waited: seconds for which the process had waited for a core by then.
    is_named: whether a warning named it.
  """

  activity: Activity | None
  since: float
  waited: float
  is_named: bool = False


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
    self._calls = [_Call(None, 0.0, 0.0) for _ in self._processes]
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
    now = self._clock()
    for i, process in enumerate(self._processes):
      activity = process.activity()
      if activity is None or activity != self._calls[i].activity:
        self._calls[i] = _Call(activity, now, _waited_for_core(activity))
      else:
        self._judge(process, self._calls[i], now)

  def _judge(self, process, call, now):
    activity = call.activity
    seconds = now - call.since - (_waited_for_core(activity) - call.waited)
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


def _waited_for_core(activity: Activity | None) -> float:
  """Returns the seconds for which a process was ready to run and had no core; 0 if unknown."""
  if activity is None:
    return 0.0
  try:
    with open(f'/proc/{activity.pid}/schedstat') as file:
      return int(file.read().split()[1]) / 1e9
  except (OSError, ValueError, IndexError):  # It has ended, or the system does not say.
    return 0.0
