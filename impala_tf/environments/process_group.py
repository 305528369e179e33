"""Processes of environments: the steps of an actor's environments as TensorFlow operations, and
another process in the place of one that dies.

    with make_environments(suite, config, levels, ...) as group:     # starts them all
      @tf.function
      def play(index, actions):                                      # one trace for all actors
        first = group.initial(index)
        second = group.step(index, 1, actions)
        return group.take(index, 2)                                  # both, as an unroll
"""

import concurrent.futures
import itertools
import pickle
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import logging

from impala_tf import config as config_lib
from impala_tf import errors, structs
from impala_tf.environments import base, hangs, operations, py_process, worker
from impala_tf.environments import rows as rows_lib
from impala_tf.environments import suite as suite_lib
from impala_tf.system import timing

# A process is given up when it fails after this many restarts in a row that each lasted for fewer
# than this many steps. So one that was killed, or fails once in many episodes, continues, and one
# that hardly completes an episode ends the run.
_MAX_RESTARTS_IN_A_ROW = 3
_STEPS_OF_A_SOUND_PROCESS = 1000
# Steps between two looks at the counters of the environments, so that a look costs next to nothing.
_STATISTICS_INTERVAL = 100
_NAMED = 4  # levels in a sentence


def make_environments(
  suite: suite_lib.Suite,
  config: config_lib.Config,
  levels: Sequence[Sequence[str]],
  is_test: bool,
  seed: Sequence[int],
  timer: timing.StageTimer,
  processes_per_actor: int = 1,
) -> 'EnvironmentProcesses':
  """Describes the processes of the environments of some actors; starts none.

  Args:
    suite: makes the environments.
    config: the run's.
    levels: for each actor the names of the levels of its environments, of which all have as many.
    is_test: whether they serve an evaluation.
    seed: equal seeds make equal environments.
    timer: calls count for its stage 'environment'.
    processes_per_actor: how many processes share an actor's environments, as evenly as they can.
  """
  py_process.preload(suite.shared_modules)
  observation_spec = suite.observation_spec(config)
  num_environments = len(levels[0])
  bounds = np.linspace(0, num_environments, processes_per_actor + 1).round().astype(int).tolist()
  sequences = iter(np.random.SeedSequence(seed).spawn(len(levels) * processes_per_actor))

  def process(levels, rows, sequence):
    def constructors():
      # Another child of the sequence at each call, so that no start plays an earlier one's episodes
      # again. 31 bits, as emulators take.
      seeds = sequence.spawn(1)[0].generate_state(len(levels)) >> 1
      return [
        suite.make_environment(level, int(seed), is_test, config)
        for level, seed in zip(levels, seeds, strict=True)
      ]

    return _EnvironmentProcess(levels, constructors, rows)

  def actor(levels):
    rows = rows_lib.Rows(observation_spec, num_environments, config.unroll_length + 1)
    processes = [
      process(levels[begin:end], rows.part(begin, end), next(sequences))
      for begin, end in itertools.pairwise(bounds)
    ]
    return _Actor(processes, rows, timer)

  return EnvironmentProcesses(
    [actor(names) for names in levels],
    structs.step_output_spec(observation_spec),
    num_environments,
    config,
  )


class EnvironmentProcesses(operations.ProcessGroup):
  """Processes of environments of which one that dies, or raises, costs its unfinished episodes and
  nothing else.

  An index of an operation is that of an actor, whose processes work at the same time.

  It is restarted with other seeds, and its `step` returns the output of `initial` there:
  done and no reward, so that the agent's memory is cleared and bootstrapping cut, and not finished,
  so that the lost episodes count nowhere. An error in the constructors at the first start is
  raised, and so is that of a process that keeps failing. After `close` the processes can't be
  started again.
  """

  def __init__(
    self,
    actors: Sequence['_Actor'],
    spec: structs.StepOutput,
    num_environments: int,
    config: config_lib.Config,
  ):
    """Takes the processes by their actors, the arguments of `operations.ProcessGroup`, and the
    run's configuration.
    """
    processes = [process for actor in actors for process in actor.processes]
    super().__init__(processes, spec, num_environments)
    self._actors = actors
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
    for actor in self._actors:
      actor.pool.shutdown(wait=False)


class _Actor:
  """The processes of an actor, which are called together.

  Attributes:
    processes: `_EnvironmentProcess`es, in the order of their environments.
    pool: a thread for each but the first, which has one call at a time.
  """

  def __init__(
    self,
    processes: Sequence['_EnvironmentProcess'],
    rows: rows_lib.Rows,
    timer: timing.StageTimer,
  ):
    """Takes the processes, the rows of which each has a part, and who measures their stage
    'environment'.
    """
    self.processes = processes
    self.pool = concurrent.futures.ThreadPoolExecutor(
      max(1, len(processes) - 1), thread_name_prefix='environments'
    )
    self._rows = rows
    self._timer = timer

  def initial(self) -> structs.StepOutput:
    """Resets the environments; gives row 0, arrays of [n, ...]."""
    return self._call('initial', 0)

  def step(self, row: int, actions: np.ndarray) -> structs.StepOutput:
    """Steps the environments by actions, int32 [n]; gives the row, arrays of [n, ...] that are
    written to again by the next step into the same row.
    """
    self._rows.actions[:] = actions
    return self._call('step', int(row))

  def take(self, num_rows: int) -> structs.StepOutput:
    """Copies the unroll; see `rows.Rows.take`."""
    return self._rows.take(num_rows)

  def _call(self, method, row):
    with self._timer('environment'):
      first, *others = self.processes
      try:
        calls = [self.pool.submit(process.call, method, row) for process in others]
      except RuntimeError as error:  # The pool was shut down, after the processes.
        raise py_process.ProcessClosed('The environments were closed.') from error
      try:
        first.call(method, row)
      finally:
        if calls:  # To wait for none takes longer than all the rest here.
          concurrent.futures.wait(calls)
      for call in calls:
        call.result()

    return self._rows.row[row]


class _EnvironmentProcess(py_process.PyProcess):
  """One of `EnvironmentProcesses`, used by one thread at a time.

  Attributes:
    restarts: int, how often it was restarted.
    error: `py_process.ProcessError` that was one too many, or None. TensorFlow would reduce it to
      text.
    statistics: counters of its environments by name.
  """

  def __init__(
    self,
    levels: Sequence[str],
    make_constructors: Callable[[], list[Callable[[], base.Environment]]],
    rows: rows_lib.Rows,
  ):
    """Describes the process.

    Args:
      levels: of its environments, for messages.
      make_constructors: gives constructors of environments, with other seeds at each call.
      rows: where the environments write.
    """
    super().__init__(base.HostedBatch, shared={'rows': rows})
    self._rows = rows
    self.restarts = 0
    self.error = None
    self.statistics: dict[str, float] = {}
    self._names = levels
    self._levels = errors.listed([*dict.fromkeys(levels)], _NAMED)
    self._make_constructors = make_constructors
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

  def call(self, method: str, *args) -> Any:
    """Calls as `py_process.PyProcess.call`, a restarted process if need be."""
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
    return f'environment {environment} of {self._names[environment]}'

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
        raise py_process.ProcessClosed(f'The environments of {self._levels} were closed.')
      self._constructor = pickle.dumps((base.HostedBatch, (self._make_constructors(),), {}))
      super()._launch()

  def _count_failure(self, error):
    """Counts a failure; raises the error if the process is to be given up."""
    if self._outputs >= _STEPS_OF_A_SOUND_PROCESS:
      self._restarts_in_a_row = 0
    if self._restarts_in_a_row == _MAX_RESTARTS_IN_A_ROW:
      self.error = py_process.ProcessError(
        f'{error}\nThis process of {self._levels} was restarted {_MAX_RESTARTS_IN_A_ROW} times '
        f'in a row and each time failed within {_STEPS_OF_A_SOUND_PROCESS} steps.'
      )
      raise self.error from error

    self._restarts_in_a_row += 1
    self.restarts += 1
    self._outputs = 0
    self._earlier_statistics = self.statistics
    logging.warning(
      'A process of %s failed and is restarted with other seeds; its unfinished episodes are lost. '
      '%s',
      self._levels,
      error,
    )
