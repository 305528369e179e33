"""Measures how long threads spend in the stages of their work, and words for lengths of time."""

import collections
import itertools
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

_UNITS = (('d', 86_400), ('h', 3_600), ('min', 60), ('s', 1))


def duration(seconds: float) -> str:
  """Returns a length of time in its two largest units, such as '14 h 13 min'; below an hour in one,
  such as '12 min'.
  """
  whole = int(seconds)
  for (large, size), (small, part) in itertools.pairwise(_UNITS):
    if whole >= size:
      rest = whole % size // part
      return f'{whole // size} {large}' + (f' {rest} {small}' if rest and size > 60 else '')
  return f'{whole} s'


class StageTimer:
  """The time that threads spend in the stages of their work, added up over all of them.

      timer = StageTimer()
      shares = timer.reader()
      with timer('wait'):       # in any thread
        ...
      shares()                  # {'wait': 0.12, 'update': 0.88} since the last call

  A stage that still lasts counts up to now, so that a thread that hangs shows. Time in a stage that
  is a part of another one counts for both of them, and so twice in the sum that `reader` divides
  by. A stage costs about a microsecond.
  """

  def __init__(self, clock: Callable[[], float] = time.perf_counter):
    """Starts at zero; `clock` gives seconds."""
    self._clock = clock
    self._lock = threading.Lock()
    self._seconds: dict[str, float] = collections.defaultdict(float)
    # By passage: name, and since when it is not in `_seconds`.
    self._running: dict[_Stage, tuple[str, float]] = {}

  def __call__(self, stage: str) -> AbstractContextManager:
    """Makes a context that counts for the stage of the given name."""
    return _Stage(self, stage)

  def seconds(self) -> dict[str, float]:
    """Adds up the seconds of all threads, by stage."""
    with self._lock:
      now = self._clock()
      for passage, (stage, since) in self._running.items():
        self._seconds[stage] += now - since
        self._running[passage] = (stage, now)
      return dict(self._seconds)

  def reader(self) -> Callable[[], dict[str, float]]:
    """Makes a function that gives each stage's share of the time since its last call.

    The shares are empty if no time was spent.
    """
    last = self.seconds()

    def shares():
      nonlocal last
      now = self.seconds()
      spent = {stage: seconds - last.get(stage, 0.0) for stage, seconds in now.items()}
      last = now
      total = sum(spent.values())
      return {stage: seconds / total for stage, seconds in spent.items()} if total > 0 else {}

    return shares

  def _enter(self, passage, stage):
    with self._lock:
      self._running[passage] = (stage, self._clock())

  def _exit(self, passage):
    with self._lock:
      stage, since = self._running.pop(passage)
      self._seconds[stage] += self._clock() - since


class _Stage(AbstractContextManager):
  """One passage of one thread through a stage."""

  def __init__(self, timer, stage):
    self._timer = timer
    self._stage = stage

  def __enter__(self):
    self._timer._enter(self, self._stage)

  def __exit__(self, *exception):
    self._timer._exit(self)
