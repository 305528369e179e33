"""The child's side of a `py_process.PyProcess`: it constructs an object, answers calls, and ends
with its parent.
"""

import contextlib
import io
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from multiprocessing import connection as mp_connection
from typing import Any

from impala_tf import errors

# A process that is to end has so long to finish the call that it is busy with, and the object's
# `close`. Then it is killed.
GRACE_SECONDS = 5.0
# A terminal, its loss, and a cluster's scheduler send these to children, too, while the parent
# decides when they end. Those of a terminal reach programs that an environment has started, too,
# and they ignore them as well; by the others an environment ends its programs.
_OF_TERMINALS = (signal.SIGINT, signal.SIGHUP)
_OF_PROGRAMS = (signal.SIGTERM, signal.SIGUSR1)
ENDING_SIGNALS = (*_OF_TERMINALS, *_OF_PROGRAMS)


def serve(
  connection: mp_connection.Connection, constructor: bytes, shared: Mapping[str, Any]
) -> None:
  """Runs the child: answers (succeeded, value or message) to each request.

  Args:
    connection: the child's end.
    constructor: the pickle of a class and its positional and keyword arguments.
    shared: further keyword arguments.
  """
  for number in _OF_TERMINALS:
    signal.signal(number, signal.SIG_IGN)
  for number in _OF_PROGRAMS:
    signal.signal(number, lambda *unused: None)  # Unlike SIG_IGN no program inherits it.
    signal.siginterrupt(number, False)
  # The server keeps them away while it starts; a program that the environment starts needs them.
  signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
  os.register_at_fork(after_in_child=lambda: _after_fork(connection))
  sys.stdout = FewLines(sys.stderr)
  threading.Thread(target=_follow_parent, args=(connection,), daemon=True).start()
  hosted: Any = None

  def construct():
    nonlocal hosted
    type_, args, kwargs = pickle.loads(constructor)
    hosted = type_(*args, **kwargs, **shared)

  def call(request):
    method, args = pickle.loads(request)
    value = getattr(hosted, method)
    return value(*args) if args or callable(value) else value

  def answer(function, *args):
    try:
      succeeded, reply = True, pickle.dumps((True, function(*args)))
    except errors.UserError as error:
      succeeded, reply = False, pickle.dumps((False, str(error)))
    except Exception as error:
      message = f'{type(error).__name__}: {error}\n\n{traceback.format_exc()}'
      succeeded, reply = False, pickle.dumps((False, message))
    connection.send_bytes(reply)
    return succeeded

  try:
    # Requests end when the parent has closed its end or died.
    with contextlib.suppress(EOFError, OSError):
      if answer(construct):
        while True:
          answer(call, connection.recv_bytes())
  finally:
    if hasattr(hosted, 'close'):
      hosted.close()


def _after_fork(connection):
  """Lets a copy of the process, which an environment has forked, be ended, and the connection show
  the end of the process that was copied.
  """
  connection.close()
  for number in _OF_PROGRAMS:
    signal.signal(number, signal.SIG_DFL)


def _follow_parent(connection):
  """Ends the process some time after its parent, if the object is busy and does not notice."""
  wait_for_hang_up(connection)
  time.sleep(GRACE_SECONDS)
  os._exit(1)


def wait_for_hang_up(connection: mp_connection.Connection, seconds: float | None = None) -> bool:
  """Waits until the other process no longer has its end; returns whether that is so."""
  poller = select.poll()
  # An error or a hang-up is reported without being asked for.
  poller.register(connection.fileno(), 0)
  return bool(poller.poll(None if seconds is None else 1000 * max(seconds, 0)))


class FewLines(io.TextIOBase):
  """Stands for the standard output of an environment that prints: its first lines go to another
  stream, and the rest of perhaps thousands nowhere.
  """

  _LINES = 3

  def __init__(self, stream: Any):
    """Takes where the lines go."""
    self._stream = stream
    self._left = self._LINES

  @property
  def encoding(self) -> str:  # type: ignore[override]
    """The other stream's."""
    return self._stream.encoding

  def fileno(self) -> int:
    """Returns the other stream's descriptor, for programs that an environment starts."""
    return self._stream.fileno()

  def write(self, text: str) -> int:
    """Writes a text as `io.TextIOBase.write`, as long as there are lines left."""
    if self._left > 0:
      self._left -= text.count('\n')
      self._stream.write(text)
      if self._left <= 0:
        self._stream.write(
          f'Process {os.getpid()} of environments prints more, which is not shown; what it writes '
          'to standard error is.\n'
        )
      self._stream.flush()
    return len(text)
