"""How commands start runs, restart them and end them."""

import os
import signal
import subprocess
import sys

import pytest

from impala_tf.system import locks, processes
from tests.support.children import Scripted, script
from tests.support.clock import Clock
from tests.support.processes import ROOT, wait_until

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


@pytest.fixture
def runner(tmp_path, monkeypatch):
  (tmp_path / 'waiting_runner.py').write_text(_RUNNER)
  monkeypatch.setenv('PYTHONPATH', f'{tmp_path}:{ROOT}')
  return 'waiting_runner'


def test_a_process_stops_when_asked_and_holds_its_folder_meanwhile(tmp_path, runner):
  folder = tmp_path / 'run'
  process = processes.RunProcess(runner, ['--a=1'], str(folder))
  try:
    wait_until((folder / 'began').exists)
    with pytest.raises(locks.FolderBusyError):
      processes.RunProcess(runner, [], str(folder))
    assert process.poll() is None
    process.stop()
    assert process.wait_or_kill(60) == 143
    assert "arguments ['--a=1']" in process.last_lines()
    again = processes.RunProcess(runner, [], str(folder))
    again.stop()
    again.wait_or_kill(60)
    assert "arguments ['--a=1']" in again.last_lines()  # What the first said is kept.
  finally:
    process.stop()


def test_a_process_ends_when_its_starter_is_killed(tmp_path, runner):
  folder = tmp_path / 'run'
  program = (
    'import sys, time; from impala_tf.system import processes; '
    'run = processes.RunProcess(sys.argv[1], [], sys.argv[2]); time.sleep(60)'
  )
  starter = subprocess.Popen([sys.executable, '-c', program, runner, str(folder)])
  try:
    wait_until((folder / 'began').exists)
    os.kill(starter.pid, signal.SIGKILL)
    wait_until((folder / 'ended').exists)
    assert (folder / 'ended').read_text() == 'by a signal'
  finally:
    starter.kill()
    starter.wait()


def test_what_does_not_stop_is_killed(tmp_path, monkeypatch):
  (tmp_path / 'deaf.py').write_text(_DEAF)
  monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=':')
  process = processes.RunProcess('deaf', [], str(tmp_path / 'run'))
  wait_until(lambda: process.last_lines() == 'deaf')
  process.stop()
  assert process.wait_or_kill(0.2) == -signal.SIGKILL


def test_what_outlives_its_starter_is_killed(tmp_path):
  (tmp_path / 'deaf.py').write_text(_DEAF)
  program = (
    'import sys; from impala_tf.system import processes; processes.STOP_SECONDS = 0.5; '
    f'sys.path.append({str(tmp_path)!r}); sys.argv = ["processes", "deaf"]; processes._main()'
  )
  with subprocess.Popen(
    [sys.executable, '-c', program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
  ) as orphan:
    assert orphan.stdout.readline() == b'deaf\n'
    orphan.stdin.close()
    assert orphan.wait(60) == -signal.SIGKILL


@pytest.fixture
def clock(monkeypatch):
  clock = Clock(0.0)
  monkeypatch.setattr(processes, 'time', clock)
  monkeypatch.setattr(processes, 'POLL_SECONDS', 0.25)  # Which floats have.
  return clock


def test_children_are_yielded_as_they_end(clock):
  with processes.Supervisor(False) as children:
    children.start('a', script(clock, (20, 0))[0])
    children.start('b', script(clock, (10, 3))[0])
    ends = [(clock.now, ended) for ended in children.ends()]
    assert ends == [(10, ('b', 3, 'the last lines', 0)), (20, ('a', 0, 'the last lines', 0))]
    assert str(ends[0][1]) == 'b ended with exit code 3:\nthe last lines'


@pytest.mark.parametrize('code', [-signal.SIGKILL, 128 + signal.SIGTERM])
def test_a_child_that_a_signal_ended_is_restarted(clock, code, capsys):
  start, started = script(clock, (10, code), (5, 0))
  with processes.Supervisor(False) as children:
    children.start('a', start)
    assert [ended.code for ended in children.ends()] == [0]
  assert started == [0, 11]  # Not at once.
  assert 'a was killed by SIG' in capsys.readouterr().out


def test_a_child_that_is_killed_again_and_again_is_given_up(clock):
  start, started = script(clock, *[(10, -signal.SIGKILL)] * 5)
  with processes.Supervisor(False) as children:
    children.start('a', start)
    (ended,) = children.ends()
  assert ended.code == -signal.SIGKILL
  assert 'killed by SIGKILL 3 times in a row' in ended.message
  assert len(started) == 3


def test_a_child_that_lived_for_a_while_may_be_killed_again(clock):
  lives = [10, 10, 2 * processes.SOUND_SECONDS, 10, 10, 10, 10]
  start, started = script(clock, *[(seconds, -signal.SIGKILL) for seconds in lives])
  with processes.Supervisor(False) as children:
    children.start('a', start)
    assert len(list(children.ends())) == 1
  assert len(started) == 6


def test_how_long_a_sound_child_lives_can_be_chosen(clock):
  start, started = script(clock, *[(30, -signal.SIGKILL)] * 5, (30, 0))
  with processes.Supervisor(False, sound_seconds=20.0) as children:
    children.start('a', start)
    assert [ended.code for ended in children.ends()] == [0]
  assert len(started) == 6


@pytest.mark.parametrize(
  ('seconds', 'before', 'kills'), [(10, 0, 1), (10, 2, 3), (2 * processes.SOUND_SECONDS, 2, 0)]
)
def test_without_restarts_a_killed_child_has_ended(clock, seconds, before, kills):
  with processes.Supervisor(False, restart=False) as children:
    children.start('a', script(clock, (seconds, -signal.SIGKILL))[0], before)
    (ended,) = children.ends()
  assert (ended.code, ended.kills) == (-signal.SIGKILL, kills)
  assert ('3 times in a row' in ended.message) == (kills == 3)


def test_a_child_that_was_asked_to_stop_is_not_restarted(clock):
  with processes.Supervisor(False) as children:
    children.start('a', script(clock, (99, 0))[0])
    children.stop('a')
    assert [ended.code for ended in children.ends()] == [143]


def test_a_child_starts_once_its_folder_is_free(clock):
  start, started = script(clock, *[locks.FolderBusyError] * 50, (5, 0))
  with processes.Supervisor(False) as children:
    children.start('a', start)
    assert children.process('a') is None
    assert [ended.code for ended in children.ends()] == [0]
  assert len(started) == 1


def test_a_folder_that_stays_busy_ends_the_waiting(clock):
  start, _ = script(clock, *[locks.FolderBusyError] * 100_000)
  with processes.Supervisor(False) as children:
    children.start('a', start)
    (ended,) = children.ends()
  assert str(ended) == 'a was not started:\nAnother process trains in here.'
  assert processes.STOP_SECONDS < clock.now < processes.STOP_SECONDS + 2


def test_a_stop_ends_the_watching_and_starts_nothing(clock):
  start, started = script(clock, (99, 0), (99, 0))
  stop = []
  with processes.Supervisor(stop) as children:
    children.start('a', start)
    stop.append('now')
    children.start('b', start)
    assert list(children.ends()) == []
    assert children.stop_all() == [('a', 143, 'the last lines', 0), ('b', None, '', 0)]
  assert started == [0]


def test_the_watching_may_last_for_so_many_seconds(clock):
  with processes.Supervisor(False) as children:
    children.start('a', script(clock, (99, 0))[0])
    assert list(children.ends(seconds=10)) == []
    assert 10 <= clock.now < 11


def test_all_are_asked_to_stop_before_the_first_is_waited_for(clock, monkeypatch):
  tape = []
  monkeypatch.setattr(Scripted, 'stop', lambda self: tape.append('stop'))
  monkeypatch.setattr(Scripted, 'wait_or_kill', lambda self, seconds: tape.append(seconds))
  with processes.Supervisor(False) as children:
    for name in ('a', 'b'):
      children.start(name, script(clock, (99, 0))[0])
  assert tape == ['stop', 'stop', processes.STOP_SECONDS, processes.STOP_SECONDS]


def test_a_real_child_is_killed_restarted_and_stopped(tmp_path, runner):
  folder = tmp_path / 'run'
  with processes.Supervisor(False) as children:
    children.start('a', lambda: processes.RunProcess(runner, [], str(folder)))
    wait_until((folder / 'began').exists)
    first = children.process('a').pid
    os.kill(first, signal.SIGKILL)
    (folder / 'began').unlink()
    wait_until(lambda: not children.poll() and (folder / 'began').exists())
    assert children.process('a').pid != first
  assert (folder / 'ended').read_text() == 'by a signal'


def test_lines_that_a_child_prints_are_shown(tmp_path, monkeypatch):
  (tmp_path / 'talking.py').write_text('print("one"); print("two", end="")')
  monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=':')
  shown = []
  assert processes.Child('talking', [], show=shown.append).wait_or_kill(60) == 0
  assert shown == ['one', 'two']


def test_a_process_has_the_variables_that_it_is_given(tmp_path, monkeypatch):
  (tmp_path / 'printing_runner.py').write_text(
    "import os; print(os.environ['ONE'], os.environ['TWO'], flush=True)"
  )
  monkeypatch.setenv('PYTHONPATH', f'{tmp_path}:{ROOT}')
  monkeypatch.setenv('ONE', 'mine')
  monkeypatch.setenv('TWO', 'mine')
  process = processes.RunProcess(
    'printing_runner', [], str(tmp_path / 'run'), environment={'TWO': 'its own'}
  )
  process.wait_or_kill(60)
  assert process.last_lines().splitlines()[-1] == 'mine its own'
