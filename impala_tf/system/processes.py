"""Child processes that run a module, and the supervisor that all commands share which start some.

    with signals.Stop() as stop, processes.Supervisor(stop) as children:
      children.start('member 0', lambda: processes.RunProcess('impala_tf', [...], folder))
      for ended in children.ends():
        print(ended.name, ended.code)

A child ends with the process that started it, even if that one was killed: the child sees the end
of a pipe, and stops as on SIGTERM, with a checkpoint. A run holds a lock on its folder until it has
stopped, so that nobody resumes it meanwhile.
"""

import contextlib
import math
import os
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, NamedTuple

from impala_tf.system import locks, signals
from impala_tf.system.paths import is_remote

# The module that trains, as run_experiment.py does.
MAIN_MODULE = 'impala_tf'
LOG_NAME = 'log.txt'

POLL_SECONDS = 0.2
RESTART_SECONDS = 1.0  # Before a child that was killed is restarted.
STOP_SECONDS = 120.0  # For a child to save and end, before it is killed.
MAX_KILLS = 3  # In a row, after which a child is given up.
# A run that lived for so long was well: longer than runs have between two checkpoints by default,
# so that one which is restarted again and again gets somewhere.
SOUND_SECONDS = 600.0
_LAST_LINES = 5  # Of a child that ended.
# For the last lines to be shown, which a process that outlives its child might hold back.
_LAST_LINES_SECONDS = 5.0


class Child:
  """A process that runs a module and ends with this one.

  Attributes:
    pid: its id, which is that of its session, too.
    was_stopped: whether `stop` was called.
  """

  def __init__(
    self,
    module: str,
    arguments: list[str],
    *,
    show: Callable[[str], None] | None = None,
    output: Any = None,
    environment: Mapping[str, str] | None = None,
  ):
    """Starts the process.

    Args:
      module: its name, as after `python -m`; flags of its own may follow, quoted as in a shell.
      arguments: further ones.
      show: takes each line that the process prints; None leaves the output as it is.
      output: the file to which it goes otherwise; None for that of this process.
      environment: variables besides those of this process.
    """
    self.was_stopped = False
    self._process = subprocess.Popen(
      [sys.executable, '-m', 'impala_tf.system.processes', *shlex.split(module), *arguments],
      stdin=subprocess.PIPE,  # Its end is that of this process, see `_follow_parent`.
      stdout=subprocess.PIPE if show else output,
      stderr=None if show is None and output is None else subprocess.STDOUT,
      # Ctrl-C in the terminal is for this process, which stops its children in good order.
      start_new_session=True,
      # A run that starts processes of its own hands them the lock on its folder, which is only
      # free once all of them have ended.
      close_fds=False,
      env={**os.environ, **(environment or {})},
    )
    self.pid = self._process.pid
    self._reader = None
    if show:
      self._reader = threading.Thread(target=self._pass_on, args=(show,), daemon=True)
      self._reader.start()

  def _pass_on(self, show):
    for line in self._process.stdout:
      show(line.decode(errors='replace').rstrip('\n'))

  def poll(self) -> int | None:
    """Returns the exit code, negative for the number of the signal that killed it; None before."""
    return self._process.poll()

  def stop(self) -> None:
    """Asks the process to save and end."""
    self.was_stopped = True
    if self._process.poll() is None:
      self._process.send_signal(signal.SIGTERM)

  def wait_or_kill(self, seconds: float) -> int:
    """Waits for the end, kills the session if it has not ended in time, and returns the code."""
    try:
      code = self._process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
      os.killpg(self._process.pid, signal.SIGKILL)
      code = self._process.wait()
    if self._reader:
      self._reader.join(_LAST_LINES_SECONDS)
    return code

  def last_lines(self) -> str:
    """Returns the end of the output if that was kept in a file."""
    return ''


class RunProcess(Child):
  """A training run in a folder, its `logdir`."""

  def __init__(
    self,
    module: str,
    arguments: list[str],
    logdir: str,
    lock: IO[str] | None = None,
    environment: Mapping[str, str] | None = None,
  ):
    """Starts the run.

    Args:
      module, arguments: as for `Child`; the folder is added.
      logdir: folder of the run, made if missing; its output is appended to log.txt there. If it is
        not of this machine but another path that TensorFlow knows, the output goes where this
        process's goes, and there is no lock.
      lock: file that `locks.claim` returned for the folder, if the caller holds the lock as well.
        Left out, the run alone holds it.
      environment: as for `Child`.

    Raises:
      FolderBusyError: if another process runs there.
    """
    self.logdir = logdir
    arguments = [*arguments, f'--logdir={logdir}']
    if is_remote(logdir):
      super().__init__(module, arguments, environment=environment)
      return

    with contextlib.ExitStack() as files:
      if lock is None:
        lock = files.enter_context(locks.claim(logdir))
      log = files.enter_context(open(os.path.join(logdir, LOG_NAME), 'ab'))

      # The lock belongs to the open file, which this run inherits, but no other child: it ends with
      # the run.
      os.set_inheritable(lock.fileno(), True)
      try:
        super().__init__(module, arguments, output=log, environment=environment)
      finally:
        os.set_inheritable(lock.fileno(), False)

  def last_lines(self) -> str:
    """Returns the end of the run's output."""
    path = os.path.join(self.logdir, LOG_NAME)
    if not os.path.exists(path):
      return ''
    with open(path, encoding='utf-8', errors='replace') as file:
      return ''.join(file.readlines()[-_LAST_LINES:]).strip()


class Ended(NamedTuple):
  """The end of a child.

  Attributes:
    name: as given to `Supervisor.start`.
    code: its exit code, None if it was not started, as its folder stayed busy.
    message: the last lines of its output, or why it was given up.
    kills: how often in a row a signal had killed it by then, where this one did not live for long.
  """

  name: Any
  code: int | None
  message: str
  kills: int = 0

  def __str__(self) -> str:
    how = 'was not started' if self.code is None else f'ended with exit code {self.code}'
    return f'{self.name} {how}' + (f':\n{self.message}' if self.message else '.')


class _Entry:
  """A child of a supervisor: how to start it, and what it has gone through."""

  def __init__(self, start, now, kills):
    self.start = start
    self.process = None
    self.began = now
    self.due = now  # When it is to be started, while it has no process.
    self.kills = kills


class Supervisor:
  """Child processes that are restarted where a signal killed them, and stopped in good order.

  A child that was killed `MAX_KILLS` times in a row, each time before it had lived for
  `sound_seconds`, is given up. One whose folder is busy is started as soon as what is left of an
  earlier run there has saved and ended. Leaving the context stops all children.
  """

  def __init__(
    self,
    stop: Any,
    *,
    restart: bool = True,
    sound_seconds: float = SOUND_SECONDS,
    show: Callable[[str], None] | None = None,
  ):
    """Supervises no child yet.

    Args:
      stop: `signals.Stop`, or anything else that becomes true when no child is to be started or
        restarted any more.
      restart: whether children are restarted; otherwise one that was killed has ended, and its
        kills are counted on where it is started with them.
      sound_seconds: how long a child must have lived for its earlier kills not to count any more.
      show: takes a line about each restart; None prints it.
    """
    self._stop = stop
    self._restart = restart
    self._sound_seconds = sound_seconds
    self._show = show or (lambda line: print(line, flush=True))
    self._entries: dict[Any, _Entry] = {}

  def __enter__(self) -> 'Supervisor':
    return self

  def __exit__(self, *exception: object) -> None:
    self.stop_all()

  def __contains__(self, name: Any) -> bool:
    return name in self._entries

  def start(self, name: Any, start: Callable[[], Child], kills: int = 0) -> None:
    """Starts a child.

    Args:
      name: its own, in messages as text.
      start: makes the process; called again for each restart. It may raise FolderBusyError, and is
        then called until the folder is free, for `STOP_SECONDS` at most.
      kills: how often in a row it was killed before.
    """
    self._entries[name] = _Entry(start, time.monotonic(), kills)
    self._start_when_due(name)

  def process(self, name: Any) -> Child | None:
    """Returns the process of a child, None while it has none."""
    return self._entries[name].process

  def stop(self, name: Any) -> None:
    """Asks a child to save and end; how it does is seen by `poll`."""
    entry = self._entries[name]
    if entry.process is not None:
      entry.process.stop()

  def poll(self) -> list[Ended]:
    """Looks at each child once: restarts those that were killed, and returns those that ended."""
    found = [self._look(name) for name in self._entries]
    ended = [one for one in found if one is not None]
    for one in ended:
      del self._entries[one.name]
    return ended

  def ends(
    self, seconds: float = math.inf, watch: Callable[[], None] = lambda: None
  ) -> Iterator[Ended]:
    """Yields children as they end, until all have, `stop` is true, or the seconds are over."""
    deadline = time.monotonic() + seconds
    while self._entries and not self._stop and time.monotonic() < deadline:
      time.sleep(POLL_SECONDS)
      watch()
      # What ends now may do so as it was asked to, together with this process.
      yield from [] if self._stop else self.poll()

  def stop_all(self) -> list[Ended]:
    """Asks all children to save and end, kills those that don't in time, and returns all."""
    processes = {name: entry.process for name, entry in self._entries.items()}
    self._entries = {}
    for process in processes.values():
      if process is not None:
        process.stop()
    deadline = time.monotonic() + STOP_SECONDS
    ended = []
    for name, process in processes.items():
      if process is None:
        ended.append(Ended(name, None, ''))
        continue
      code = process.wait_or_kill(deadline - time.monotonic())
      if code == -signal.SIGKILL and time.monotonic() >= deadline:
        self._show(f'{name} did not end within {STOP_SECONDS:.0f} s and was killed.')
      ended.append(Ended(name, code, process.last_lines()))
    return ended

  def _look(self, name):
    entry = self._entries[name]
    if entry.process is None:
      return self._start_when_due(name)
    code = entry.process.poll()
    if code is None:
      return None
    said = entry.process.last_lines()
    if entry.process.was_stopped or not signals.ended_by_signal(code):
      entry.process.wait_or_kill(0.0)  # So that all it printed is shown.
      return Ended(name, code, said)
    now = time.monotonic()
    entry.kills = 0 if now - entry.began > self._sound_seconds else entry.kills + 1
    was_killed = f'{name} was killed by {signals.name_of(code)}'
    if entry.kills >= MAX_KILLS:
      said = (
        f'{was_killed} {entry.kills} times in a row, each time within {self._sound_seconds:.0f} s '
        f'of its start. See what kills it: if memory is short, run less at a time.\n{said}'.strip()
      )
    if entry.kills >= MAX_KILLS or not self._restart:
      return Ended(name, code, said, entry.kills)
    self._show(f'{was_killed} and is restarted.')
    entry.process, entry.began, entry.due = None, now, now + RESTART_SECONDS
    return None

  def _start_when_due(self, name):
    entry, now = self._entries[name], time.monotonic()
    if self._stop or now < entry.due:
      return None
    try:
      entry.process, entry.began = entry.start(), now
    except locks.FolderBusyError as error:
      if now > entry.due + STOP_SECONDS:
        return Ended(name, None, str(error))
    return None


def _follow_parent():
  """Stops this process when the one that started it is gone."""
  while os.read(sys.stdin.fileno(), 1):
    pass
  os.kill(os.getpid(), signal.SIGTERM)
  # Nobody else is left to end a process that hangs.
  time.sleep(STOP_SECONDS)
  os.kill(os.getpid(), signal.SIGKILL)


def _main():
  module = sys.argv.pop(1)
  threading.Thread(target=_follow_parent, daemon=True).start()
  runpy.run_module(module, run_name='__main__', alter_sys=True)


if __name__ == '__main__':
  _main()
