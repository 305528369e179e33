"""Small files that others may read at any time: they see the old contents or the new, never a part."""

import contextlib
import json
import os
import uuid

import tensorflow as tf

from impala_tf import storage

_CHUNK = 2**20


def write(path, text):
  """Replaces a file, anything that tf.io.gfile takes, by `text`.

  Raises:
    StorageError: if it can't be written; the old contents are still there.
  """
  # Named apart, as two processes may write the same file; the last to rename wins.
  temporary = f'{path}.{uuid.uuid4().hex[:8]}.tmp'
  with storage.writing(path):
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
      # Not `read()`, which asks for as many bytes as the file has that may just have taken this one's place.
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
