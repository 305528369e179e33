"""Levels of which the learner of a cluster gets no unrolls, and why as far as it can see it."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from impala_tf import errors
from impala_tf.cluster.heartbeats import ActorHeartbeat

# Unrolls that come from each environment, on average, before one that is missing is missed. Where
# the learner is the slow part they come rarely.
_ROUNDS = 4
_REPEAT = 10  # A warning comes again after so many times the seconds after which it came first.
_NAMED = 6  # levels, or actors of a level, in a sentence


class QuietLevels:
  """Watches over the levels: somebody is to play each, and its unrolls are to come."""

  def __init__(
    self, levels: Sequence[str], seconds: float, clock: Callable[[], float] = time.monotonic
  ):
    """Begins to watch.

    Args:
      levels: names of the run's levels.
      seconds: for which a level may be quiet.
      clock: gives seconds.
    """
    self._levels = tuple(levels)
    self._seconds = seconds
    self._clock = clock
    now = clock()
    # Another thread counts unrolls.
    self._lock = threading.Lock()
    self._unrolls = 0
    self._last = [(now, 0)] * len(self._levels)  # When one came, and how many of all had by then.
    self._players: list[list[int]] = [[]] * len(self._levels)
    self._since = [now] * len(self._levels)  # When the players came, or the last of them went.
    self._is_anybody_there = False
    self._environments = 0
    self._said: dict[str, float] = {}  # Sentences, and when.

  def count(self, levels: Sequence[int]) -> None:
    """Takes in the levels of unrolls that have come."""
    now = self._clock()
    with self._lock:
      self._unrolls += len(levels)
      for level in levels:
        self._last[level] = (now, self._unrolls)

  def update(self, present: Mapping[int, ActorHeartbeat]) -> None:
    """Takes in which actors there are, by their tasks."""
    now = self._clock()
    self._environments = sum(heartbeat.environments for heartbeat in present.values())
    if present and not self._is_anybody_there:  # The others come after the first one.
      self._since = [now] * len(self._levels)
    self._is_anybody_there = bool(present)
    for i in range(len(self._levels)):
      players = [task for task, heartbeat in present.items() if i in heartbeat.levels]
      if bool(players) != bool(self._players[i]):
        self._since[i] = now
      self._players[i] = players

  def unplayed(self) -> str:
    """Says which levels no actor has played for some time; the empty text if there are none."""
    now = self._clock()
    names = [
      name
      for name, players, since in zip(self._levels, self._players, self._since, strict=True)
      if not players and now - since >= self._seconds
    ]
    if not names:
      return ''
    return (
      f'For {self._seconds:.0f} s and more no connected actor has played '
      f'{errors.listed(names, _NAMED)}. Start more actors, or give them more --num_actors.'
    )

  def silent(self) -> str:
    """Says of which levels nothing comes although actors play them; the empty text if of none."""
    now = self._clock()
    with self._lock:
      last, unrolls = list(self._last), self._unrolls
    names = []
    for name, players, since, (when, count) in zip(
      self._levels, self._players, self._since, last, strict=True
    ):
      is_overdue = unrolls - count > _ROUNDS * self._environments
      if players and is_overdue and now - max(since, when) >= self._seconds:
        names.append(f'{name} (actors: {errors.listed(list(map(str, players)), _NAMED)})')

    if not names:
      return ''
    return (
      f'For {self._seconds:.0f} s and more no unroll has come of '
      f'{errors.listed(names, _NAMED)}, though actors play it. See what they print.'
    )

  def warnings(self) -> list[str]:
    """Returns what is to be said now: each sentence when it is new, and rarely while it holds."""
    now = self._clock()
    sentences = [text for text in (self.unplayed(), self.silent()) if text]
    self._said = {text: when for text, when in self._said.items() if text in sentences}
    new = [
      text
      for text in sentences
      if text not in self._said or now - self._said[text] >= _REPEAT * self._seconds
    ]
    self._said |= dict.fromkeys(new, now)
    return new
