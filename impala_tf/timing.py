"""Where the time goes: how long threads spend in the stages of their work."""

import collections
import threading
import time


class StageTimer:
  """Adds up how long threads spend in the stages of their work, to tell which one holds them up.

    timer = StageTimer()
    shares = timer.reader()
    with timer('wait'):       # in any thread; the stages of one thread follow each other, they don't nest
      ...
    shares()                  # {'wait': 0.12, 'update': 0.88} since the last call

  A stage that still lasts counts up to now, so that a thread that hangs shows. It costs about a
  microsecond a stage.
  """

  def __init__(self, clock=time.perf_counter):
    """Starts at zero; `clock` gives seconds."""
    self._clock = clock
    self._lock = threading.Lock()
    self._seconds = collections.Counter()
    self._running = {}  # By `_Stage`: name, and since when it is not in `_seconds`.

  def __call__(self, stage):
    """A context that counts for the stage of the given name."""
    return _Stage(self, stage)

  def seconds(self):
    """Seconds by stage, all threads added up, a dict."""
    with self._lock:
      now = self._clock()
      for passage, (stage, since) in self._running.items():
        self._seconds[stage] += now - since
        self._running[passage] = (stage, now)
      return dict(self._seconds)

  def reader(self):
    """A function that gives each stage's share of the time since its last call, a dict; empty if
    none was spent.
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


class _Stage:
  """One passage of one thread through a stage."""

  def __init__(self, timer, stage):
    self._timer = timer
    self._stage = stage

  def __enter__(self):
    self._timer._enter(self, self._stage)

  def __exit__(self, *exception):
    self._timer._exit(self)
