"""Memory that a process and its parent share, through which large arrays go without being pickled.

A batch of 16 Atari observations costs both processes 0.13 ms of CPU time this way, and 0.6 to 1 ms
through a pipe, where emulating such a step takes about 5 ms.
"""

import mmap
import os
import pickle
import tempfile
from multiprocessing import reduction

import numpy as np


class SharedBlock:
  """Memory that both processes see, through which arrays go without being pickled.

  It has no name in any file system, so that nothing is left when both are killed. Its pages exist
  once written to.
  """

  SIZE = 16 * 1024 * 1024  # bytes; what does not fit goes through the pickle
  _MINIMUM = 4096  # bytes; smaller arrays are quicker inside the pickle

  def __init__(self, descriptor: int | None = None):
    """Maps the block of a descriptor, or a new one."""
    if descriptor is None:
      if hasattr(os, 'memfd_create'):
        descriptor = os.memfd_create('py_process')
      else:
        with tempfile.TemporaryFile() as file:
          descriptor = os.dup(file.fileno())
      os.ftruncate(descriptor, self.SIZE)
    self._mapping = mmap.mmap(descriptor, self.SIZE)  # holds a descriptor of its own
    self._descriptor = descriptor

  def __reduce__(self):
    return _attach_block, (reduction.DupFd(self._descriptor),)

  def close_descriptor(self):
    """Gives up the means to send the block to another process."""
    os.close(self._descriptor)

  def write(self, value) -> tuple[bytes, list[int]]:
    """Pickles a value, its large arrays into the block as long as there is room.

    Returns pickle and arrays' sizes.
    """
    sizes = []
    end = 0

    def place(buffer):
      nonlocal end
      raw = buffer.raw()
      if raw.nbytes < self._MINIMUM or end + raw.nbytes > self.SIZE:
        return True  # stays in the pickle
      self._mapping[end : end + raw.nbytes] = raw
      sizes.append(raw.nbytes)
      end += raw.nbytes
      return False

    return pickle.dumps(value, protocol=5, buffer_callback=place), sizes

  def read(self, sizes: list[int]) -> list[bytearray]:
    """Copies what `write` placed, since the next call overwrites it."""
    ends = np.cumsum(sizes, dtype=np.int64).tolist()
    with memoryview(self._mapping) as view:
      return [bytearray(view[end - size : end]) for size, end in zip(sizes, ends, strict=True)]


def _attach_block(duplicate):
  block = SharedBlock(duplicate.detach())
  block.close_descriptor()
  return block
