"""A first look at environments, in a process of its own: what they import, start and print there
leaves this one as it was, as TensorFlow for example can be set up only before it is used.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

from impala_tf.config import ConfigurationError
from impala_tf.environments import py_process


def run(function: Callable[..., Any], *args: Any, modules: Iterable[str] = ()) -> Any:
  """Calls a function in another process.

  Args:
    function: picklable.
    *args: picklable.
    modules: of the suite, see `suite.Suite.shared_modules`.

  Returns:
    Its result.

  Raises:
    ConfigurationError: that the function raised.
    ProcessError: if it raised something else, or its process died.
  """
  py_process.preload(modules)
  with py_process.PyProcess(_Trial, function, *args) as process:
    result, problem = process.call('run')
  if problem:
    raise ConfigurationError(problem)
  return result


class _Trial:
  """A call whose ConfigurationError is a part of its result: of another one a process gives the
  traceback.
  """

  def __init__(self, function, *args):
    self._call = functools.partial(function, *args)

  def run(self):
    try:
      return self._call(), None
    except ConfigurationError as error:
      return None, str(error)
