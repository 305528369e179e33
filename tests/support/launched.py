"""A cluster that `impala_tf.launch` has started on this machine."""

import os
import pathlib
import re
import signal
import subprocess

import psutil

from tests.support import processes


class Launched:
  """A launcher and the processes that it named; none of them is left when the context ends."""

  def __init__(self, folder: pathlib.Path, *flags: str):
    """Starts the launcher with a run in `folder`."""
    self._log = folder / 'launch.log'
    # A proxy that isn't there must not be asked for the parts of a cluster.
    environment = {**os.environ, 'http_proxy': 'http://127.0.0.1:9', 'no_proxy': ''}
    with open(self._log, 'wb') as log:
      self.process = processes.start_following(
        *('impala_tf.launch', f'--logdir={folder / "run"}', *flags),
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
      )

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.process.kill()
    self.process.wait()
    for pid in self.left_over():
      os.kill(pid, signal.SIGKILL)

  def text(self) -> str:
    """All that was printed."""
    return self._log.read_text(errors='replace')

  def pids(self) -> dict[str, int]:
    """The processes that run, by the names 'learner', 'actor 0' and so on."""
    found = re.findall(r'\[launch\] (\w+(?: \d)?) is process (\d+)\.', self.text())
    return {name: int(pid) for name, pid in found}

  def environments_of(self, name: str) -> list[int]:
    """The processes of environments of an actor: its forkserver's children."""
    children = psutil.Process(self.pids()[name]).children()
    return [grandchild.pid for child in children for grandchild in child.children()]

  def left_over(self) -> list[int]:
    """The living processes of the launcher and of all that it named."""
    named = map(int, re.findall(r'is process (\d+)\.', self.text()))
    return processes.of_sessions([self.process.pid, *named])

  def wait_until(self, condition, what: str, seconds: float = 180) -> None:
    """Waits until `condition()` is true."""
    processes.wait_until(condition, what, seconds, self.text)

  def wait(self, seconds: float = 180) -> int:
    """Waits for the launcher's end; returns its exit code."""
    try:
      return self.process.wait(seconds)
    except subprocess.TimeoutExpired:
      raise AssertionError(f'The launcher does not end:\n{self.text()}') from None
