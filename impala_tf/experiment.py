"""What training and evaluation are made from: a suite's agent and environments, threads, and how to be stopped."""

import pickle
import signal
import threading
from typing import Protocol

import numpy as np
import tensorflow as tf
from absl import logging

from impala_tf import environments, hosting, machine, py_process

# A process is given up when it fails again after so many restarts, each of which lasted for fewer than so many steps. One that
# was killed, or fails once in many episodes, goes on; one that hardly completes an episode would only pretend to.
_MAX_RESTARTS_IN_A_ROW = 3
_STEPS_OF_A_SOUND_PROCESS = 1000
# Steps between two looks at the counters of the environments, so that a look costs next to nothing.
_STATISTICS_INTERVAL = 100


class Suite(Protocol):
  """What `impala_tf` needs to know of a suite of levels."""

  def check(self, hparams):
    """Raises `hparams.ConfigurationError` if the hyper-parameters don't go with the suite."""

  def check_installed(self, hparams):
    """Raises `hparams.ConfigurationError` if something is missing that environments need: a module, a data set."""

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
    """An `agents.Agent` whose variables are yet to be made."""

  def scores(self, level_returns):
    """How well an agent does on all the levels together.

    Args:
      level_returns: a dict from the name of each level to a list of returns, one at least.

    Returns:
      A dict from names, as TensorBoard shall show them, to floats; empty if the suite has no such score.
    """

  def fitness(self, level_returns):
    """By what the members of a population are compared.

    Args:
      level_returns: as for `scores`.

    Returns:
      The mean over the levels of their human-normalised scores in percent, each capped at 100; where there are no references
      the mean return, in its own unit.
    """


class Stop:
  """A request to end the run in good order, made by SIGINT or SIGTERM while the context lasts.

  The second SIGINT has its usual effect, for a user who does not want to wait. A second SIGTERM has none: whoever ends a whole
  tree of processes sends it to this one, and so does this one's parent, which must not cost the checkpoint.

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
    if number == signal.SIGINT:
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


def configure_tensorflow(num_actors, num_learners=1):
  """Sizes TensorFlow's thread pools; call it before anything else of TensorFlow.

  An actor holds a thread of the inter-op pool while it waits for its environments. With fewer threads than that, the learner
  would wait for actors and the actors for a thread. The intra-op pool, which shares out single operations, keeps TensorFlow's
  size, a thread a core: it is what lets a learner use cores that actors leave idle.

  Args:
    num_actors: int, actor threads, or threads of an evaluation.
    num_learners: int; without a graphics card, as many logical processors are made for them.
  """
  tf.config.threading.set_inter_op_parallelism_threads(num_actors + 2 + machine.cores())
  if num_learners > 1 and not tf.config.list_physical_devices('GPU'):
    processor = tf.config.list_physical_devices('CPU')[0]
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * num_learners)


def make_agent(suite, hparams):
  """The suite's agent with its variables made, which computes in the precision of the run where the processor can."""
  agent = suite.make_agent(hparams)
  agent.build(suite.observation_spec(hparams))
  if hparams.precision == 'bfloat16':
    if machine.has_bfloat16():
      agent.torso.compute_dtype = tf.bfloat16
    else:
      logging.warning('precision=bfloat16 changes nothing here: this processor has neither AVX-512 nor AVX-NE-CONVERT.')
  return agent


def make_environments(suite, hparams, levels, num_environments, is_test, seed, timer):
  """An `EnvironmentProcesses`, not started, with one process for each entry of `levels`.

  Args:
    suite: a `Suite`.
    hparams: the run's `hparams.HParams`.
    levels: a list of level names, one a process.
    num_environments: int, how many environments each process hosts.
    is_test: whether they serve an evaluation.
    seed: a list of int; equal lists make equal environments.
    timer: a `metrics.StageTimer`; calls of the processes count for its stage 'environment'.
  """

  def process(level, sequence):
    def constructors():
      # Another child of the sequence at each call, so that no start plays an earlier one's episodes again.
      seeds = sequence.spawn(1)[0].generate_state(num_environments) >> 1  # 31 bits, which is what emulators take.
      return [suite.make_environment(level, int(s), is_test, hparams) for s in seeds]

    return _EnvironmentProcess(level, constructors, timer)

  return EnvironmentProcesses(map(process, levels, np.random.SeedSequence(seed).spawn(len(levels))))


class EnvironmentProcesses(py_process.ProcessGroup):
  """Processes of environments of which one that dies, or raises, costs its unfinished episodes and nothing else.

  It is started anew with other seeds, and its call of `step` returns what `initial` gives there: done and no reward, so that
  the agent's memory is cleared and bootstrapping cut, and not finished, so that the lost episodes count nowhere. An error in
  the constructors at the first start is raised, and so is that of a process that keeps failing. After `close` the
  processes can't be started again.
  """

  @property
  def restarts(self):
    """How often processes were started anew, an int."""
    return sum(process.restarts for process in self)

  @property
  def error(self):
    """`py_process.ProcessError` of the first process that was given up, or None."""
    return next((process.error for process in self if process.error is not None), None)

  def statistics(self):
    """Counters of the environments by name, a dict, added up over all processes and their earlier lives.

    It does not wait for busy processes: the counters are those of a few steps ago.
    """
    return environments.added(process.statistics for process in self)

  def close(self, grace_seconds=hosting.GRACE_SECONDS):
    """Closes all, also one that is just being started anew; see `py_process.close_all`."""
    for process in self:
      process.forbid_start()
    super().close(grace_seconds)


class _EnvironmentProcess(py_process.PyProcess):
  """One of `EnvironmentProcesses`. Its `initial` and `step` are called by one thread.

  restarts: int, how often it was started anew.
  error: `py_process.ProcessError` that was one too many, or None. TensorFlow would reduce it to text.
  statistics: counters of its environments by name.
  """

  def __init__(self, level, make_constructors, timer):
    """Describes the process.

    Args:
      level: str, for messages.
      make_constructors: gives a list of constructors of environments, with other seeds at each call.
      timer: a `metrics.StageTimer`.
    """
    super().__init__(environments.EnvironmentBatch)
    self.restarts = 0
    self.error = None
    self.statistics = {}
    self._level = level
    self._make_constructors = make_constructors
    self._timer = timer
    self._restarts_in_a_row = 0
    self._num_outputs = 0  # Since the last start.
    self._earlier_statistics = {}
    self._start_lock = threading.Lock()
    self._may_start = True

  def call(self, method, *args):
    with self._timer('environment'):
      if method not in ('initial', 'step'):
        return super().call(method, *args)
      must_start = False
      while True:
        try:
          if must_start:
            self.start()
          output = super().call(method, *args)
          if self._num_outputs % _STATISTICS_INTERVAL == 0:
            self._look_at_statistics(super().call('statistics'))
          self._num_outputs += 1
          return output
        except py_process.ProcessError as error:
          self._take_note(error)
          must_start, method, args = True, 'initial', ()

  def forbid_start(self):
    """Makes all further starts fail. One under way in another thread has come so far that `close` ends it."""
    with self._start_lock:
      self._may_start = False

  def _launch(self):
    with self._start_lock:
      if not self._may_start:
        raise py_process.ProcessClosed(f'The environments of {self._level} were closed.')
      self._constructor = pickle.dumps((environments.EnvironmentBatch, (self._make_constructors(),), {}))
      super()._launch()

  def _look_at_statistics(self, latest):
    self.statistics = environments.added([self._earlier_statistics, latest])

  def _take_note(self, error):
    """Counts a failure; raises the error if the process is to be given up."""
    if self._num_outputs >= _STEPS_OF_A_SOUND_PROCESS:
      self._restarts_in_a_row = 0
    if self._restarts_in_a_row == _MAX_RESTARTS_IN_A_ROW:
      self.error = py_process.ProcessError(
        f'{error}\nThis process of {self._level} was started anew {_MAX_RESTARTS_IN_A_ROW} times in a row and each time '
        f'failed within {_STEPS_OF_A_SOUND_PROCESS} steps.'
      )
      raise self.error from error
    self._restarts_in_a_row += 1
    self.restarts += 1
    self._num_outputs = 0
    self._earlier_statistics = self.statistics
    logging.warning(
      'A process of %s failed and is started anew with other seeds; its unfinished episodes are lost. %s', self._level, error
    )
