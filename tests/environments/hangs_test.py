"""Processes of environments that hang: when they are named, when they are killed, and what
follows."""

import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import threading
import time

import numpy as np
import psutil
import pytest

from impala_tf.environments import hangs, process_group, py_process
from impala_tf.system import timing
from tests.support import catch, frail
from tests.support.clock import Clock
from tests.support.processes import wait_until

STAY = np.ones(3, np.int32)


class Process:
  """Is at what it is told to be, and writes down why it was killed."""

  def __init__(self, activity=None):
    self.is_at = activity
    self.reasons = []

  def activity(self):
    return self.is_at

  def kill(self, pid, reason):
    assert pid == self.is_at.pid
    self.reasons.append(reason)

  def describe(self, environment):
    return f'environment {environment} of {("pong", "qbert")[environment]}'


@pytest.fixture
def clock():
  return Clock()


NOBODY = 2**30  # No process has such an id.
STEP = hangs.Activity(pid=NOBODY, method='step', calls=7, reports=3, environment=1)


def pass_time(watch, clock, seconds):
  for _ in range(int(seconds)):
    clock.now += 1
    watch.look()


def test_a_process_that_hangs_is_named_once_and_then_killed(clock, new_warnings):
  hanging, idle = Process(STEP), Process()
  watch = hangs.HangWatch([idle, hanging], 120.0, 600.0, clock)
  watch.look()
  pass_time(watch, clock, 119)
  assert new_warnings() == []
  pass_time(watch, clock, 1)
  (said,) = new_warnings()
  assert 'environment 1 of qbert' in said
  pass_time(watch, clock, 479)
  assert new_warnings() == hanging.reasons == []
  pass_time(watch, clock, 1)
  assert ['600 s' in reason for reason in hanging.reasons] == [True]
  assert idle.reasons == []


@pytest.mark.parametrize(
  'later',
  [STEP._replace(reports=4), STEP._replace(calls=8), STEP._replace(pid=NOBODY + 1), None],
  ids=['an environment has finished', 'the next call', 'another process', 'idle'],
)
def test_a_process_that_does_something_now_and_then_does_not_hang(clock, new_warnings, later):
  process = Process(STEP)
  watch = hangs.HangWatch([process], 120.0, 600.0, clock)
  for _ in range(20):
    for process.is_at in (STEP, later):
      pass_time(watch, clock, 119)
  assert new_warnings() == process.reasons == []


@pytest.mark.parametrize('method', ['__init__', 'initial'])
def test_a_start_may_take_longer(clock, new_warnings, method):
  process = Process(STEP._replace(method=method))
  watch = hangs.HangWatch([process], 120.0, 600.0, clock)
  watch.look()
  pass_time(watch, clock, 5 * 120 - 1)
  assert new_warnings() == []
  pass_time(watch, clock, 1)
  assert len(new_warnings()) == 1
  pass_time(watch, clock, 4 * 600 - 1)
  assert process.reasons == []
  pass_time(watch, clock, 1)
  assert len(process.reasons) == 1


def test_time_without_a_core_does_not_count(clock, new_warnings, monkeypatch):
  process = Process(STEP)
  waits = lambda pid, children: {pid: 0.9 * (clock.now - 100.0)}
  monkeypatch.setattr(hangs, '_waits_for_core', waits)
  watch = hangs.HangWatch([process], 120.0, 600.0, clock)
  watch.look()
  pass_time(watch, clock, 1190)
  assert new_warnings() == []
  pass_time(watch, clock, 20)
  assert len(new_warnings()) == 1


def set_waits(folder, pid, *seconds, parent):
  """Files of a process: its parent, and its threads with the seconds that each has waited."""
  for number, waited in enumerate(seconds):
    thread = folder / str(pid) / 'task' / str(pid + number)
    thread.mkdir(parents=True, exist_ok=True)
    # Nanoseconds with a core and without, and turns.
    (thread / 'schedstat').write_text(f'7000000000 {waited * 10**9:.0f} 9\n')
  (folder / str(pid) / 'stat').write_text(f'{pid} (a (b) c) S {parent} 7 7 0')


def test_the_time_without_a_core_is_that_of_all_threads_and_descendants(tmp_path, monkeypatch):
  monkeypatch.setattr(hangs, '_PROC', str(tmp_path))
  set_waits(tmp_path, 10, 1.5, 2.5, parent=1)
  set_waits(tmp_path, 20, 3.5, parent=10)
  set_waits(tmp_path, 30, 4.5, parent=20)
  set_waits(tmp_path, 50, 9.0, parent=1)
  (tmp_path / '70').mkdir()  # It has ended.
  (tmp_path / 'uptime').touch()
  children = hangs._children()
  assert hangs._waits_for_core(10, children) == {10: 1.5, 11: 2.5, 20: 3.5, 30: 4.5}
  assert hangs._waits_for_core(70, children) == hangs._waits_for_core(60, children) == {}
  monkeypatch.setattr(hangs, '_PROC', str(tmp_path / 'nothing'))
  assert hangs._children() == {}
  monkeypatch.undo()
  assert os.getpid() in hangs._children()[os.getppid()]


def test_waiting_of_programs_that_a_process_runs_does_not_count(
  clock, new_warnings, tmp_path, monkeypatch
):
  monkeypatch.setattr(hangs, '_PROC', str(tmp_path))
  process = Process(STEP._replace(pid=10))
  watch = hangs.HangWatch([process], 120.0, 600.0, clock)
  # A program that it always has waited long before, and one that has ended still counts.
  set_waits(tmp_path, 10, 0.0, parent=1)
  set_waits(tmp_path, 20, 1000.0, parent=10)
  watch.look()
  pass_time(watch, clock, 1)
  for compiler in (30, 50):
    for second in range(1, 301):
      # Of two threads that wait at once, that of one counts.
      set_waits(tmp_path, compiler, second, 0.8 * second, parent=10)
      pass_time(watch, clock, 1)
    shutil.rmtree(tmp_path / str(compiler))
  assert new_warnings() == []
  pass_time(watch, clock, 110)
  assert new_warnings() == []
  pass_time(watch, clock, 20)
  assert len(new_warnings()) == 1


def test_many_threads_that_wait_a_little_hide_no_hang(clock, new_warnings, tmp_path, monkeypatch):
  monkeypatch.setattr(hangs, '_PROC', str(tmp_path))
  process = Process(STEP._replace(pid=10))
  watch = hangs.HangWatch([process], 120.0, 600.0, clock)
  set_waits(tmp_path, 10, 0.0, parent=1)
  for second in range(0, 650, 5):
    set_waits(tmp_path, 20, *[0.05 * second] * 30, parent=10)
    watch.look()
    clock.now += 5
  assert len(new_warnings()) == 1
  assert process.reasons


class Compiling:
  """Is busy with another program, as an engine that compiles a map."""

  def __init__(self):
    self._program = subprocess.Popen(['sleep', '1000'])

  def program(self):
    return self._program.pid

  def wait(self):
    self._program.wait()


def test_programs_of_a_process_are_killed_with_it():
  with py_process.PyProcess(Compiling) as process:
    program = process.call('program')
    process.kill(process.pid, 'hung')
    with pytest.raises(py_process.ProcessError, match='hung'):
      process.call('wait')
    wait_until(lambda: not is_running(program), 'the end of the program')


def is_running(pid):
  try:
    return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
  except psutil.NoSuchProcess:
    return False


def make(suite, levels, **changes):
  config = dataclasses.replace(catch.CONFIG, **changes)
  return process_group.make_environments(
    suite, config, [[level] * 3 for level in levels], False, [1, 1], timing.StageTimer()
  )


def test_a_stopped_process_is_replaced_while_the_others_play(new_warnings):
  levels = ['catch', 'slow_catch']
  with make(catch.CatchSuite(), levels, hang_warning=1.0, hang_timeout=4.0) as group:
    for process in group:
      process.initial()
    stopped = group[0].pid
    os.kill(stopped, signal.SIGSTOP)
    outputs = []
    thread = threading.Thread(target=lambda: outputs.append(group[0].step(1, STAY)))
    thread.start()
    steps, deadline = 0, time.monotonic() + 120
    while thread.is_alive() and time.monotonic() < deadline:
      group[1].step(1, STAY)
      steps += 1
    assert outputs[0].done.all()
    assert not outputs[0].info.finished.any()
    assert steps > 10
    assert [process.restarts for process in group] == [1, 0]
    assert group[0].pid != stopped
    with pytest.raises(ProcessLookupError):
      os.kill(stopped, 0)
    assert group[0].step(2, STAY).info.episode_steps.tolist() == [1] * 3
  messages = new_warnings()
  # On a busy machine the other one may be late, too.
  (hanging,) = (text for text in messages if f'Process {stopped} seems to hang' in text)
  assert 'of catch ' in hanging
  (restarted,) = (text for text in messages if 'is restarted' in text)
  assert f'{stopped} of HostedBatch did not finish step' in restarted


def test_the_watch_ends_with_the_processes():
  with make(catch.CatchSuite(), ['catch']) as group:
    thread = group._hang_watch._thread
    assert thread.is_alive()
  wait_until(lambda: not thread.is_alive(), 'the end of the watch')


def test_an_environment_that_always_hangs_is_given_up(tmp_path):
  suite = frail.FrailSuite(tmp_path, 'stuck', 2)
  with make(suite, ['catch'], hang_warning=0.5, hang_timeout=1.0) as group:
    group[0].initial()
    steps = lambda: [group[0].step(1, STAY) for _ in range(100)]
    with pytest.raises(py_process.ProcessError, match='did not finish'):
      steps()
    assert group.restarts == 3


def test_what_a_process_is_at_can_be_seen(tmp_path):
  with make(frail.FrailSuite(tmp_path, 'stuck', 1), ['catch']) as group:
    assert group[0].activity() is None
    group[0].initial()
    group[0].step(1, STAY)

    def step():
      with contextlib.suppress(py_process.ProcessClosed):
        group[0].step(2, STAY)

    threading.Thread(target=step, daemon=True).start()
    wait_until(lambda: group[0].activity() is not None, 'the call')
    wait_until(lambda: group[0].activity().environment == 0, 'the first environment')
    seen = group[0].activity()
    assert (seen.pid, seen.method) == (group[0].pid, 'step')
    # Each of three environments was made, reset and stepped; the first is at its next step.
    assert seen.reports == 3 + 3 + 3 + 1
    # Another one is spared.
    group[0].kill(seen.pid + 1, 'was late')
    assert group[0].activity() == seen
