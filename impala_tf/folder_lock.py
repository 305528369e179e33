"""A lock on a run's folder, so that two learners never write to one. It ends with its process, however that ends."""

import contextlib
import fcntl
import os

from absl import logging

from impala_tf.hparams import ConfigurationError

_NAME = '.learner'


@contextlib.contextmanager
def held(logdir):
  """Holds the lock of an existing folder while the context lasts.

  A path that is not of this machine's file system but another one that TensorFlow knows (`gs://...`) has no locks; there
  nothing happens.

  Raises:
    ConfigurationError: if another process holds it.
  """
  if '://' in logdir:
    yield
    return
  with open(os.path.join(logdir, _NAME), 'w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ConfigurationError(
        f'Another process trains in {logdir}. Wait for its end or stop it, or use another --logdir.'
      ) from None
    except OSError as error:  # Some network file systems have no locks.
      logging.warning("%s can't be locked (%s): make sure yourself that nobody else trains there.", logdir, error)
    yield
