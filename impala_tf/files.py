"""Files of a run: written whole or not at all, and what is said when they can't be.

Small files that others may read at any time are replaced in one step: a reader sees the old
  contents or the new, never a part.

with files.writing(path):
  ...                       # TensorFlow's errors and the system's leave as StorageError
"""

import contextlib
import json
import os
import uuid

import tensorflow as tf

from impala_tf import errors

_CHUNK = 2**20


class StorageError(errors.UserError, RuntimeError):
  """A file of a run can't be written; the message names it and says what to do."""


@contextlib.contextmanager
def writing(path):
  """Writes to `path`, a file or folder, anything that tf.io.gfile takes, happen in this context.

  Raises:
    StorageError: if they fail.
  """
  try:
    yield
  except (tf.errors.OpError, OSError) as error:
    raise StorageError(
      f"Can't write {path}: {reason(error)}. Make room, or make the folder writable, and give the same command again: a run "
      'goes on from its last checkpoint.'
    ) from error


def reason(error):
  """An error of TensorFlow's or the system's in one line, without the operation that met it."""
  text = error.message if isinstance(error, tf.errors.OpError) else str(error)
  text = (
    text.partition('}} ')[2] or text
  )  # '{{function_node __wrapped__FlushSummaryWriter...}} ' stands first.
  return text.splitlines()[0].removesuffix('.') if text else type(error).__name__


def write(path, text):
  """Replaces a file, anything that tf.io.gfile takes, by `text`.

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


def write_json(path, value):
  """As `write`, with a value as JSON."""
  write(path, json.dumps(value, indent=2) + '\n')


def read(path):
  """The bytes in a file, None if there is no such file."""
  try:
    with tf.io.gfile.GFile(path, 'rb') as file:
      # Not `read()`, which asks for as many bytes as the file has that may just have taken this
      # one's place.
      return b''.join(iter(lambda: file.read(_CHUNK), b''))
  except tf.errors.NotFoundError:
    return None


def read_json(path):
  """The JSON value in a file, None if there is no such file.

  Raises:
    ValueError: if the file holds something else; names it.
  """
  data = read(path)
  if data is None:
    return None
  try:
    return json.loads(data)
  except ValueError as error:
    raise ValueError(f'{os.fspath(path)} is no JSON: {error}') from error
