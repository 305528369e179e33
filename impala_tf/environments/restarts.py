"""Processes of environments that are replaced when they die."""

import pickle
import threading

import numpy as np
from absl import logging

from impala_tf.environments import base, hosting, py_process

# A process is given up when it fails again after so many restarts, each of which lasted for fewer
# than so many steps. One that was killed, or fails once in many episodes, goes on; one that hardly
# completes an episode would only pretend to.
_MAX_RESTARTS_IN_A_ROW = 3
_STEPS_OF_A_SOUND_PROCESS = 1000
# Steps between two looks at the counters of the environments, so that a look costs next to nothing.
_STATISTICS_INTERVAL = 100


def make_environments(suite, config, levels, num_environments, is_test, seed, timer):
  """An `EnvironmentProcesses`, not started, with one process for each entry of `levels`.

  Args:
    suite: a `suite.Suite`.
    config: the run's `config.Config`.
    levels: a list of level names, one a process.
    num_environments: int, how many environments each process hosts.
    is_test: whether they serve an evaluation.
    seed: a list of int; equal lists make equal environments.
    timer: a `timing.StageTimer`; calls of the processes count for its stage 'environment'.
  """

  def process(level, sequence):
    def constructors():
      # Another child of the sequence at each call, so that no start plays an earlier one's episodes
      # again.
      seeds = (
        sequence.spawn(1)[0].generate_state(num_environments) >> 1
      )  # 31 bits, which is what emulators take.
      return [suite.make_environment(level, int(s), is_test, config) for s in seeds]

    return _EnvironmentProcess(level, constructors, timer)

  return EnvironmentProcesses(map(process, levels, np.random.SeedSequence(seed).spawn(len(levels))))


class EnvironmentProcesses(py_process.ProcessGroup):
  """Processes of environments of which one that dies, or raises, costs its unfinished episodes and
  nothing else.

  It is started anew with other seeds, and its call of `step` returns what `initial` gives there:
  done and no reward, so that the agent's memory is cleared and bootstrapping cut, and not finished,
  so that the lost episodes count nowhere. An error in the constructors at the first start is
  raised, and so is that of a process that keeps failing. After `close` the processes can't be
  started again.
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
    """Counters of the environments by name, a dict, added up over all processes and their earlier
    lives.

    It does not wait for busy processes: the counters are those of a few steps ago.
    """
    return base.added(process.statistics for process in self)

  def close(self, grace_seconds=hosting.GRACE_SECONDS):
    """Closes all, also one that is just being started anew; see `py_process.close_all`."""
    for process in self:
      process.forbid_start()
    super().close(grace_seconds)


class _EnvironmentProcess(py_process.PyProcess):
  """One of `EnvironmentProcesses`. Its `initial` and `step` are called by one thread.

  restarts: int, how often it was started anew.
  error: `py_process.ProcessError` that was one too many, or None. TensorFlow would reduce it to
    text.
  statistics: counters of its environments by name.
  """

  def __init__(self, level, make_constructors, timer):
    """Describes the process.

    Args:
      level: str, for messages.
      make_constructors: gives a list of constructors of environments, with other seeds at each
        call.
      timer: a `timing.StageTimer`.
    """
    super().__init__(base.EnvironmentBatch)
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
    """Makes all further starts fail.

    One under way in another thread has come so far that `close` ends it.
    """
    with self._start_lock:
      self._may_start = False

  def _launch(self):
    with self._start_lock:
      if not self._may_start:
        raise py_process.ProcessClosed(f'The environments of {self._level} were closed.')
      self._constructor = pickle.dumps((base.EnvironmentBatch, (self._make_constructors(),), {}))
      super()._launch()

  def _look_at_statistics(self, latest):
    self.statistics = base.added([self._earlier_statistics, latest])

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
      'A process of %s failed and is started anew with other seeds; its unfinished episodes are lost. %s',
      self._level,
      error,
    )
