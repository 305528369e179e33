"""Tests of run_process: how commands start runs and end them."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from impala_tf import processes

_RUNNER = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[-1].removeprefix('--logdir='))
def end(number, frame):
  (folder / 'ended').write_text('by a signal')
  sys.exit(143)
signal.signal(signal.SIGTERM, end)
print('arguments', sys.argv[1:-1], flush=True)
(folder / 'began').touch()
time.sleep(60)
"""
_DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('deaf', flush=True)
time.sleep(600)
"""


def _wait_for(condition):
  deadline = time.monotonic() + 60
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.05)


@pytest.fixture
def runner(tmp_path, monkeypatch):
  (tmp_path / 'waiting_runner.py').write_text(_RUNNER)
  root = pathlib.Path(__file__).parents[1]
  monkeypatch.setenv('PYTHONPATH', f'{tmp_path}:{root}')
  return 'waiting_runner'


def test_a_process_stops_when_asked_and_holds_its_folder_meanwhile(tmp_path, runner):
  folder = tmp_path / 'run'
  process = processes.RunProcess(runner, ['--a=1'], str(folder))
  try:
    _wait_for((folder / 'began').exists)
    with pytest.raises(processes.FolderBusyError):
      processes.RunProcess(runner, [], str(folder))
    with pytest.raises(processes.FolderBusyError, match='Wait for its end or stop it'):
      processes.start_when_free(runner, [], str(folder), seconds=0.1, stop=False)
    assert processes.start_when_free(runner, [], str(folder), seconds=60, stop=True) is None
    assert process.poll() is None
    process.stop()
    assert process.wait(60) == 143
    assert processes.ended_by_signal(143)
    assert "arguments ['--a=1']" in process.last_lines()
    again = processes.start_when_free(runner, [], str(folder), seconds=60, stop=False)
    again.stop()
    again.wait(60)
    assert "arguments ['--a=1']" in again.last_lines()  # What the first said is kept.
  finally:
    process.stop()


def test_a_process_ends_when_its_starter_is_killed(tmp_path, runner):
  folder = tmp_path / 'run'
  program = 'import sys, time; from impala_tf import processes as r; p = r.RunProcess(sys.argv[1], [], sys.argv[2]); time.sleep(60)'
  starter = subprocess.Popen([sys.executable, '-c', program, runner, str(folder)])
  try:
    _wait_for((folder / 'began').exists)
    os.kill(starter.pid, signal.SIGKILL)
    _wait_for((folder / 'ended').exists)
    assert (folder / 'ended').read_text() == 'by a signal'
  finally:
    starter.kill()
    starter.wait()


def test_what_does_not_stop_is_killed(tmp_path, monkeypatch):
  (tmp_path / 'deaf.py').write_text(_DEAF)
  monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=':')
  process = processes.RunProcess('deaf', [], str(tmp_path / 'run'))
  _wait_for(lambda: process.last_lines() == 'deaf')
  process.stop()
  assert process.wait_or_kill(0.2) == -signal.SIGKILL
