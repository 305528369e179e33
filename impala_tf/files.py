"""Files of a run: written whole or not at all, with one error for a full or read-only disk.

Small files that others may read at any time are replaced in one step: a reader sees the old
contents or the new, never a part.

    with files.writing(path):
      ...                       # TensorFlow's errors and the system's leave as StorageError

Paths are files or folders, anything that tf.io.gfile takes.
"""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from impala_tf import errors

_CHUNK = 2**20


class StorageError(errors.UserError, RuntimeError):
  """A file of a run can't be written; the message names it and says what to do."""


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
  """Turns the errors of writes to `path` within this context into StorageError."""
  try:
    yield
  except (tf.errors.OpError, OSError) as error:
    raise StorageError(
      f"Can't write {path}: {reason(error)}. Make room, or make the folder writable, and give the "
      'same command again: a run resumes from its last checkpoint.'
    ) from error


def reason(error: Exception) -> str:
  """Puts an error of TensorFlow or the system in one line, without the operation that met it."""
  text = error.message if isinstance(error, tf.errors.OpError) else str(error)
  # '{{function_node __wrapped__FlushSummaryWriter...}} ' stands first.
  text = text.partition('}} ')[2] or text
  return text.splitlines()[0].removesuffix('.') if text else type(error).__name__


def write(path: str | os.PathLike[str], text: str) -> None:
  """Replaces a file by `text`.

  Raises:
    StorageError: if it can't be written; the old contents are still there.
  """
  # Named apart, as two processes may write the same file; the last to rename wins.
  temporary = f'{path}.{uuid.uuid4().hex[:8]}.tmp'
  with writing(path):
    try:
      with tf.io.gfile.GFile(temporary, 'w') as file:
        file.write(text)
      tf.io.gfile.rename(temporary, path, overwrite=True)
    except BaseException:
      with contextlib.suppress(tf.errors.OpError):
        tf.io.gfile.remove(temporary)
      raise


def write_json(path: str | os.PathLike[str], value: Any) -> None:
  """Replaces a file by a value as JSON; see `write`."""
  write(path, json.dumps(value, indent=2) + '\n')


def read(path: str | os.PathLike[str]) -> bytes | None:
  """Returns the bytes in a file, None if it does not exist."""
  try:
    with tf.io.gfile.GFile(path, 'rb') as file:
      # Not `read()`, which asks for the size by name: another file may have taken this one's place.
      return b''.join(iter(lambda: file.read(_CHUNK), b''))
  except tf.errors.NotFoundError:
    return None


def read_json(path: str | os.PathLike[str]) -> Any:
  """Returns the JSON value in a file, None if the file does not exist.

  Raises:
    ValueError: if the file is not JSON; names it.
  """
  data = read(path)
  if data is None:
    return None
  try:
    return json.loads(data)
  except ValueError as error:
    raise ValueError(f'{os.fspath(path)} is not JSON: {error}') from error
