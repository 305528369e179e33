"""A training run as a process of its own, for commands that start several.

    process = RunProcess('run_experiment', ['--level_name=pong'], 'sweep/trial_000')
    while process.poll() is None: ...

A run ends with whoever started it, even if that was killed: it is told by the end of a pipe, and
stops as on SIGTERM, with a checkpoint. While it does so it holds a lock on its folder, so that
nobody goes on with the same run meanwhile.
"""

import contextlib
import os
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import time
from typing import IO

from impala_tf import errors, locks

RUN_EXPERIMENT = (
  'run_experiment'  # The module that trains on the levels of the suites that there are.
)
LOG_NAME = 'log.txt'
_LOCK_NAME = '.running'
_POLL_SECONDS = 0.5


def command(runner, arguments):
  """The command that runs a module which ends with the process that started it; its standard input
  must be a pipe from that.

  Args:
    runner: str, name of the module, as after `python -m`; flags of its own may follow, quoted as in
      a shell.
    arguments: list of str for it.

  Returns:
    A list of str.
  """
  return [sys.executable, '-m', 'impala_tf.processes', *shlex.split(runner), *arguments]


class FolderBusyError(errors.UserError, RuntimeError):
  """Another process trains in the folder."""


def claim(logdir: str) -> IO[str]:
  """Locks the folder of a run, which is made if it is missing.

  Returns:
    An open file. The lock is held until this process, and the run that the file is handed to, have
    closed it or ended.

  Raises:
    FolderBusyError: if another process holds the lock.
  """
  os.makedirs(logdir, exist_ok=True)
  with contextlib.ExitStack() as closing:
    file = closing.enter_context(open(os.path.join(logdir, _LOCK_NAME), 'w'))
    if not locks.lock(file):
      raise FolderBusyError(f'Another process trains in {logdir}. Wait for its end or stop it.')
    closing.pop_all()
  return file


def is_claimed(logdir: str) -> bool:
  """Returns whether a process holds the lock of a run's folder."""
  try:
    with open(os.path.join(logdir, _LOCK_NAME)) as file:
      return not locks.lock(file, shared=True)
  except FileNotFoundError:
    return False


class RunProcess:
  """One run.

  logdir: its folder.
  was_stopped: whether `stop` was called.
  """

  def __init__(self, runner, arguments, logdir, lock=None):
    """Starts the run.

    Args:
      runner, arguments: as for `command`; the folder is added.
      logdir: folder of the run, made if missing; its output is appended to log.txt there. If it is
        not of this machine but another path that TensorFlow knows, the output goes where this
        process's goes, and there is no lock.
      lock: file that `claim` returned for the folder, if the caller holds the lock as well. Left out,
        the run alone holds it.

    Raises:
      FolderBusyError: if another process runs there.
    """
    self.logdir = logdir
    self.was_stopped = False
    # Several runs may share a graphics card: none may take all of its memory at once.
    environment = {'TF_FORCE_GPU_ALLOW_GROWTH': 'true', **os.environ}
    line = command(runner, [*arguments, f'--logdir={logdir}'])
    # A session of its own: Ctrl-C in the terminal is for the process that starts runs, which stops
    # them in good order.
    start = lambda **more: subprocess.Popen(
      line, stdin=subprocess.PIPE, env=environment, start_new_session=True, **more
    )
    if '://' in logdir:
      self._process = start()
      return

    with contextlib.ExitStack() as files:
      if lock is None:
        lock = files.enter_context(claim(logdir))
      log = files.enter_context(open(os.path.join(logdir, LOG_NAME), 'ab'))
      # The lock belongs to the open file, which the run has, too: it ends with the run.
      self._process = start(stdout=log, stderr=subprocess.STDOUT, pass_fds=[lock.fileno()])

  def poll(self):
    """The exit code, negative for the number of a signal that killed the run; None while it runs."""
    return self._process.poll()

  def wait(self, timeout=None):
    """Waits for the end, and returns as `poll`; raises subprocess.TimeoutExpired after `timeout`
    seconds.
    """
    return self._process.wait(timeout)

  def wait_or_kill(self, seconds):
    """Waits for the end, kills what has not ended after `seconds`, and returns as `poll`."""
    try:
      return self.wait(seconds)
    except subprocess.TimeoutExpired:
      self._process.kill()
      return self.wait()

  def stop(self):
    """Asks the run to save and end."""
    self.was_stopped = True
    if self._process.poll() is None:
      self._process.send_signal(signal.SIGTERM)

  def last_lines(self, count=5):
    """The end of the run's output, a str."""
    path = os.path.join(self.logdir, LOG_NAME)
    if not os.path.exists(path):
      return ''
    with open(path, encoding='utf-8', errors='replace') as file:
      return ''.join(file.readlines()[-count:]).strip()


def start_when_free(runner, arguments, logdir, seconds, stop):
  """A `RunProcess`, once what is left of an earlier start in its folder has saved and ended.

  Args:
    runner, arguments, logdir: as for `RunProcess`.
    seconds: float, for how long to wait.
    stop: whatever is true once the waiting is to end.

  Returns:
    It, or None if `stop` came first.

  Raises:
    FolderBusyError: if another process still runs there then.
  """
  deadline = time.monotonic() + seconds
  while not stop:
    try:
      return RunProcess(runner, arguments, logdir)
    except FolderBusyError:
      if time.monotonic() > deadline:
        raise
      time.sleep(_POLL_SECONDS)
  return None


def ended_by_signal(code):
  """Whether an exit code tells of a signal: of its own accord, or as shells report those that were
  handled.
  """
  return code < 0 or code > 128


def _follow_parent():
  """Stops this process when the one that started it is gone."""
  while os.read(sys.stdin.fileno(), 1):
    pass
  os.kill(os.getpid(), signal.SIGTERM)


def _main():
  runner = sys.argv.pop(1)
  threading.Thread(target=_follow_parent, daemon=True).start()
  runpy.run_module(runner, run_name='__main__', alter_sys=True)


if __name__ == '__main__':
  _main()
