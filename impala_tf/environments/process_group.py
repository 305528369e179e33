"""Processes of environments: their methods as TensorFlow operations, and another process in the
place of one that dies.

    with make_environments(suite, config, levels, ...) as group:     # starts them all
      @tf.function
      def step(index, actions):                                      # one trace for all of them
        return group.call(index, 'step', actions)

`ProcessGroup` serves objects of any class with a method

    tensor_specs(method, *args) -> nest of structs.ArraySpec, or None where `method` returns nothing

It runs in the process, so specs may depend on the constructor's arguments and on those of the call
(a tensor is given to it as the ArraySpec of its static shape).
"""

import pickle
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import logging

from impala_tf import config as config_lib
from impala_tf import structs
from impala_tf.environments import base, py_process, worker
from impala_tf.environments import suite as suite_lib
from impala_tf.system import timing

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

  def process(level, sequence):
    def constructors():
      # Another child of the sequence at each call, so that no start plays an earlier one's episodes
      # again. 31 bits, as emulators take.
      seeds = sequence.spawn(1)[0].generate_state(num_environments) >> 1
      return [suite.make_environment(level, int(s), is_test, config) for s in seeds]

    return _EnvironmentProcess(level, constructors, timer)

  sequences = np.random.SeedSequence(seed).spawn(len(levels))
  return EnvironmentProcesses([process(*pair) for pair in zip(levels, sequences, strict=True)])


class ProcessGroup:
  """Processes of one kind, called from one TensorFlow function with the index of one of them."""

  def __init__(self, processes: Sequence[Any]):
    """Takes `py_process.PyProcess`es whose objects have equal tensor specs."""
    self._processes = tuple(processes)

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

  def call(self, index: Any, method: str, *args) -> Any:
    """Calls a method of the object of one process as an operation, which blocks a TensorFlow thread
    meanwhile.

    The processes must be running, also while a tf.function is traced.

    Args:
      index: int32 scalar tensor, which process.
      method: name of the method.
      *args: nests of tensors; other leaves are passed on as they are.

    Returns:
      The nest of the method's `tensor_specs`, as tensors with their static shapes; None where that
      is None.

    Raises:
      ValueError: if the processes have different specs.
      tf.errors.UnknownError: in a tf.function that is run, if the method raised or the process
        died, with the message of the ProcessError.
      tf.errors.InvalidArgumentError: likewise, if the result is not as its specs say.
      tf.errors.OutOfRangeError: likewise, if the process was closed before or meanwhile. (Outside
        of a tf.function TensorFlow hands on ProcessError, ValueError and ProcessClosed themselves.)
    """
    import tensorflow as tf

    # AutoGraph would slow down the function that runs at each step.
    return tf.autograph.experimental.do_not_convert(self._operation)(index, method, args)

  def _operation(self, index, method, args):
    import tensorflow as tf
    import tree

    flat_args = tree.flatten(args)
    tensors = [arg for arg in flat_args if tf.is_tensor(arg)]
    # TensorFlow keeps the function `run` for ever. So that it keeps no tensors alive, the template
    # has a slot where each of them was, which `run` fills with the array that it is called with.
    template = [_Slot() if tf.is_tensor(arg) else arg for arg in flat_args]
    described = [_describe(arg) if tf.is_tensor(arg) else arg for arg in flat_args]
    specs = self._specs(method, tree.unflatten_as(args, described))
    structure = tree.traverse(
      lambda node: 0 if isinstance(node, structs.ArraySpec) else None, specs
    )
    flat_specs = [] if specs is None else tree.flatten_up_to(structure, specs)

    def run(index, *arrays):
      arrays = iter(arrays)
      filled = [next(arrays) if isinstance(arg, _Slot) else arg for arg in template]
      result = self._processes[index].call(method, *tree.unflatten_as(args_structure, filled))
      return _checked(method, flat_specs, [] if specs is None else tree.flatten(result))

    args_structure = tree.map_structure(lambda _: 0, args)
    dtypes = [tf.as_dtype(spec.dtype) for spec in flat_specs]
    outputs = tf.numpy_function(run, [index, *tensors], dtypes, name=f'{method}_in_process')
    if specs is None:
      return None
    for output, spec in zip(outputs, flat_specs, strict=True):
      output.set_shape(spec.shape)
    return tree.unflatten_as(structure, list(outputs))

  def _specs(self, method, args):
    first, *others = (process.call('tensor_specs', method, *args) for process in self._processes)
    for number, other in enumerate(others, 1):
      if other != first:
        raise ValueError(
          f'All processes of a group must have the same specs for {method}: process 0 has {first}, '
          f'process {number} has {other}.'
        )
    return first


class EnvironmentProcesses(ProcessGroup):
  """Processes of environments of which one that dies, or raises, costs its unfinished episodes and
  nothing else.

  It is restarted with other seeds, and its call of `step` returns the output of `initial` there:
  done and no reward, so that the agent's memory is cleared and bootstrapping cut, and not finished,
  so that the lost episodes count nowhere. An error in the constructors at the first start is
  raised, and so is that of a process that keeps failing. After `close` the processes can't be
  started again.
  """

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

  def close(self, grace_seconds: float = worker.GRACE_SECONDS) -> None:
    """Closes all, also one that is just being restarted; see `py_process.close_all`."""
    for process in self._processes:
      process.forbid_start()
    super().close(grace_seconds)


class _EnvironmentProcess(py_process.PyProcess):
  """One of `EnvironmentProcesses`. Its `initial` and `step` are called by one thread.

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
  ):
    """Describes the process of a level; `make_constructors` takes other seeds at each call."""
    super().__init__(base.EnvironmentBatch)
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
          must_start, method, args = True, 'initial', ()

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
      self._constructor = pickle.dumps((base.EnvironmentBatch, (self._make_constructors(),), {}))
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


class _Slot:
  """Stands where a tensor's value goes."""


def _describe(tensor):
  shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
  dtype = np.bytes_ if tensor.dtype.name == 'string' else tensor.dtype.as_numpy_dtype
  return structs.ArraySpec(shape, dtype)


def _checked(method, specs, values):
  """Turns the values into arrays and checks that they are as TensorFlow expects them."""
  if len(values) != len(specs):
    raise ValueError(f'{method} returned {len(values)} arrays, its tensor_specs say {len(specs)}.')
  arrays = []
  for spec, value in zip(specs, values, strict=True):
    array = np.asarray(value)
    is_type = array.dtype.kind in 'SO' if spec.dtype is np.bytes_ else array.dtype == spec.dtype
    is_shape = spec.shape is None or (
      len(spec.shape) == array.ndim
      and all(a in (None, b) for a, b in zip(spec.shape, array.shape, strict=True))
    )
    if not (is_type and is_shape):
      raise ValueError(
        f'{method} returned {array.dtype} {array.shape} where its tensor_specs say {spec}.'
      )
    arrays.append(array)
  return arrays
