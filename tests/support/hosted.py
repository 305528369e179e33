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

from impala_tf import structs
from impala_tf.environments import process_group
from tests.support.processes import ROOT

LARGE = 10 * 1024 * 1024  # bytes; the shared block holds one such array, not two


class Hosted:
  """Counts, and does what the tests ask for; leaves a file when it is closed."""

  def __init__(self, value=0, *, closed_file=None, shape=(1,), error=None):
    if error:
      raise ValueError(error)
    self._value = value
    self._closed_file = closed_file
    self._shape = shape

  def tensor_specs(self, method, *args):
    """Depends on the constructor's arguments (`full`), on constants (`zeros`) and on tensors
    (`twice`) of the call.
    """
    vector = lambda dtype: structs.ArraySpec((2,), dtype)
    specs = {
      'add': lambda: structs.ArraySpec((), np.int32),
      'full': lambda: structs.ArraySpec(self._shape, np.float32),
      'zeros': lambda: structs.ArraySpec((1, *args), np.float32),
      'twice': lambda: args[0],
      'greet': lambda: structs.Observation(vector(np.uint8), structs.ArraySpec((), np.bytes_)),
      'wrong_dtype': lambda: vector(np.float32),
      'wrong_shape': lambda: structs.ArraySpec((3,), np.int64),
      'wrong_rank': lambda: structs.ArraySpec((2, 1), np.int64),
      'wrong_number': lambda: (vector(np.int64), vector(np.int64)),
    }
    return specs[method]() if method in specs else None

  def increment(self):
    self._value += 1

  def add(self, number):
    return np.int32(self._value + number)

  def full(self):
    return np.full(self._shape, 7, np.float32)

  def zeros(self, *shape):
    return np.zeros((1, *shape), np.float32)

  def twice(self, array):
    return 2 * array

  def both_ways(self, array):
    return array, array[::-1].copy(), 'both'

  def greet(self, observation, name):
    return structs.Observation(
      observation.frame[::-1], b'hello ' + name + b' from ' + observation.instruction
    )

  def wrong(self):
    return np.zeros(2, np.int64)

  wrong_dtype = wrong_shape = wrong_rank = wrong_number = wrong

  def fail(self):
    raise KeyError('no such luck')

  def unsendable(self):
    return threading.Lock()

  def blocked_signals(self):
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())

  def end(self, code):
    os._exit(code)

  def block(self, started_file, until_file=None):
    pathlib.Path(started_file).touch()
    while until_file is None or not pathlib.Path(until_file).exists():
      time.sleep(0.005)
    return 'unblocked'

  def modules(self):
    return sorted(sys.modules)

  def close(self):
    if self._closed_file:
      pathlib.Path(self._closed_file).touch()


def operation(process, method, *args):
  """A method of one process's object as an operation."""
  return process_group.ProcessGroup([process]).call(0, method, *args)


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
