"""The child's side of a `py_process.PyProcess`: constructs an object, answers calls, and ends with
its parent.

This module imports no TensorFlow.
"""

import contextlib
import os
import pickle
import select
import signal
import threading
import time
import traceback

GRACE_SECONDS = (
  5.0  # for the object's `close` and the call that it is busy with, before the process is killed
)


def serve(connection, block, constructor):
  """The child's main function: answers (succeeded, value or message, array sizes) to each request."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  threading.Thread(target=_follow_parent, args=(connection,), daemon=True).start()
  hosted = None

  def construct():
    nonlocal hosted
    type_, args, kwargs = pickle.loads(constructor)
    hosted = type_(*args, **kwargs)

  def call(request):
    method, args = pickle.loads(request)
    value = getattr(hosted, method)
    return value(*args) if args or callable(value) else value

  def answer(function, *args):
    try:
      reply = True, *block.write(function(*args))
    except Exception as error:
      reply = False, f'{type(error).__name__}: {error}\n\n{traceback.format_exc()}', ()
    connection.send_bytes(pickle.dumps(reply))
    return reply[0]

  try:
    # No request can come any more once the parent has closed or died.
    with contextlib.suppress(EOFError, OSError):
      if answer(construct):
        while True:
          answer(call, connection.recv_bytes())
  finally:
    if hasattr(hosted, 'close'):
      hosted.close()


def _follow_parent(connection):
  """Ends a process whose object does not come back to be told that the parent has died."""
  wait_for_hang_up(connection)
  time.sleep(GRACE_SECONDS)
  os._exit(1)


def wait_for_hang_up(connection, seconds=None):
  """Waits until the other process no longer has its end; returns whether it is so."""
  poller = select.poll()
  poller.register(
    connection.fileno(), 0
  )  # an error or a hang-up is reported without being asked for
  return bool(poller.poll(None if seconds is None else 1000 * max(seconds, 0)))
