"""Processes of environments: their steps as TensorFlow operations, and another process in the
place of one that dies.

    with make_environments(suite, config, levels, ...) as group:     # starts them all
      @tf.function
      def play(index, actions):                                      # one trace for all of them
        first = group.initial(index)
        second = group.step(index, 1, actions)
        return group.take(index, 2)                                  # both, as an unroll
"""

import pickle
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from impala_tf import config as config_lib
from impala_tf import structs
from impala_tf.environments import base, hangs, py_process, worker
from impala_tf.environments import rows as rows_lib
from impala_tf.environments import suite as suite_lib
from impala_tf.system import timing

if TYPE_CHECKING:
  import tensorflow as tf

# A process is given up when it fails after this many restarts in a row that each lasted for fewer
# than this many steps. So one that was killed, or fails once in many episodes, continues, and one
# that hardly completes an episode ends the run.
_MAX_RESTARTS_IN_A_ROW = 3
_STEPS_OF_A_SOUND_PROCESS = 1000
# Steps between two looks at the counters of the environments, so that a look costs next to nothing.
_STATISTICS_INTERVAL = 100


def make_environments(
  suite: suite_lib.Suite,
  config: config_lib.Config,
  levels: Sequence[str],
  num_environments: int,
  is_test: bool,
  seed: Sequence[int],
  timer: timing.StageTimer,
) -> 'EnvironmentProcesses':
  """Describes processes of environments, one for each entry of `levels`; starts none.

  Args:
    suite: makes the environments.
    config: the run's.
    levels: a level's name for each process.
    num_environments: how many environments each process hosts.
    is_test: whether they serve an evaluation.
    seed: equal seeds make equal environments.
    timer: calls of the processes count for its stage 'environment'.
  """

  py_process.preload(suite.shared_modules)
  observation_spec = suite.observation_spec(config)

  def process(level, sequence):
    def constructors():
      # Another child of the sequence at each call, so that no start plays an earlier one's episodes
      # again. 31 bits, as emulators take.
      seeds = sequence.spawn(1)[0].generate_state(num_environments) >> 1
      return [suite.make_environment(level, int(s), is_test, config) for s in seeds]

    rows = rows_lib.Rows(observation_spec, num_environments, config.unroll_length + 1)
    return _EnvironmentProcess(level, constructors, timer, rows)

  sequences = np.random.SeedSequence(seed).spawn(len(levels))
  return EnvironmentProcesses(
    [process(*pair) for pair in zip(levels, sequences, strict=True)],
    structs.step_output_spec(observation_spec),
    num_environments,
    config,
  )


class ProcessGroup:
  """Processes of environments, called from one TensorFlow function with the index of one of them.

  An operation blocks the thread that runs it meanwhile. It fails with tf.errors.UnknownError if the
  environments raised or the process died and stays so, with the message of the `ProcessError`, and
  with tf.errors.OutOfRangeError if the process was closed before or meanwhile. (Outside of a
  tf.function TensorFlow hands on ProcessError and ProcessClosed themselves.)

  spec: `structs.StepOutput` of `structs.ArraySpec`, one environment at one step.
  """

  def __init__(self, processes: Sequence[Any], spec: structs.StepOutput, num_environments: int):
    """Takes processes with `initial`, `step` and `take` as those of `make_environments` have them.

    Args:
      processes: of the group.
      spec: see the class.
      num_environments: n, those of each process.
    """
    self._processes = tuple(processes)
    self.spec = spec
    self._num_environments = num_environments

  def __len__(self) -> int:
    return len(self._processes)

  def __getitem__(self, index: int) -> Any:
    return self._processes[index]

  def start(self) -> None:
    """Starts all; see `py_process.start_all`."""
    py_process.start_all(self._processes)

  def close(self, grace_seconds: float = worker.GRACE_SECONDS) -> None:
    """Closes all; see `py_process.close_all`."""
    py_process.close_all(self._processes, grace_seconds)

  def __enter__(self):
    self.start()
    return self

  def __exit__(self, *unused_exception):
    self.close()

  def initial(self, index: 'tf.Tensor') -> structs.StepOutput:
    """Resets the environments of process `index`, an int32 scalar; gives row 0 of the next unroll
    as `step` does.
    """
    return self._operation('initial', [index], seen(self.spec))

  def step(self, index: 'tf.Tensor', row: 'tf.Tensor', actions: 'tf.Tensor') -> structs.StepOutput:
    """Steps the environments of process `index`.

    Args:
      index: int32 scalar, which process.
      row: int32 scalar, the row of the unroll that the step is.
      actions: int32 [n].

    Returns:
      What a policy sees, tensors of [n, ...]: reward, done and observation, and empty tuples for
      the rest. They are of use until the same row is stepped again.
    """
    return self._operation('step', [index, row, actions], seen(self.spec))

  def take(self, index: 'tf.Tensor', num_rows: int) -> structs.StepOutput:
    """Takes the unroll that process `index` has made, so many rows, as tensors of [n, num_rows,
    ...]; its last row is row 0 of the next one.
    """
    return self._operation('take', [index, num_rows], self.spec, (num_rows,))

  def _operation(self, method, arguments, spec, rows=()):
    """Makes an operation of a method of one process, whose result has the parts that `spec` has."""
    import tensorflow as tf
    import tree

    def run(index, *arguments):
      result = getattr(self._processes[index], method)(*arguments)
      return tree.flatten(result if rows else seen(result))

    leaves = tree.flatten(spec)
    dtypes = [tf.as_dtype(leaf.dtype) for leaf in leaves]
    outputs = tf.numpy_function(run, arguments, dtypes, name=f'{method}_in_process')
    for output, leaf in zip(outputs, leaves, strict=True):
      output.set_shape([self._num_environments, *rows, *leaf.shape])
    return tree.unflatten_as(spec, outputs)


def seen(step_output: structs.StepOutput) -> structs.StepOutput:
  """Returns what a policy sees of a step: reward, done and observation, as TensorFlow takes some
  microseconds for each array more.
  """
  return step_output._replace(truncated=(), info=())  # type: ignore[arg-type]


class EnvironmentProcesses(ProcessGroup):
  """Processes of environments of which one that dies, or raises, costs its unfinished episodes and
  nothing else.

  It is restarted with other seeds, and its `step` returns the output of `initial` there:
  done and no reward, so that the agent's memory is cleared and bootstrapping cut, and not finished,
  so that the lost episodes count nowhere. An error in the constructors at the first start is
  raised, and so is that of a process that keeps failing. After `close` the processes can't be
  started again.
  """

  def __init__(
    self,
    processes: Sequence[Any],
    spec: structs.StepOutput,
    num_environments: int,
    config: config_lib.Config,
  ):
    """Takes what `ProcessGroup` does, and the run's configuration."""
    super().__init__(processes, spec, num_environments)
    self._hang_watch = hangs.HangWatch(processes, config.hang_warning, config.hang_timeout)

  @property
  def restarts(self) -> int:
    """How often processes were restarted."""
    return sum(process.restarts for process in self._processes)

  @property
  def error(self) -> py_process.ProcessError | None:
    """The error of the first process that was given up, or None."""
    return next((p.error for p in self._processes if p.error is not None), None)

  def statistics(self) -> dict[str, float]:
    """Adds up the counters of the environments by name, over all processes and their earlier lives.

    It does not wait for busy processes: the counters are those of a few steps ago.
    """
    return base.added(process.statistics for process in self._processes)

  def start(self) -> None:
    """Starts all, and watches them from now on; see `py_process.start_all` and `hangs`."""
    self._hang_watch.start()
    super().start()

  def close(self, grace_seconds: float = worker.GRACE_SECONDS) -> None:
    """Closes all, also one that is just being restarted; see `py_process.close_all`."""
    self._hang_watch.close()
    for process in self._processes:
      process.forbid_start()
    super().close(grace_seconds)


class _EnvironmentProcess(py_process.PyProcess):
  """One of `EnvironmentProcesses`, used by one thread at a time.

  restarts: int, how often it was restarted.
  error: `py_process.ProcessError` that was one too many, or None. TensorFlow would reduce it to
    text.
  statistics: counters of its environments by name.
  """

  def __init__(
    self,
    level: str,
    make_constructors: Callable[[], list[Callable[[], base.Environment]]],
    timer: timing.StageTimer,
    rows: rows_lib.Rows,
  ):
    """Describes the process of a level.

    Args:
      level: for messages.
      make_constructors: gives constructors of environments, with other seeds at each call.
      timer: calls count for its stage 'environment'.
      rows: where the environments write.
    """
    super().__init__(base.HostedBatch, shared={'rows': rows})
    self._rows = rows
    self.restarts = 0
    self.error = None
    self.statistics: dict[str, float] = {}
    self._level = level
    self._make_constructors = make_constructors
    self._timer = timer
    self._restarts_in_a_row = 0
    self._outputs = 0  # Since the last start.
    self._earlier_statistics: dict[str, float] = {}
    self._start_lock = threading.Lock()
    self._may_start = True

  def initial(self) -> structs.StepOutput:
    """Resets the environments; gives row 0, arrays of [n, ...]."""
    self.call('initial', 0)
    return self._rows.row[0]

  def step(self, row: int, actions: np.ndarray) -> structs.StepOutput:
    """Steps the environments by actions, int32 [n]; gives the row, arrays of [n, ...] that are
    written to again by the next step into the same row.
    """
    self._rows.actions[:] = actions
    self.call('step', int(row))
    return self._rows.row[row]

  def take(self, num_rows: int) -> structs.StepOutput:
    """Copies the unroll; see `rows.Rows.take`."""
    return self._rows.take(num_rows)

  def call(self, method: str, *args) -> Any:
    """Calls as `py_process.PyProcess.call`, a restarted process if need be."""
    with self._timer('environment'):
      if method not in ('initial', 'step'):
        return super().call(method, *args)
      must_start = False
      while True:
        try:
          if must_start:
            self.start()
          output = super().call(method, *args)
          if self._outputs % _STATISTICS_INTERVAL == 0:
            latest = super().call('statistics')
            self.statistics = base.added([self._earlier_statistics, latest])
          self._outputs += 1
          return output
        except py_process.ProcessError as error:
          self._count_failure(error)
          must_start, method = True, 'initial'  # Into the same row.

  def activity(self) -> hangs.Activity | None:
    """Returns what the process is at, None while it waits for a call; without waiting for it."""
    method, calls, pid = self._method, self._calls, self.pid
    if method is None or pid is None:
      return None
    reports, environment = self._rows.progress.tolist()
    return hangs.Activity(pid, method, calls, reports, environment)

  def describe(self, environment: int) -> str:
    """Names the environment of an index."""
    return f'environment {environment} of {self._level}'

  def forbid_start(self):
    """Makes all further starts fail.

    A start that is under way in another thread is waited for: it has launched its process by then,
    which `close` will end.
    """
    with self._start_lock:
      self._may_start = False

  def _launch(self):
    with self._start_lock:
      if not self._may_start:
        raise py_process.ProcessClosed(f'The environments of {self._level} were closed.')
      self._constructor = pickle.dumps((base.HostedBatch, (self._make_constructors(),), {}))
      super()._launch()

  def _count_failure(self, error):
    """Counts a failure; raises the error if the process is to be given up."""
    if self._outputs >= _STEPS_OF_A_SOUND_PROCESS:
      self._restarts_in_a_row = 0
    if self._restarts_in_a_row == _MAX_RESTARTS_IN_A_ROW:
      self.error = py_process.ProcessError(
        f'{error}\nThis process of {self._level} was restarted {_MAX_RESTARTS_IN_A_ROW} times in a '
        f'row and each time failed within {_STEPS_OF_A_SOUND_PROCESS} steps.'
      )
      raise self.error from error
    self._restarts_in_a_row += 1
    self.restarts += 1
    self._outputs = 0
    self._earlier_statistics = self.statistics
    logging.warning(
      'A process of %s failed and is restarted with other seeds; its unfinished episodes are lost. '
      '%s',
      self._level,
      error,
    )
