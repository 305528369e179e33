"""An object for processes to host, and what tests of processes need.

No TensorFlow, as processes must not import it.
"""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np

from tests.support.processes import ROOT


class Hosted:
  """Counts, and does what the tests ask for; leaves a file when it is closed."""

  def __init__(self, value=0, *, closed_file=None, error=None):
    if error:
      raise ValueError(error)
    self._value = value
    self._closed_file = closed_file

  def increment(self):
    self._value += 1

  def add(self, number):
    return np.int32(self._value + number)

  def both_ways(self, array):
    return array, array[::-1].copy(), 'both'

  def fail(self):
    raise KeyError('no such luck')

  def unsendable(self):
    return threading.Lock()

  def blocked_signals(self):
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())

  def end_a_program(self):
    program = subprocess.Popen(['sleep', '60'], stdout=sys.stdout)
    program.terminate()
    try:
      return program.wait(20)
    finally:
      program.kill()

  def fork(self, seconds):
    child = os.fork()
    if not child:
      time.sleep(seconds)
      os._exit(0)
    return child

  def end(self, code):
    os._exit(code)

  def block(self, started_file, until_file=None):
    pathlib.Path(started_file).touch()
    while until_file is None or not pathlib.Path(until_file).exists():
      time.sleep(0.005)
    return 'unblocked'

  def variable(self, name):
    return os.environ[name]

  def modules(self):
    return sorted(sys.modules)

  def close(self):
    if self._closed_file:
      pathlib.Path(self._closed_file).touch()


def is_alive(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  return True


class Thread(threading.Thread):
  """Runs a function and keeps its result or exception."""

  def __init__(self, function):
    super().__init__(daemon=True)
    self._function = function
    self.result = self.error = None
    self.start()

  def run(self):
    try:
      self.result = self._function()
    except BaseException as error:
      self.error = error

  def finish(self):
    self.join(20)
    assert not self.is_alive(), 'the thread hangs'
    return self


def run_script(tmp_path, text):
  """Starts a Python program, with a main module of its own, that can import this project."""
  path = tmp_path / 'script.py'
  path.write_text(text)
  environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
  return subprocess.Popen(
    [sys.executable, str(path)], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
  )
