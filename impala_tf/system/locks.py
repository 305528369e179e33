"""Locks on folders, so that two processes never write to one.

They end with their processes, however those end.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import IO

from absl import logging

from impala_tf.errors import ConfigurationError, UserError
from impala_tf.system.paths import is_remote

_NAME = '.learner'
_RUN_NAME = '.running'


class FolderBusyError(UserError, RuntimeError):
  """Another process trains in the folder."""


def lock(file: IO[str], shared: bool = False) -> bool:
  """Locks an open file for this process and those that it hands the file to, until all of them have
  closed it.

  Args:
    file: open for writing; for reading, if `shared`.
    shared: whether others may hold a shared lock of the same file meanwhile.

  Returns:
    Whether the file is locked now; False if another process has the lock. Where the file system has
    no locks it is True, with a warning.
  """
  try:
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except OSError as error:
    folder = os.path.dirname(file.name)
    logging.warning(
      "%s can't be locked (%s): make sure yourself that nobody else writes there.", folder, error
    )
  return True


def check_supported(folder: str) -> None:
  """Refuses a folder whose file system has no locks, where they are all that keeps workers apart.

  Raises:
    ConfigurationError: names the folder.
  """
  # NFS gives a shared lock of files that are open for reading only.
  with open(os.path.join(folder, '.lock_check'), 'w+') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_SH)
    except OSError as error:
      raise ConfigurationError(
        f"{folder} can't be locked ({error}), without which workers would take the same trials. "
        'Give a --logdir on another file system.'
      ) from error


def claim(logdir: str) -> IO[str]:
  """Locks the folder of a run, which is made if it is missing.

  Returns:
    An open file. The lock is held until this process, and the run that the file is handed to, have
    closed it or ended.

  Raises:
    FolderBusyError: if another process holds the lock.
  """
  os.makedirs(logdir, exist_ok=True)
  with contextlib.ExitStack() as closing:
    file = closing.enter_context(open(os.path.join(logdir, _RUN_NAME), 'w'))
    if not lock(file):
      raise FolderBusyError(f'Another process trains in {logdir}. Wait for its end or stop it.')
    closing.pop_all()
  return file


def is_claimed(logdir: str) -> bool:
  """Returns whether a process holds the lock of a run's folder."""
  try:
    with open(os.path.join(logdir, _RUN_NAME)) as file:
      return not lock(file, shared=True)
  except FileNotFoundError:
    return False


@contextlib.contextmanager
def held(folder: str, name: str = _NAME, what: str = 'trains') -> Iterator[None]:
  """Holds the lock of an existing folder while the context lasts.

  A path that is not of this machine's file system but another one that TensorFlow knows
  (`gs://...`) has no locks; there nothing happens.

  Args:
    folder: path.
    name: of the file that is locked.
    what: what its holder does there, for the message.

  Raises:
    ConfigurationError: if another process holds it.
  """
  if is_remote(folder):
    yield
    return
  with open(os.path.join(folder, name), 'w') as file:
    if not lock(file):
      raise ConfigurationError(
        f'Another process {what} in {folder}. Wait for its end or stop it, or use another folder.'
      )
    yield
