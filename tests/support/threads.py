"""The threads of a run, of which none is left at its end."""

import contextlib
import threading

from tests.support.processes import wait_until

# How the names begin that `impala_tf` gives to its threads.
NAMES = ('actor', 'environments', 'staging', 'hang-watch', 'heartbeats')


@contextlib.contextmanager
def none_left():
  """Waits at its end until no thread is left that began within it."""
  before = set(threading.enumerate())
  left = lambda: [
    thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith(NAMES)
  ]
  yield
  wait_until(lambda: not left(), 'end of all threads', 20, lambda: ', '.join(left()))
