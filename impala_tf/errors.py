"""The errors that users can mend, and long lists in their messages."""

import errno
import os
from collections.abc import Sequence

# Numbers of system errors, after which room may be made.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class UserError(Exception):
  """Error whose message is all that its user needs: what is wrong, where, and what to do.

  Commands print it in place of a traceback.
  """


class ConfigurationError(UserError, ValueError):
  """A setting that a run can't have; the message says which, why, and what to do."""


class FileError(ConfigurationError):
  """A file that can't be read, or is damaged or another program's.

  Attributes:
    path: of the file.
    field: where in it the problem is, empty if it is the whole file.
  """

  def __init__(self, path: str | os.PathLike[str], problem: str, remedy: str = '', field: str = ''):
    """Makes one line of the file, the field, the problem, and the remedy, which is a sentence."""
    self.path, self.field = os.fspath(path), field
    where = f'{self.path}: {field}' if field else self.path
    problem = ' '.join(problem.split()).removesuffix('.')
    super().__init__(f'{where} {problem}. {remedy or "Repair or remove the file."}')


def listed(names: Sequence[str], most: int, separator: str = ', ') -> str:
  """Names at most so many of several things, and counts the others."""
  more = [f'and {len(names) - most} more'] if len(names) > most else []
  return separator.join([*names[:most], *more])
