"""Standard output and standard error whose loss ends nothing.

A terminal may be closed, the program behind a pipe may end, the disk below a redirected output may
be full. A training has better things to do than to end for that.
"""

import contextlib
import io
import os
import select
import sys

from absl import logging

from impala_tf.errors import DISK_FULL

_NAMES = {1: 'Standard output', 2: 'Standard error'}


def tolerate_failures() -> None:
  """Lets this process continue, without what it would print, where that can't be written."""
  for number in (0, *_NAMES):
    _open_if_closed(number)
  for stream in (sys.stdout, sys.stderr):
    if stream is not None:
      with contextlib.suppress(OSError):
        stream.flush()
  sys.stdout, sys.stderr = _open(1, sys.stdout), _open(2, sys.stderr)
  # It was made with the stream that there was before.
  logging.get_absl_handler().python_handler.setStream(sys.stderr)


def _open_if_closed(number):
  """Opens one of the three standard files if it is closed: its number would be the next file's."""
  try:
    os.fstat(number)
  except OSError:
    _open_null(number)


def _open_null(number):
  null = os.open(os.devnull, os.O_RDWR)
  os.dup2(null, number)
  if null != number:
    os.close(null)
  os.set_inheritable(number, True)


def _open(number, stream):
  raw = _Tolerant(number, 'w', closefd=False)
  return io.TextIOWrapper(
    io.BufferedWriter(raw),
    encoding=getattr(stream, 'encoding', None) or 'utf-8',
    errors='backslashreplace',  # Names of files may have characters that this encoding lacks.
    line_buffering=number == 2 or raw.isatty(),
  )


class _Tolerant(io.FileIO):
  """A file that drops what a full disk has no room for, and is exchanged for the null device when
  it can't be written for another reason.
  """

  _has_complained = False

  def write(self, data):
    """Writes what can be written now, and says how many bytes that was."""
    try:
      written = super().write(data)
      while written is None:  # Another process has made the file one that does not wait.
        select.select([], [self.fileno()], [])
        written = super().write(data)
      return written
    except OSError as error:
      if error.errno not in DISK_FULL:  # A broken pipe stays broken.
        _open_null(self.fileno())
      self._complain(error)
      return len(data)

  def _complain(self, error):
    if self.fileno() == 1 and not self._has_complained:
      self._has_complained = True
      print(
        f"{_NAMES[1]} can't be written ({error.strerror}): the command continues without it.",
        file=sys.stderr,
        flush=True,
      )
