"""What is said when a file of a run can't be written, as when the disk is full.

with storage.writing(path):
  ...                       # TensorFlow's errors and the system's leave as StorageError
"""

import contextlib

import tensorflow as tf

from impala_tf import errors


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
  text = text.partition('}} ')[2] or text  # '{{function_node __wrapped__FlushSummaryWriter...}} ' stands first.
  return text.splitlines()[0].removesuffix('.') if text else type(error).__name__
