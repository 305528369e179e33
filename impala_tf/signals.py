"""How a command is asked to end in good order."""

import signal
import threading


class Stop:
  """A request to end the run in good order, made by SIGINT or SIGTERM while the context lasts.

  The second SIGINT has its usual effect, for a user who does not want to wait. A second SIGTERM has
  none: whoever ends a whole tree of processes sends it to this one, and so does this one's parent,
  which must not cost the checkpoint.

    with Stop() as stop:
      while not stop: ...
    sys.exit(stop.exit_code)
  """

  def __init__(self):
    """Describes the request; nothing is installed yet."""
    self.signal = None
    self._previous = {}

  def __enter__(self):
    # Only the main thread may install handlers; elsewhere the caller has its own way to end.
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGINT, signal.SIGTERM):
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

  def __bool__(self):
    return self.signal is not None

  @property
  def exit_code(self):
    """0, or what shells report for a program ended by the signal."""
    return 128 + self.signal if self.signal else 0
