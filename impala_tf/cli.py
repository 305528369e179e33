"""What the main functions of all commands have in common."""

import functools
import os
import sys

from absl import app

from impala_tf.config import ConfigurationError
from impala_tf.errors import UserError


def report_user_errors(*errors):
  """Decorator of what returns an exit code: UserErrors are printed in place of a traceback, and
  give exit code 1.

  Args:
    *errors: further classes, to be treated alike.
  """

  def decorate(function):
    @functools.wraps(function)
    def decorated(*args, **kwargs):
      try:
        return function(*args, **kwargs)
      except (UserError, *errors) as error:
        print(f'Error: {error}', file=sys.stderr)
        return 1

    return decorated

  return decorate


def no_positional_arguments(argv):
  """Refuses words that are no flags, as absl hands them to a command that has none.

  Raises:
    absl.app.UsageError: names the first of them.
  """
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {argv[1]!r}.')


def check_local(logdir):
  """Refuses a folder that is not of a file system of this machine.

  Raises:
    ConfigurationError: for such as gs://bucket/runs.
  """
  if '://' in logdir:
    raise ConfigurationError(
      f'{logdir} is no folder of a file system, in which processes could lock files. Give one, which all machines that take '
      'part have mounted.'
    )


def split_label(text, default_label):
  """Label and path of 'label=path', or of a path alone.

  Args:
    text: str. What exists as a path is one, whatever '=' there is in it.
    default_label: function from a path without label to its label.

  Returns:
    Two str.
  """
  if '=' not in text or os.path.exists(text):
    return default_label(text), text
  label, path = text.split('=', 1)
  return label, path


def last_part(path):
  """The name of a file or folder without those of the folders around it, as a label."""
  return os.path.basename(os.path.abspath(path))
