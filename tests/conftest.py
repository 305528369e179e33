"""Settings of the process that runs tests, and of the processes among which they are shared out;
fixtures that tests of several rooms have.
"""

import errno
import fcntl
import logging
import os
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

  # Several workers would want the whole of a graphics card, and some tests are of what happens
  # without one.
  os.environ.setdefault('CUDA_VISIBLE_DEVICES', '')

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
  """Marks tests with processes of whole commands as slow, and has each worker begin with some.

  What is left for the end should be short, so that all workers end at about the same time.
  """
  for item in items:
    if item.path.is_relative_to(_SLOW):
      item.add_marker('slow')
  slow = [item for item in items if item.get_closest_marker('slow')]
  quick = [item for item in items if not item.get_closest_marker('slow')]

  # `--dist worksteal` first gives each worker an equal part of the list, in order. The tests of a
  # module stay together, as they may share what is costly to make.
  workers = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
  size = -(-len(items) // workers)
  modules = list(dict.fromkeys(item.path for item in slow))
  items.clear()
  for worker in range(workers):
    own = [item for item in slow if modules.index(item.path) % workers == worker]
    items += own + quick[: max(0, size - len(own))]
    del quick[: max(0, size - len(own))]
  items += quick


@pytest.fixture
def warnings(caplog):
  """Gives a function that returns the warnings so far."""
  caplog.set_level(logging.WARNING)
  return lambda: [record.getMessage() for record in caplog.records if record.name == 'absl']


@pytest.fixture
def new_warnings(caplog, warnings):
  """Gives a function that returns the warnings since its last call."""

  def new():
    found = warnings()
    caplog.clear()
    return found

  return new


@pytest.fixture
def without_locks(monkeypatch):
  """A file system that has no locks."""

  def refuse(*unused):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(fcntl, 'flock', refuse)


@pytest.fixture
def figures(monkeypatch):
  """The figures that were saved."""
  from matplotlib.figure import Figure

  saved, save = [], Figure.savefig
  keep = lambda figure, *args, **known: (saved.append(figure), save(figure, *args, **known))
  monkeypatch.setattr(Figure, 'savefig', keep)
  return saved
