"""What the main functions of all commands have in common."""

import functools
import sys

from absl import app

from impala_tf.errors import UserError


def refusing(*errors):
  """Decorator of what returns an exit code: UserErrors are printed in place of a traceback, and give exit code 1.

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


def check_flags_only(argv):
  """Refuses words that are no flags, as absl hands them to a command that has none.

  Raises:
    absl.app.UsageError: names the first of them.
  """
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {argv[1]!r}.')
