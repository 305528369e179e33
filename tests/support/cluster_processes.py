"""Learner and actors of the tests' small task as processes of their own, or one process that does
everything.
"""

import contextlib
import os
import pathlib
import signal
import subprocess

import psutil

from impala_tf.cluster import roles
from tests.support import processes


class Processes:
  """Starts and ends processes of one cluster on loopback; none is left when the context ends.

  address: the learner's.
  """

  def __init__(self, folder, *flags, runner='impala_tf', environment=()):
    """`folder` is where their output goes, `flags` are for all of them, `runner` is the module they
    run, and `environment` has variables of theirs.
    """
    self._environment = {**os.environ, **dict(environment)}
    self.address = f'127.0.0.1:{roles.free_port()}'
    self._folder = pathlib.Path(folder)
    self._flags = flags
    self._runner = runner
    self._running = {}
    self._sessions = {}  # by name, the ids of all that were started

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    for process in self._running.values():
      process.kill()
      process.wait()
    for pid in self.left_over():
      with contextlib.suppress(ProcessLookupError):  # It may just have ended.
        os.kill(pid, signal.SIGKILL)

  def start(self, name, *flags):
    """Starts 'learner', an actor by its number as text, or 'alone'; what it prints is added to the
    file of its name.
    """
    role = [] if name == 'alone' else [f'--learner_address={self.address}']
    if role:
      role += (
        ['--job_name=learner'] if name == 'learner' else ['--job_name=actor', f'--task={name}']
      )
    with open(self._folder / f'{name}.log', 'ab') as log:
      self._running[name] = processes.start_following(
        self._runner,
        *(*self._flags, *role, *flags),
        stdout=log,
        stderr=subprocess.STDOUT,
        env=self._environment,
      )
    self._sessions.setdefault(name, []).append(self._running[name].pid)

  def log(self, name):
    """All that processes of that name have printed."""
    return (self._folder / f'{name}.log').read_text(errors='replace')

  def logs(self):
    """All that all have printed."""
    return '\n'.join(
      f'--- {path.stem}\n{path.read_text(errors="replace")}'
      for path in sorted(self._folder.glob('*.log'))
    )

  def kill(self, name):
    """Sends SIGKILL and waits for the end."""
    self._running[name].kill()
    self._running[name].wait()

  def send(self, name, number):
    """Sends a signal."""
    self._running[name].send_signal(number)

  def process(self, name):
    """The process of that name that was started last, as `psutil.Process`."""
    return psutil.Process(self._running[name].pid)

  def is_running(self, name):
    """Whether that process has not ended."""
    return self._running[name].poll() is None

  def wait(self, name, seconds=180):
    """The exit code."""
    try:
      return self._running[name].wait(seconds)
    except subprocess.TimeoutExpired:
      raise AssertionError(f'{name} does not end:\n{self.logs()}') from None

  def environments_of(self, name):
    """Ids of the processes of environments of an actor: its forkserver's children."""
    children = self.process(name).children()
    return [grandchild.pid for child in children for grandchild in child.children()]

  def wait_until(self, condition, what, seconds=180):
    """Waits until `condition()` is true."""
    processes.wait_until(condition, what, seconds, self.logs)

  def left_over(self, *names):
    """Ids of all processes that live and are in the session of one that was started here, or under
    one of `names`.
    """
    return processes.of_sessions(
      session for name in names or self._sessions for session in self._sessions[name]
    )
