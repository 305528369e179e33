"""The rows of an unroll, in memory that an environment process and the process of its actor share.

The environments write each step into its row, where the actor reads it: nothing is sent but the
number of the row. A whole unroll is copied once, when its last row is there.
"""

import math
import mmap
import operator
import os
import tempfile
import weakref
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any

import numpy as np

from impala_tf import structs

TEXT_BYTES = 1024  # A longer text is refused.
_ALIGNMENT = 64  # Bytes; TensorFlow takes arrays that begin at such an address without copying.


class Rows:
  """Actions and step outputs of n environments.

  It has no name in any file system, so that nothing is left when both processes are killed, and
  takes memory only as it is written to. It can be sent to a process that is being started.

  Attributes:
    spec: `structs.StepOutput` of `structs.ArraySpec`, one environment at one step.
    actions: int32 [n], of the next step.
    row: by number, `structs.StepOutput` of [n, ...]; texts are bytes of at most TEXT_BYTES.
    progress: int64 [2], how often the environments reported what they are at, and the index of the
      one that is at work.
  """

  def __init__(
    self,
    observation_spec: structs.Observation,
    num_environments: int,
    num_rows: int,
    descriptor: int | None = None,
  ):
    """Makes the memory, or maps that of a descriptor.

    Args:
      observation_spec: of `structs.ArraySpec`, one environment's.
      num_environments: n.
      num_rows: of the longest unroll.
      descriptor: of memory that an equal object made.
    """
    self.spec = structs.step_output_spec(observation_spec)
    self.num_environments = num_environments
    self._arguments = observation_spec, num_environments, num_rows

    self._end = 0
    outputs = map_specs(lambda spec: self._place(spec, num_rows), self.spec)
    place_of_actions = self._place(structs.ArraySpec((), np.int32), 1)
    place_of_progress = self._place(structs.ArraySpec((2,), np.int64), 1)
    self._descriptor = _make_file(self._end) if descriptor is None else descriptor
    weakref.finalize(self, os.close, self._descriptor)
    self._mapping = mmap.mmap(self._descriptor, self._end)
    self.actions = place_of_actions()[0]
    self._progress = place_of_progress()[0]  # Of each process at its first environment.
    self.progress = self._progress[0]
    self._outputs = map_specs(lambda place: place(), outputs)
    self.row = [map_specs(operator.itemgetter(t), self._outputs) for t in range(num_rows)]

  def _place(self, spec, num_rows) -> Callable[[], np.ndarray]:
    """Finds room for an array of all rows; returns a function that makes it."""
    dtype = np.dtype(f'S{TEXT_BYTES}' if spec.dtype is np.bytes_ else spec.dtype)
    shape = (self.num_environments, *spec.shape)
    size = math.prod(shape) * dtype.itemsize
    stride, begin = -(-size // _ALIGNMENT) * _ALIGNMENT, self._end
    self._end += stride * num_rows

    def array():
      whole = np.ndarray((num_rows, stride), np.uint8, self._mapping, begin)
      return whole[:, :size].view(dtype).reshape(num_rows, *shape)

    return array

  def report(self, index: int) -> None:
    """Reports, from the environments' process, which of them is at work now."""
    self.progress[0] += 1
    self.progress[1] = index

  def part(self, begin: int, end: int) -> 'Part':
    """Returns the rows of the environments `begin` to `end - 1`."""
    return Part(self, begin, end)

  def take(self, num_rows: int) -> structs.StepOutput:
    """Copies an unroll of that many rows, [n, num_rows, ...], and begins the next one: its row 0 is
    the last of this one.
    """

    def copy(array):
      unrolls = _aligned((array.shape[1], num_rows, *array.shape[2:]), array.dtype)
      unrolls[:] = array[:num_rows].swapaxes(0, 1)
      array[0] = array[num_rows - 1]
      return unrolls

    return map_specs(copy, self._outputs)

  def __reduce__(self):
    return _attach, (*self._arguments, reduction.DupFd(self._descriptor))


class Part(Rows):
  """The rows of some of the environments, for the process that has those."""

  def __init__(self, rows: Rows, begin: int, end: int):
    """Takes arguments of `Rows.part`."""
    self.spec = rows.spec
    self.num_environments = end - begin
    self.actions = rows.actions[begin:end]
    self.progress = rows._progress[begin]
    self._outputs = map_specs(operator.itemgetter((slice(None), slice(begin, end))), rows._outputs)
    self.row = [map_specs(operator.itemgetter(t), self._outputs) for t in range(len(rows.row))]
    self._of = rows, begin, end

  def __reduce__(self):
    return Part, self._of


def map_specs(function: Callable[[Any], Any], nest: Any) -> Any:
  """Maps the leaves of a nest of named tuples, such as `structs.StepOutput` of `ArraySpec`."""
  if isinstance(nest, tuple):
    return type(nest)(*(map_specs(function, item) for item in nest)) if nest else nest
  return function(nest)


def _attach(observation_spec, num_environments, num_rows, duplicate):
  return Rows(observation_spec, num_environments, num_rows, duplicate.detach())


def _make_file(size):
  """Returns the descriptor of a file without a name."""
  if hasattr(os, 'memfd_create'):
    descriptor = os.memfd_create('rows')
  else:
    with tempfile.TemporaryFile() as file:
      descriptor = os.dup(file.fileno())
  os.ftruncate(descriptor, size)
  return descriptor


def _aligned(shape, dtype):
  """Makes an array that TensorFlow takes without copying it."""
  size = math.prod(shape) * dtype.itemsize
  memory = np.empty(size + _ALIGNMENT, np.uint8)
  begin = -memory.ctypes.data % _ALIGNMENT
  return memory[begin : begin + size].view(dtype).reshape(shape)
