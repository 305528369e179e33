"""Requests to end a command in good order."""

import signal
import threading
from typing import Any, Self

# The end of a terminal or of a connection by ssh, and what batch systems can be asked to send some
# time before they kill a job.
_OF_A_SYSTEM = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Stop:
  """A request to end the run in good order, made by SIGINT, SIGTERM, SIGHUP or SIGUSR1 while the
  context lasts.

  The second SIGINT has its usual effect, for a user who does not want to wait. A second one of the
  others has no effect: a scheduler that ends a whole tree of processes sends one to this process,
  and so does its parent, which must not cost the checkpoint. Under nohup SIGHUP is ignored, and
  stays so.

      with Stop() as stop:
        while not stop: ...
      sys.exit(stop.exit_code)
  """

  def __init__(self):
    """Installs nothing yet."""
    self.signal: signal.Signals | None = None
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> Self:
    # Only the main thread may install handlers; elsewhere the caller has its own way to end.
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGINT, *_OF_A_SYSTEM):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
          self._previous[number] = signal.signal(number, self._handle)
    return self

  def _handle(self, number, frame):
    del frame
    self.signal = signal.Signals(number)
    if number == signal.SIGINT:
      signal.signal(number, self._previous[number])

  def __exit__(self, *exception):
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def __bool__(self) -> bool:
    return self.signal is not None

  @property
  def exit_code(self) -> int:
    """0, or the code that shells report for a program ended by the signal."""
    return 128 + self.signal if self.signal else 0


def ended_by_signal(code: int | None) -> bool:
  """Returns whether an exit code is a signal's: killed by it, or as shells report handled ones."""
  return code is not None and (code < 0 or code > 128)


def name_of(code: int) -> str:
  """Returns the name of the signal that ended a child, by its exit code."""
  number = -code if code < 0 else code - 128
  return signal.Signals(number).name if number in set(signal.Signals) else f'signal {number}'
