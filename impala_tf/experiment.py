"""What training and evaluation are made from: a suite's agent and environments, threads, and how to be stopped."""

import os
import signal
import threading
from typing import Protocol

import numpy as np
import tensorflow as tf

from impala_tf import environments, py_process


class Suite(Protocol):
  """What `impala_tf` needs to know of a suite of levels."""

  def levels(self, hparams):
    """The names of the levels that `hparams.level_name` stands for, a tuple of str."""

  def num_actions(self, hparams):
    """The number of actions the agent chooses from, an int."""

  def observation_spec(self, hparams):
    """`structs.Observation` of `structs.ArraySpec`."""

  def make_environment(self, level, seed, is_test, hparams):
    """A picklable function without arguments that makes an `environments.Environment`.

    Args:
      level: str, one of `levels`.
      seed: int below 2**31.
      is_test: whether it serves an evaluation.
      hparams: the run's `hparams.HParams`.
    """

  def make_agent(self, hparams):
    """An `agents.Agent`."""


class Stop:
  """A request to end the run in good order, made by SIGINT or SIGTERM while the context lasts.

  The second signal of a kind has its usual effect, for a user who does not want to wait.

    with Stop() as stop:
      while not stop: ...
    sys.exit(stop.exit_code)
  """

  def __init__(self):
    """Describes the request; nothing is installed yet."""
    self.signal = None
    self._previous = {}

  def __enter__(self):
    # Only the main thread may install handlers; elsewhere the caller has its own way to end.
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGINT, signal.SIGTERM):
        self._previous[number] = signal.signal(number, self._handle)
    return self

  def _handle(self, number, frame):
    del frame
    self.signal = signal.Signals(number)
    signal.signal(number, self._previous[number])

  def __exit__(self, *exception):
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def __bool__(self):
    return self.signal is not None

  @property
  def exit_code(self):
    """0, or what shells report for a program ended by the signal."""
    return 128 + self.signal if self.signal else 0


def configure_threads(num_actors):
  """Sizes TensorFlow's thread pools; call it before anything else of TensorFlow.

  An actor holds a thread of the inter-op pool while it waits for its environments. With fewer threads than that, the learner
  would wait for actors and the actors for a thread.
  """
  tf.config.threading.set_inter_op_parallelism_threads(num_actors + 2 + (os.cpu_count() or 1))


def make_agent(suite, hparams):
  """The suite's agent with its variables made."""
  agent = suite.make_agent(hparams)
  agent.build(suite.observation_spec(hparams))
  return agent


def make_environments(suite, hparams, levels, num_environments, is_test, seed, timer):
  """A `py_process.ProcessGroup`, not started, with one process for each entry of `levels`.

  Args:
    suite: a `Suite`.
    hparams: the run's `hparams.HParams`.
    levels: a list of level names, one a process.
    num_environments: int, how many environments each process hosts.
    is_test: whether they serve an evaluation.
    seed: a list of int; equal lists make equal environments.
    timer: a `metrics.StageTimer`; calls of the processes count for its stage 'environment'.
  """
  processes = []
  for level, sequence in zip(levels, np.random.SeedSequence(seed).spawn(len(levels)), strict=True):
    environment_seeds = sequence.generate_state(num_environments) >> 1  # 31 bits, which is what emulators take.
    constructors = [suite.make_environment(level, int(s), is_test, hparams) for s in environment_seeds]
    processes.append(_EnvironmentProcess(timer, constructors))
  return py_process.ProcessGroup(processes)


class _EnvironmentProcess(py_process.PyProcess):
  """A process of environments that times its calls and keeps its failure, which TensorFlow would reduce to text.

  error: `py_process.ProcessError` of the last call that failed, or None.
  """

  def __init__(self, timer, constructors):
    super().__init__(environments.EnvironmentBatch, constructors)
    self.error = None
    self._timer = timer

  def call(self, method, *args):
    with self._timer('environment'):
      try:
        return super().call(method, *args)
      except py_process.ProcessError as error:
        self.error = error
        raise
