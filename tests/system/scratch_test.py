"""Folders that go with their process, however that ends."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import pytest

from impala_tf.errors import ConfigurationError
from impala_tf.system import scratch
from tests.support.processes import ROOT

PROGRAM = """
import os, signal, sys
from impala_tf.system import scratch
print(scratch.folder(), flush=True)
open(os.path.join(scratch.folder(), 'socket'), 'w').close()
sys.stdin.readline()
if sys.argv[1:]:
  os.kill(os.getpid(), signal.SIGKILL)
"""


def start(folder, *arguments):
  process = subprocess.Popen(
    [sys.executable, '-c', PROGRAM, *arguments],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    env={**os.environ, 'TMPDIR': str(folder)},
  )
  return process, pathlib.Path(process.stdout.readline().strip())


def end(process):
  process.communicate('')
  return process.returncode


@pytest.fixture
def short():
  with tempfile.TemporaryDirectory(dir='/tmp') as folder:
    yield pathlib.Path(folder)


def test_a_folder_goes_with_its_process_or_with_the_next_one(short):
  (short / 'impala_tf_of_somebody_else').mkdir()
  living, of_living = start(short)
  killed, of_killed = start(short, 'kill')
  assert of_living.parent == of_killed.parent == short
  assert end(killed) == -signal.SIGKILL
  assert of_killed.exists()
  next_one, of_next = start(short)
  assert not of_killed.exists()
  assert of_living.exists()
  assert end(living) == end(next_one) == 0
  assert not of_living.exists()
  assert not of_next.exists()
  assert [path.name for path in short.iterdir()] == ['impala_tf_of_somebody_else']


def test_a_long_name_of_the_folder_for_temporary_files_is_passed_over(tmp_path):
  long = tmp_path / ('x' * 80)
  long.mkdir()
  process, folder = start(long)
  assert len(str(folder)) < 80
  assert end(process) == 0
  assert not folder.exists()


def test_where_no_folder_can_be_made_the_message_names_the_variable(tmp_path, monkeypatch):
  monkeypatch.setattr(scratch, '_SHORT_FOLDERS', ())
  monkeypatch.setattr(scratch.tempfile, 'gettempdir', lambda: str(tmp_path / 'missing'))
  with pytest.raises(ConfigurationError, match='TMPDIR'):
    scratch._make()
