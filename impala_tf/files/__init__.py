"""Files of a run: written whole or not at all, with one error for a full or read-only disk, and
read with one error for a damaged or foreign file.

Small files that others may read at any time are replaced in one step: a reader sees the old
contents or the new, never a part.

    with files.writing(path):
      ...                       # TensorFlow's errors and the system's leave as StorageError

Paths are files or folders, anything that tf.io.gfile takes. TensorFlow takes seconds to load, and
is loaded for paths of other file systems only, such as gs://bucket/runs.
"""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, TypeVar

from absl import logging

from impala_tf import errors
from impala_tf.files import schema
from impala_tf.system import quiet
from impala_tf.system.paths import is_remote

_Item = TypeVar('_Item')
_Found = TypeVar('_Found')
_CHUNK = 2**20
_FIRST_BLOCK = 2**13  # bytes, of those that are read from the end of a file
_NOT_FOUND = 5  # Code of `tf.errors.NotFoundError`.
# Names of `write` and of `prepare_folder`.
_TEMPORARY = re.compile(r'.+\.[0-9a-f]{8}\.tmp|\.write_test_[0-9a-f]{8}')


class StorageError(errors.UserError, RuntimeError):
  """A file of a run can't be written; the message names it and says what to do."""


def io_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
  """Returns the classes of the errors that reading and writing may raise, for an except clause, and
  others after them.
  """
  tf = sys.modules.get('tensorflow')
  return (OSError, *others) if tf is None else (OSError, tf.errors.OpError, *others)


def open_file(path: str | os.PathLike[str], mode: str = 'r') -> IO[Any]:
  """Opens a file as `open` does, text as UTF-8 without a change to its line ends.

  Raises:
    OSError, tf.errors.OpError: if it can't be opened; see `io_errors`.
  """
  if is_remote(path):
    return _gfile().GFile(path, mode)
  text = {} if 'b' in mode else {'encoding': 'utf-8', 'newline': ''}
  return open(path, mode, **text)  # type: ignore[call-overload, no-any-return]


def prepare_folder(path: str) -> None:
  """Makes a run's folder if it is missing, and writes a file there to see that it can.

  Raises:
    ConfigurationError: if it can't be made or written.
  """
  # Named apart, as several may start in one folder at once.
  probe = os.path.join(path, f'.write_test_{uuid.uuid4().hex[:8]}')
  try:
    make_folder(path)
    with open_file(probe, 'w') as file:
      file.write('A run tested that it can write here.\n')
    remove(probe)
  except io_errors() as error:
    raise _unwritable(path, reason(error)) from error


def check_folder(path: str) -> None:
  """Makes sure that a run's folder on this machine is there or can be made, as far as it can be
  seen without TensorFlow and without writing; `prepare_folder` tries it.

  Raises:
    ConfigurationError: if it can't be.
  """
  if is_remote(path):
    return
  nearest = os.path.abspath(path)
  while not os.path.lexists(nearest):
    nearest = os.path.dirname(nearest)
  if not os.path.isdir(nearest):
    raise _unwritable(path, f'{nearest} is not a folder')
  if not os.access(nearest, os.W_OK | os.X_OK):
    raise _unwritable(path, f'{nearest} is not yours to write')


def _unwritable(path, reason_):
  return errors.ConfigurationError(
    f"Can't write in the log directory {path!r}: {reason_}. Give --logdir a folder that you may "
    'write, and that has room.'
  )


def exists(path: str) -> bool:
  """Returns whether there is such a file or folder."""
  return _gfile().exists(path) if is_remote(path) else os.path.exists(path)


def is_folder(path: str) -> bool:
  """Returns whether there is such a folder."""
  return _gfile().isdir(path) if is_remote(path) else os.path.isdir(path)


def names_in(folder: str) -> list[str]:
  """Returns the names of the files and folders in a folder, sorted; none if there is no folder."""
  if is_remote(folder):
    listed = _gfile().listdir(folder) if is_folder(folder) else []
    return sorted(name.rstrip('/') for name in listed)
  return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def make_folder(path: str) -> None:
  """Makes a folder and those around it, as far as they are missing; raises as `open_file`."""
  if is_remote(path):
    _gfile().makedirs(path)
  else:
    os.makedirs(path, exist_ok=True)


def remove(path: str) -> None:
  """Removes a file, or a folder with all that is in it; raises as `open_file`."""
  if is_remote(path):
    (_gfile().rmtree if is_folder(path) else _gfile().remove)(path)
  elif os.path.isdir(path) and not os.path.islink(path):
    shutil.rmtree(path)
  else:
    os.remove(path)


def _gfile():
  quiet.load_tensorflow()
  import tensorflow as tf

  return tf.io.gfile


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
  """Turns the errors of writes to `path` within this context into StorageError."""
  try:
    yield
  except io_errors() as error:
    raise StorageError(
      f"Can't write {path}: {reason(error)}. Make room, or make the folder writable, and give the "
      'same command again: a run resumes from its last checkpoint.'
    ) from error


def reason(error: Exception) -> str:
  """Puts an error of TensorFlow or the system in one line, without the operation that met it."""
  text = str(getattr(error, 'message', error))  # TensorFlow's errors have one.
  # '{{function_node __wrapped__FlushSummaryWriter...}} ' stands first.
  text = text.partition('}} ')[2] or text
  return text.splitlines()[0].removesuffix('.') if text else type(error).__name__


def write(path: str | os.PathLike[str], contents: str | bytes) -> None:
  """Replaces a file by a text or by bytes.

  Raises:
    StorageError: if it can't be written; the old contents are still there.
  """
  # Named apart, as two processes may write the same file; the last to rename wins.
  temporary = f'{path}.{uuid.uuid4().hex[:8]}.tmp'
  with writing(path):
    try:
      with open_file(temporary, 'w' if isinstance(contents, str) else 'wb') as file:
        file.write(contents)
      if is_remote(path):
        _gfile().rename(temporary, path, overwrite=True)
      else:
        os.replace(temporary, path)
    except BaseException:
      with contextlib.suppress(*io_errors()):
        remove(temporary)
      raise


def write_json(path: str | os.PathLike[str], value: Any) -> None:
  """Replaces a file by a value as JSON; see `write`."""
  write(path, json.dumps(value, indent=2) + '\n')


def write_csv(path: str | os.PathLike[str], rows: Iterable[Sequence]) -> None:
  """Replaces a file by a table as CSV, in which None is a blank cell; see `write`."""
  stream = io.StringIO(newline='')
  csv.writer(stream, lineterminator='\n').writerows(rows)
  write(path, stream.getvalue())


def read(path: str | os.PathLike[str], remedy: str = '') -> bytes | None:
  """Returns the bytes in a file, None if it does not exist.

  Args:
    path: of the file.
    remedy: a sentence for the error.

  Raises:
    FileError: if it can't be read.
  """
  with _reading(path, remedy):
    if not is_remote(path):
      with open(path, 'rb') as file:
        return file.read()
    with open_file(path, 'rb') as file:
      # Not `read()`, which asks for the size by name: another file may have taken this one's place.
      return b''.join(iter(lambda: file.read(_CHUNK), b''))
  return None


@contextlib.contextmanager
def _reading(path, remedy):
  """Ends this context at a file that does not exist, and turns other errors into FileError."""
  try:
    yield
  except FileNotFoundError:
    return
  except io_errors() as error:
    if getattr(error, 'error_code', None) != _NOT_FOUND:
      raise errors.FileError(path, f"can't be read: {reason(error)}", remedy) from error


def read_text(path: str | os.PathLike[str], remedy: str = '') -> str | None:
  """Returns the text in a file, as `read` does its bytes.

  Raises:
    FileError: if it can't be read, or is not text in UTF-8.
  """
  data = read(path, remedy)
  return None if data is None else _decode(path, data, remedy)


def lines_from_end(path: str | os.PathLike[str], remedy: str = '') -> Iterator[str]:
  """Yields the lines of a text file, the last one first, without reading much more than these.

  Args:
    path, remedy: as for `read_text`.

  Yields:
    First what follows the last end of a line, which is empty if nothing does; then the lines,
    without their ends. Nothing if there is no such file.

  Raises:
    FileError: as `read_text`.
  """
  with _reading(path, remedy), open_file(path, 'rb') as file:
    file.seek(0, os.SEEK_END)
    begin, size = file.tell(), _FIRST_BLOCK
    first = b''  # The end of a line, whose beginning is to come.
    while begin:
      end, begin = begin, max(0, begin - size)
      file.seek(begin)
      first, *lines = (file.read(end - begin) + first).split(b'\n')
      yield from (_decode(path, line, remedy) for line in reversed(lines))
      size *= 2  # A line may be as long as the file, which would be copied for each block.
    yield _decode(path, first, remedy)


def _decode(path, data, remedy):
  try:
    return data.decode()
  except UnicodeDecodeError as error:
    raise errors.FileError(path, f'is not text in UTF-8: {error}', remedy) from error


def read_json(path: str | os.PathLike[str], type_: Any, remedy: str = '') -> Any:
  """Returns the JSON value in a file, None if the file does not exist.

  Args:
    path: of the file.
    type_: what the value must be, as for `schema.convert`.
    remedy: a sentence for the error; by default that the file should be repaired or removed.

  Raises:
    FileError: if the file can't be read, is not JSON, or has another value; names the field.
  """
  text = read_text(path, remedy)
  return None if text is None else parse_json(path, text, type_, remedy)


def parse_json(path: str | os.PathLike[str], text: str, type_: Any, remedy: str = '') -> Any:
  """Returns the value of a text that is from a file, or from a line of it; see `read_json`."""
  try:
    return schema.convert(json.loads(text), type_)
  except schema.MismatchError as error:
    raise errors.FileError(path, error.problem, remedy, error.field) from error
  except RecursionError:
    raise errors.FileError(path, 'is nested too deep', remedy) from None
  except ValueError as error:
    raise errors.FileError(path, f'is not JSON: {error}', remedy) from error


def sound_ones(read: Callable[[_Item], _Found], items: Iterable[_Item]) -> list[_Found]:
  """Returns what `read` makes of each of several items, without those of which a file is damaged:
  these are named in warnings.

  Raises:
    FileError: of the last one, if all are damaged.
  """
  found, problems = [], []
  for item in items:
    try:
      found.append(read(item))
    except errors.FileError as error:
      problems.append(error)

  last = [] if found else problems[-1:]
  for problem in problems[: len(problems) - len(last)]:
    logging.warning('Left out: %s', problem)
  if last:
    raise last[0]
  return found


@contextlib.contextmanager
def without_damage() -> Iterator[None]:
  """Ends this context at what is damaged or missing, with a warning that names it."""
  try:
    yield
  except errors.ConfigurationError as error:
    logging.warning('%s', error)


def remove_temporary(folder: str) -> None:
  """Removes from a folder the files that a process which was killed had not yet put in place; for
  one that has the folder for itself.
  """
  for name in names_in(folder):
    if _TEMPORARY.fullmatch(name):
      with contextlib.suppress(*io_errors()):
        remove(os.path.join(folder, name))
