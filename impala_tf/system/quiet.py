"""Loads TensorFlow without its own log in the terminal.

Its C++ libraries write some lines to standard error while they are loaded, before any setting of
theirs counts. They are left out there and then; all other lines, such as those of a crash, pass.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from absl import logging

# How TensorFlow and its libraries begin a line of their log, but for that of a fatal error.
_LOG_LINE = '^(WARNING: All log messages before absl|[IWE][0-9]{4} [0-9:.]+ +[0-9]+ )'
_FILTER = ('grep', '--line-buffered', '-E', '-v', _LOG_LINE)
_FILTER_SECONDS = 5.0  # For the filter to end, unless a process that lives on holds its input.


def load_tensorflow() -> None:
  """Imports TensorFlow. With --verbosity=1 and above its log is shown, in whole."""
  if 'tensorflow' in sys.modules:
    return
  if logging.get_verbosity() > logging.INFO:
    os.environ['TF_CPP_MIN_LOG_LEVEL'] = '0'
    import tensorflow
  else:
    # Afterwards `TF_CPP_MIN_LOG_LEVEL` counts, which `impala_tf` sets.
    with _without_log_lines():
      import tensorflow  # noqa: F401


@contextlib.contextmanager
def _without_log_lines() -> Iterator[None]:
  """Sends standard error through a filter, native code's too. The filter is a process of its own,
  so that it passes on the last words of one that crashes.
  """
  if sys.stderr is None:  # It is closed.
    yield
    return

  sys.stderr.flush()
  kept = os.dup(2)
  try:
    # In a session of its own: Ctrl-C must not end it before this process.
    line_filter = subprocess.Popen(
      _FILTER, stdin=subprocess.PIPE, stdout=kept, start_new_session=True
    )
  except OSError:  # This system has no grep.
    os.close(kept)
    yield
    return

  assert line_filter.stdin is not None
  os.dup2(line_filter.stdin.fileno(), 2)
  line_filter.stdin.close()
  try:
    yield
  finally:
    sys.stderr.flush()
    os.dup2(kept, 2)
    os.close(kept)
    with contextlib.suppress(subprocess.TimeoutExpired):
      line_filter.wait(_FILTER_SECONDS)
