"""Waiting for what other processes do, and finding those that are left."""

import contextlib
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import psutil

ROOT = pathlib.Path(__file__).parents[2]
_POLL_SECONDS = 0.02


def start_following(module: str, *arguments: str, **known: Any) -> subprocess.Popen:
  """Starts a module as a command in a session of its own, from the project's folder. It stops when
  this process ends, even if that is killed: a learner waits for actors for ever.

  Args:
    module, arguments: as after `python -m`.
    **known: as of `subprocess.Popen`.
  """
  return subprocess.Popen(
    [sys.executable, '-m', 'impala_tf.system.processes', module, *arguments],
    stdin=subprocess.PIPE,
    start_new_session=True,
    cwd=ROOT,
    **known,
  )


def wait_until(
  condition: Callable[[], object],
  what: str = 'what was waited for',
  seconds: float = 180,
  details: Callable[[], str] = str,
):
  """Returns once `condition()` is true.

  Raises:
    AssertionError: if it is not true after so many seconds; with `what` and the text that
      `details` gives then, such as a log.
  """
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline, f'Still no {what} after {seconds} s:\n{details()}'
    time.sleep(_POLL_SECONDS)


def of_sessions(sessions: Iterable[int]) -> list[int]:
  """Ids of the living processes of sessions, in which all stay that a process starts, forkservers'
  children among them, unless they are given one of their own.
  """
  sessions = set(sessions)
  return _living(lambda process: os.getsid(process.pid) in sessions)


def with_variable(name: str, value: str) -> list[int]:
  """Ids of the living processes, without this one, that were started with an environment variable:
  it reaches all that a process starts, sessions of their own as well.
  """
  return _living(lambda p: p.pid != os.getpid() and p.environ().get(name) == value)


def _living(is_meant):
  found = []
  for process in psutil.process_iter():
    # It may end, or be somebody else's.
    with contextlib.suppress(OSError, psutil.Error):
      if process.status() != psutil.STATUS_ZOMBIE and is_meant(process):
        found.append(process.pid)
  return found
