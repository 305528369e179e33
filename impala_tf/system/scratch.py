"""A folder for what a process needs on disk while it lives: sockets, and files of environments.

It goes with the process. If that is killed, the next one that needs such a folder removes it: the
lock that its owner held is free then.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from multiprocessing import util

from impala_tf.errors import ConfigurationError

_PREFIX = 'impala_tf_'
_LOCK_NAME = '.lock'
# The path of a socket has at most 104 bytes, of which names below this folder take a half.
_MAX_BYTES = 50
_AFTER_OTHERS = -200  # What `multiprocessing` has in the folder is removed before, at -100.
_SHORT_FOLDERS = ('/tmp', '/var/tmp', '/dev/shm')

_guard = threading.Lock()
_own: dict[int, str] = {}  # By process: one that is forked must not take its parent's.


def folder() -> str:
  """Returns this process's folder, which is made when it is first asked for.

  It is in the folder for temporary files (TMPDIR), or in another one where that has too long a
  name for sockets.

  Raises:
    ConfigurationError: if no folder can be made; names TMPDIR.
  """
  with _guard:
    if os.getpid() not in _own:
      _own[os.getpid()] = _make()
    return _own[os.getpid()]


def _make():
  problems = []
  for base in (tempfile.gettempdir(), *_SHORT_FOLDERS):
    if len(os.fsencode(base)) > _MAX_BYTES:
      problems.append(f'{base} is too long a name for sockets')
      continue
    try:
      path = tempfile.mkdtemp(prefix=_PREFIX, dir=base)
      # Kept open, and so locked, until the process ends. It has its name once it is locked.
      lock_path = os.path.join(path, _LOCK_NAME)
      fcntl.flock(os.open(f'{lock_path}.new', os.O_CREAT | os.O_WRONLY), fcntl.LOCK_EX)
      os.rename(f'{lock_path}.new', lock_path)
    except OSError as error:
      problems.append(str(error))
      continue
    _remove_those_of_the_dead(base)
    util.Finalize(None, shutil.rmtree, (path, True), exitpriority=_AFTER_OTHERS)
    return path

  raise ConfigurationError(
    f'No folder for temporary files can be made ({"; ".join(problems)}). Set TMPDIR to one that '
    'may be written, with a short name.'
  )


def _remove_those_of_the_dead(base):
  for name in os.listdir(base):
    path = os.path.join(base, name)
    # What is another user's, or has no lock yet, is left alone.
    with contextlib.suppress(OSError):
      if not name.startswith(_PREFIX) or os.stat(path).st_uid != os.getuid():
        continue
      lock = os.open(os.path.join(path, _LOCK_NAME), os.O_WRONLY)
      try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
      finally:
        os.close(lock)
