"""A line for each run that a command has started: how far it is, from the end of its log."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from impala_tf.system import processes

_TAIL_BYTES = 8192
_MARK = ' frames/s'  # Stands in each line of a run's progress, and in no other.
_TERMINAL_INTERVAL = 2.0
_INTERVAL = 30.0
_UP_AND_CLEAR = '\x1b[{}F\x1b[J'


class LiveLines:
  """Lines that are rewritten in place on a terminal, and printed now and then elsewhere.

  Other text that is printed meanwhile goes through them, too:

      lines = LiveLines()
      lines.show({'trial_000': 'runs/sweep/trial_000'})     # as often as one likes
      lines.print('trial_000 finished')                     # above them
  """

  def __init__(
    self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
  ) -> None:
    """Prints nothing yet; standard output is the default of the stream."""
    self._stream = sys.stdout if stream is None else stream
    self._is_terminal = self._stream.isatty()
    self._interval = _TERMINAL_INTERVAL if self._is_terminal else _INTERVAL
    self._clock = clock
    self._due = clock()
    self._shown: list[str] = []

  def show(self, runs: Mapping[str, str]) -> None:
    """Prints a line for each run if it is time; elsewhere than on a terminal, where it has changed.

    Args:
      runs: folders by the names of the runs.
    """
    if self._clock() < self._due:
      return
    self._due = self._clock() + self._interval
    lines = [f'{name}: {_progress(logdir) or "starting"}' for name, logdir in runs.items()]
    if self._is_terminal:
      self._clear()
      # A line that wraps, or has left the terminal at its top, could not be rewritten.
      width, height = shutil.get_terminal_size()
      if len(lines) > (most := max(1, height - 2)):
        lines[most - 1 :] = [f'and {len(lines) - most + 1} more']
      text = ''.join(f'{line[: width - 1]}\n' for line in lines)
    else:
      text = ''.join(f'{line}\n' for line in lines if line not in self._shown)

    self._shown = lines
    self._stream.write(text)
    self._stream.flush()

  def print(self, text: str) -> None:
    """Prints a text that stays."""
    if self._is_terminal:
      self._clear()
      self._due = self._clock()
    self._stream.write(f'{text}\n')
    self._stream.flush()

  def _clear(self):
    if self._shown:
      self._stream.write(_UP_AND_CLEAR.format(len(self._shown)))
    self._shown = []


def _progress(logdir):
  """Returns frames, speed, time left and mean return of a run's newest line; '' before it."""
  path = os.path.join(logdir, processes.LOG_NAME)
  if not os.path.exists(path):
    return ''
  with open(path, 'rb') as file:
    file.seek(max(0, os.path.getsize(path) - _TAIL_BYTES))
    lines = file.read().decode(errors='replace').splitlines()
  newest = next((line for line in reversed(lines) if _MARK in line), '')
  parts = newest.split(', ')
  return ', '.join([*parts[:3], *(part for part in parts[3:] if part.startswith('return '))])
