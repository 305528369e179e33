"""Helpers that the main functions of all commands share."""

import functools
import logging as std_logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from absl import app, flags, logging

from impala_tf.config import ConfigurationError
from impala_tf.errors import UserError

_FLAGS = flags.FLAGS
_LOG_FORMAT = '%(levelname)s: %(message)s'
_Main = TypeVar('_Main', bound=Callable[..., Any])


def report_user_errors(*errors: type[Exception]) -> Callable[[_Main], _Main]:
  """Decorates a function that returns an exit code: it prints UserErrors in place of a traceback,
  and returns 1.

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


def no_positional_arguments(argv: Sequence[str]) -> None:
  """Refuses words that are not flags, as absl hands them to a command.

  Raises:
    absl.app.UsageError: names the first of them.
  """
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {argv[1]!r}.')


def set_up_log() -> None:
  """Leaves warnings and errors in the log, without time or place; --verbosity=1 shows all."""
  if _FLAGS['verbosity'].using_default_value:
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().setFormatter(std_logging.Formatter(_LOG_FORMAT))


def check_local(logdir: str) -> None:
  """Refuses a folder that is not of a file system of this machine.

  Raises:
    ConfigurationError: for such as gs://bucket/runs.
  """
  if '://' in logdir:
    raise ConfigurationError(
      f'{logdir} is not a folder of a file system, in which processes could lock files. Give one '
      'that all machines that take part have mounted.'
    )


def split_label(text: str, default_label: Callable[[str], str]) -> tuple[str, str]:
  """Returns label and path of 'label=path', or of a path alone.

  Args:
    text: taken for a path if that exists, even if '=' is in it.
    default_label: makes the label of a path without one.
  """
  if '=' not in text or os.path.exists(text):
    return default_label(text), text
  label, path = text.split('=', 1)
  return label, path


def last_part(path: str) -> str:
  """Returns the name of a file or folder without those of the folders around it, as a label."""
  return os.path.basename(os.path.abspath(path))
