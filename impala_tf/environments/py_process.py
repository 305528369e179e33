"""A Python object in a process of its own.

Environments run Python code of their own and would compete for this process's interpreter lock. A
`PyProcess` constructs its object in a new process and forwards calls:

    with py_process.PyProcess(HostedBatch, constructors, shared={'rows': rows}) as process:
      process.call('step', 1)

`process_group` makes TensorFlow operations of such calls. If the object has a method `close`, that
is called as the last thing in its process.

The process is forked from a small server that never imports TensorFlow, and ends when its
connection does: when it is closed, and also when this process dies, by any signal. Both ignore the
signals that a terminal and a cluster's scheduler send to children too, while the parent decides
when to end.
"""

import contextlib
import errno
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from multiprocessing import connection as mp_connection
from multiprocessing import forkserver, resource_tracker
from multiprocessing import util as mp_util
from typing import Any

import psutil

from impala_tf import errors
from impala_tf.environments import worker
from impala_tf.system import machine, scratch

_UNKNOWN = 255  # What `multiprocessing` gives as the exit code of a process whose server has died.
_context = multiprocessing.get_context('forkserver')
# Whenever `multiprocessing` starts a child it looks at all the others, and two threads must not do
# that at the same time. The lock is re-entrant because garbage collection may end a process at any
# point, even in a thread that holds the lock already.
_lifecycle_lock = threading.RLock()
_closing_lock = threading.RLock()


# Modules without TensorFlow that the server imports once, so that the children share their memory.
_preloaded = {'impala_tf.environments.worker', 'impala_tf.environments.base'}


class ProcessError(errors.UserError, RuntimeError):
  """The constructor or a method raised in the process (the message holds its traceback), or the
  process died.
  """


class ProcessClosed(StopIteration):
  """The process was closed before or during the call.

  From an operation it arrives as tf.errors.OutOfRangeError.
  """


class PyProcess:
  """An object in a process of its own.

  Calls from several threads take turns.
  """

  def __init__(
    self,
    type_: Callable[..., Any],
    *args,
    shared: Mapping[str, Any] | None = None,
    **kwargs,
  ):
    """Keeps what `start` needs.

    Args:
      type_: picklable class (or function returning an object).
      *args: picklable arguments of its constructor.
      shared: keyword arguments of its constructor that can be pickled only while a process starts,
        such as memory that both processes see.
      **kwargs: picklable keyword arguments of its constructor.
    """
    self._name = getattr(type_, '__qualname__', repr(type_))
    self._constructor = pickle.dumps((type_, args, kwargs))
    self._shared = shared or {}
    self._call_lock = threading.Lock()
    self._connection: Any = None  # None while it is not running, like the process.
    self._process: Any = None
    self._server: int | None = None  # The process that it was forked from.
    self._closing = False
    self._method: str | None = None  # That it is called for now.
    self._calls = 0
    self._killed = ''  # Why.

  @property
  def pid(self) -> int | None:
    """The process's id, None when it was not started or is closed."""
    return self._process.pid if self._connection is not None else None

  def start(self) -> None:
    """Starts the process and waits for the object's constructor; starts a new one if it ran before.

    Raises:
      ProcessError: if the constructor raised, with its traceback, or the process died in it.
    """
    start_all([self])

  def call(self, method: str, *args) -> Any:
    """Calls a method of the object, or reads an attribute.

    Args:
      method: its name.
      *args: picklable arguments; NumPy arrays or nests of them.

    Returns:
      The method's result.

    Raises:
      ProcessError: if the method raised, with its traceback, or the process died. After the former
        the object lives on.
      ProcessClosed: if the process is not running because it was closed or never started.
    """
    with self._call_lock:
      if self._connection is None:
        raise ProcessClosed(f'{self._name} is closed or was not started: call start() first.')
      return self._exchange(method, pickle.dumps((method, args)))

  def kill(self, pid: int, reason: str) -> None:
    """Kills the process, and what it has started, if it is still that one; a thread that waits for
    it gets a ProcessError.

    Args:
      pid: its id.
      reason: what follows the process in the error, such as 'was killed as it hung'.
    """
    if self.pid == pid:
      self._killed = reason
      descendants = []
      with contextlib.suppress(psutil.Error):
        descendants = psutil.Process(pid).children(recursive=True)
      with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
      for process in descendants:
        with contextlib.suppress(psutil.Error):
          process.kill()

  def close(self, grace_seconds: float = worker.GRACE_SECONDS) -> None:
    """Lets the object close, then ends the process; does nothing when it is not running.

    A call that another thread waits for may finish meanwhile. A process that does not end in time
    is killed, and such a call raises ProcessClosed.
    """
    close_all([self], grace_seconds)

  def __enter__(self):
    self.start()
    return self

  def __exit__(self, *unused_exception):
    self.close()

  def _launch(self):
    """Starts the process without waiting for the constructor."""
    ours, theirs = _context.Pipe(duplex=True)
    self._process = _context.Process(
      target=worker.serve, args=(theirs, self._constructor, self._shared), name=self._name
    )
    # Loading this program's main module again in each child would import TensorFlow and cost
    # seconds: it is only needed if the constructor's pickle refers to it.
    hide = contextlib.nullcontext() if b'__main__' in self._constructor else _hidden_main()
    try:
      # Only the child may keep `theirs` open, or its death would not end the connection.
      with _lifecycle_lock, theirs, hide:
        _ensure_server()
        self._process.start()
    except (EOFError, OSError) as error:  # A server that can't fork ends without a word.
      ours.close()
      if getattr(error, 'errno', None) == errno.EMFILE:
        raise
      remedy = ''
      if isinstance(error, EOFError) or error.errno in (errno.EAGAIN, errno.ENOMEM):
        remedy = (
          " Memory is short, or processes are (`ulimit -u`, the container's limit): have fewer of "
          'them, or raise the limit.'
        )
      raise ProcessError(
        f'No process of {self._name} could be started: {error}.{remedy}'
      ) from error

    with contextlib.suppress(psutil.Error):
      self._server = psutil.Process(self._process.pid).ppid()
    self._connection, self._closing, self._killed = ours, False, ''
    # On garbage collection, or at the latest before multiprocessing waits for its children at exit.
    self._finalizer = mp_util.Finalize(
      self, _end, (self._process, ours, worker.GRACE_SECONDS), exitpriority=10
    )

  def _exchange(self, what, request=None):
    self._calls += 1
    self._method = what
    try:
      if request is not None:
        self._connection.send_bytes(request)
      succeeded, value = pickle.loads(self._connection.recv_bytes())
    except (EOFError, OSError):
      if self._closing:
        raise ProcessClosed(f'{self._name} was closed during {what}.') from None
      raise ProcessError(
        f'Process {self._process.pid} of {self._name} {self._how_it_died()} during {what}.'
      ) from None
    except BaseException:
      self._process.kill()  # An interrupted call's answer would be taken for that of the next.
      raise
    finally:
      self._method = None

    if not succeeded:
      raise ProcessError(f'{self._name}.{what} raised in process {self._process.pid}: {value}')
    return value

  def _how_it_died(self):
    _reap(self._process, worker.GRACE_SECONDS)
    code = self._process.exitcode
    if self._killed:
      return self._killed
    if code is not None and code < 0:
      return f'was killed by {signal.Signals(-code).name}'
    if code in (None, _UNKNOWN) and not _is_running(self._server):
      return (
        f'ended, and so did the server that it was forked from, process {self._server}: it would '
        'know why (something may have killed both, as where memory is short)'
      )

    return f'ended with exit code {code}'


def preload(modules: Iterable[str]) -> None:
  """Lets the processes that start later share modules, if none was started before; see
  `suite.Suite.shared_modules`.
  """
  _preloaded.update(modules)


def start_all(processes: Sequence[PyProcess]) -> None:
  """Starts processes side by side and waits for all their constructors.

  Args:
    processes: not yet running.

  Raises:
    ProcessError: of the first process whose constructor raised or that died in it, or if they need
      more files, processes or memory than there are. All are closed then.
  """
  close_all(processes)
  machine.allow_many_files()  # Each process takes five.
  _context.set_forkserver_preload(sorted(_preloaded))
  try:
    for process in processes:
      process._launch()
    for process in processes:
      with process._call_lock:
        process._exchange('__init__')
  except BaseException as error:
    close_all(processes)
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
      raise ProcessError(
        f'{len(processes)} processes take more files than may be open at once here. Have fewer of '
        'them, or raise that limit (`ulimit -n`).'
      ) from error
    raise


def close_all(processes: Sequence[PyProcess], grace_seconds: float = worker.GRACE_SECONDS) -> None:
  """Closes processes side by side: `grace_seconds` is for all of them together."""
  with _closing_lock:
    running = [process for process in processes if process._connection is not None]
    for process in running:
      process._closing = True
      _hang_up(process._connection)
    deadline = time.monotonic() + grace_seconds
    for process in running:
      process._finalizer.cancel()
      _end(process._process, process._connection, deadline - time.monotonic())
      # A thread may still be reading: the descriptor must not become another file's.
      with process._call_lock:
        process._connection.close()
        process._connection = None


def _ensure_server():
  """Starts the server that forks processes, if it is not running."""
  # Its socket is in a folder that goes with this process, by a path that is short enough. What ends
  # a whole group of processes must not end it: a thread's signals that wait are its children's.
  folder, tempfile.tempdir = tempfile.tempdir, scratch.folder()
  # Hundreds of processes share the cores: libraries of linear algebra need one thread in each.
  is_users = 'OMP_NUM_THREADS' in os.environ
  os.environ.setdefault('OMP_NUM_THREADS', '1')
  waiting = signal.pthread_sigmask(signal.SIG_BLOCK, worker.ENDING_SIGNALS)
  try:
    resource_tracker.ensure_running()  # It lets some of the signals through again.
    signal.pthread_sigmask(signal.SIG_BLOCK, worker.ENDING_SIGNALS)
    forkserver.ensure_running()
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, waiting)
    tempfile.tempdir = folder
    if not is_users:
      del os.environ['OMP_NUM_THREADS']


def _is_running(pid):
  try:
    return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
  except psutil.Error:
    return False


@contextlib.contextmanager
def _hidden_main():
  """Hides from `multiprocessing` where the main module came from."""
  main = sys.modules['__main__']
  hidden = {
    name: main.__dict__.pop(name) for name in ('__file__', '__spec__') if name in main.__dict__
  }
  main.__spec__ = None
  try:
    yield
  finally:
    del main.__spec__
    main.__dict__.update(hidden)


def _hang_up(connection):
  """Ends the child's stream of requests, even while other threads use the connection."""
  with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
    duplicate.shutdown(socket.SHUT_WR)


def _end(process, connection, grace_seconds):
  _hang_up(connection)
  # The connection shows for certain that the process has ended, unlike the server of
  # `multiprocessing`, which a signal to the whole process group may have killed.
  if not worker.wait_for_hang_up(connection, grace_seconds):
    with contextlib.suppress(ProcessLookupError):
      os.kill(process.pid, signal.SIGKILL)
    worker.wait_for_hang_up(connection)
  _reap(process, worker.GRACE_SECONDS)


def _reap(process, seconds):
  mp_connection.wait([process.sentinel], seconds)
  with _lifecycle_lock:
    process.join(0)
