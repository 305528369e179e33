"""Steps of environments in other processes as TensorFlow operations."""

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from impala_tf import structs
from impala_tf.environments import py_process, worker

if TYPE_CHECKING:
  import tensorflow as tf


class ProcessGroup:
  """Processes of environments, called from one TensorFlow function with the index of one of them.

  An operation blocks the thread that runs it meanwhile. It fails with tf.errors.UnknownError if the
  environments raised or the process died and stays so, with the message of the `ProcessError`, and
  with tf.errors.OutOfRangeError if the process was closed before or meanwhile. (Outside of a
  tf.function TensorFlow hands on ProcessError and ProcessClosed themselves.) It does not hold the
  group: its user does.

  Attributes:
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
    # What an index means to the operations.
    self._actors: Sequence[Any] = self._processes
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

    # TensorFlow keeps the function for as long as the thread lives that traces it.
    group = weakref.ref(self)

    def run(index, *arguments):
      result = getattr(group()._actors[index], method)(*arguments)
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
