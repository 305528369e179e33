"""One process holds a folder's lock, until it ends in any way."""

import fcntl
import subprocess
import sys

import pytest

from impala_tf.config import ConfigurationError
from impala_tf.system import locks
from tests.support.processes import ROOT

HOLD = """
import sys
from impala_tf.system import locks
with locks.held(sys.argv[1]):
  print('held', flush=True)
  sys.stdin.read()
"""


def test_second_is_refused_until_the_first_has_died(tmp_path):
  holder = subprocess.Popen(
    [sys.executable, '-c', HOLD, str(tmp_path)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    cwd=ROOT,
  )
  try:
    assert holder.stdout.readline() == 'held\n'
    with (
      pytest.raises(ConfigurationError, match=str(tmp_path)),
      locks.held(str(tmp_path)),
    ):
      pass
  finally:
    holder.kill()
    holder.communicate()
  with locks.held(str(tmp_path)):
    pass
  with locks.held(str(tmp_path)):
    pass


def test_other_file_systems_have_no_lock():
  with locks.held('gs://nowhere/run'):
    pass


@pytest.mark.usefixtures('without_locks')
def test_a_file_system_without_locks_gives_a_warning_only(tmp_path, warnings):
  with locks.held(str(tmp_path)):
    pass
  (warning,) = warnings()
  assert str(tmp_path) in warning


def test_a_file_system_that_looks_at_how_a_file_was_opened_is_supported(tmp_path, monkeypatch):
  # So does NFS, and so do POSIX's locks anywhere.
  monkeypatch.setattr(fcntl, 'flock', fcntl.lockf)
  locks.check_supported(str(tmp_path))
