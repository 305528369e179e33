"""Warnings about actors that misbehave, few however many reasons there are for them."""

import collections
import threading
import time
from collections.abc import Callable

from absl import logging

INTERVAL_SECONDS = 60.0  # between two warnings of one kind
_NAMED = 5  # actors in a warning


class Complaints:
  """A kind of warning: the first comes at once, later ones are gathered for a minute."""

  def __init__(self, what: str, remedy: str, clock: Callable[[], float] = time.monotonic):
    """Has nothing to say yet.

    Args:
      what: the beginning of the warning, before the actors.
      remedy: its last sentence.
      clock: gives seconds.
    """
    self._what, self._remedy = what, remedy
    self._clock = clock
    self._lock = threading.Lock()
    self._counts: collections.Counter[int] = collections.Counter()
    self._reasons: dict[int, str] = {}
    self._next = clock()

  def add(self, task: int, reason: str) -> None:
    """Takes in what an actor did, and warns if it is time to."""
    with self._lock:
      self._counts[task] += 1
      self._reasons[task] = reason
    self.poll()

  def poll(self) -> None:
    """Warns of what was gathered, if it is time to."""
    with self._lock:
      now = self._clock()
      if not self._counts or now < self._next:
        return
      self._next = now + INTERVAL_SECONDS
      counts, reasons = self._counts.most_common(), self._reasons
      self._counts, self._reasons = collections.Counter(), {}
    named = [f'{count} of actor {task} ({reasons[task]})' for task, count in counts[:_NAMED]]
    if len(counts) > _NAMED:
      named.append(f'those of {len(counts) - _NAMED} more actors')
    logging.warning('%s: %s. %s', self._what, '; '.join(named), self._remedy)
