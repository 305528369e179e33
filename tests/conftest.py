"""Settings of the process that runs tests, and of the processes among which they are shared out."""

import pathlib
import signal

import pytest

from impala_tf.system import machine

_MAX_WORKERS = 8  # of 1 to 2 GiB each
_SLOW = pathlib.Path(__file__).parent / 'end_to_end'


def pytest_configure(config: pytest.Config):
  """Prepares a process that runs tests; one that only shares them out loads no TensorFlow."""
  if config.getoption('numprocesses', None) and not hasattr(config, 'workerinput'):
    return

  # Tests have up to 64 actor threads that wait for each other inside of operations, each of which
  # holds a thread.
  machine.configure_tensorflow(64)

  # A shell has what it starts in the background ignore Ctrl-C. Tests that send it would wait for
  # ever.
  signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
  """How many processes `-n auto` shares the tests out among: three for two cores, as tests with
  processes of their own wait for them half of the time.
  """
  return min(_MAX_WORKERS, machine.cores() * 3 // 2)


def pytest_collection_modifyitems(items: list[pytest.Item]):
  """Marks tests with processes of whole commands as slow, and has them run first: the last ones
  should be short, so that all workers end at about the same time.
  """
  for item in items:
    if item.path.is_relative_to(_SLOW):
      item.add_marker('slow')
  items.sort(key=lambda item: item.get_closest_marker('slow') is None)
