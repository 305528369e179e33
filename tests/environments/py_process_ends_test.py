"""Ends of py_process: processes that are killed, closed or forgotten, and programs that end around
them.
"""

import gc
import multiprocessing.forkserver
import os
import signal
import threading

import numpy as np
import psutil
import pytest
import tensorflow as tf

from impala_tf import structs
from impala_tf.environments import operations, py_process
from tests.support.hosted import Hosted, Thread, is_alive, run_script
from tests.support.processes import wait_until


def operation(process, *call):
  """A call as `process_group` makes an operation of it."""
  return tf.function(lambda: tf.numpy_function(lambda: process.call(*call), [], tf.string))


# Death.


def test_killed_process_is_noticed_by_the_call_that_waits(tmp_path):
  with py_process.PyProcess(Hosted) as process:
    started = tmp_path / 'started'
    thread = Thread(operation(process, 'block', started))
    wait_until(started.exists)
    pid = process.pid
    os.kill(pid, signal.SIGKILL)
    error = thread.finish().error
    assert isinstance(error, tf.errors.UnknownError)
    assert f'Process {pid} of Hosted was killed by SIGKILL during block' in str(error)


def test_process_that_ended_is_noticed_by_the_next_call():
  with py_process.PyProcess(Hosted) as process:
    with pytest.raises(py_process.ProcessError, match='exit code 3 during end'):
      process.call('end', 3)
    with pytest.raises(py_process.ProcessError, match='exit code 3 during add'):
      process.call('add', 1)


def test_dead_process_can_be_started_anew():
  with py_process.PyProcess(Hosted, 1) as process:
    process.call('increment')
    first = process.pid
    os.kill(first, signal.SIGKILL)
    process.start()
    assert process.pid != first
    assert process.call('add', 1) == 2
  process.start()
  assert process.call('add', 1) == 2
  process.close()


def test_interrupted_call_does_not_leave_its_answer_to_the_next(tmp_path):
  started, until = tmp_path / 'started', tmp_path / 'until'
  with py_process.PyProcess(Hosted) as process:

    def interrupt():
      wait_until(started.exists)
      signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = Thread(interrupt)
    with pytest.raises(KeyboardInterrupt):
      process.call('block', started, until)
    thread.finish()
    until.touch()
    with pytest.raises(py_process.ProcessError, match='SIGKILL'):
      process.call('add', 1)


def test_signals_to_the_whole_process_group_do_not_end_it():
  with py_process.PyProcess(Hosted, 1) as process:
    server = psutil.Process(process.pid).ppid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
      os.kill(process.pid, number)
      os.kill(server, number)
    assert process.call('add', 1) == 2
    assert psutil.Process(process.pid).ppid() == server


def test_a_program_that_an_environment_starts_can_be_ended():
  with py_process.PyProcess(Hosted) as process:
    assert process.call('blocked_signals') == set()
    assert process.call('end_a_program') == -signal.SIGTERM


def test_a_process_that_an_environment_forks_hides_no_end_and_can_be_ended():
  with py_process.PyProcess(Hosted) as process:
    child = process.call('fork', 60)
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(py_process.ProcessError, match='SIGKILL'):
      process.call('add', 1)
    assert is_alive(child)
    os.kill(child, signal.SIGTERM)
    wait_until(lambda: not is_alive(child))


def test_death_of_the_server_that_forks_is_survived(tmp_path):
  closed = tmp_path / 'closed'
  with py_process.PyProcess(Hosted, 1, closed_file=closed) as process:
    pid = process.pid
    os.kill(multiprocessing.forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    assert process.call('add', 1) == 2
    process.close()
    assert closed.exists()
    wait_until(lambda: not is_alive(pid))
    process.start()
    assert process.call('add', 1) == 2


def test_that_the_server_died_is_said_of_a_process_that_dies_after_it():
  with py_process.PyProcess(Hosted) as process:
    server = multiprocessing.forkserver._forkserver._forkserver_pid
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: not py_process._is_running(server))
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(py_process.ProcessError, match='server'):
      process.call('add', 1)
    process.start()  # By another server.
    with pytest.raises(py_process.ProcessError, match='exit code 255'):
      process.call('end', 255)


# Closing.


def test_no_process_is_left_after_close():
  spec = structs.step_output_spec(())
  processes = [py_process.PyProcess(Hosted) for _ in range(3)]
  with operations.ProcessGroup(processes, spec, 1) as group:
    pids = [process.pid for process in group]
    assert all(map(is_alive, pids))
  assert not any(map(is_alive, pids))
  group.close()


def test_waiting_call_ends_cleanly_when_another_thread_closes(tmp_path):
  started = tmp_path / 'started'
  process = py_process.PyProcess(Hosted)
  process.start()
  pid = process.pid
  thread = Thread(operation(process, 'block', started))
  wait_until(started.exists)
  process.close(grace_seconds=0.01)
  assert isinstance(thread.finish().error, tf.errors.OutOfRangeError)
  assert not is_alive(pid)
  with pytest.raises(py_process.ProcessClosed, match='call start'):
    process.call('add', 1)


def test_waiting_call_may_finish_while_another_thread_closes(tmp_path):
  started, until, closed = tmp_path / 'started', tmp_path / 'until', tmp_path / 'closed'
  process = py_process.PyProcess(Hosted, closed_file=closed)
  process.start()
  call = Thread(lambda: process.call('block', started, until))
  wait_until(started.exists)
  close = Thread(lambda: process.close(grace_seconds=20))
  wait_until(lambda: process._closing)
  until.touch()
  assert call.finish().result == 'unblocked'
  close.finish()
  assert closed.exists()


def test_several_threads_may_close():
  process = py_process.PyProcess(Hosted)
  process.start()
  threads = [Thread(process.close) for _ in range(4)]
  assert [thread.finish().error for thread in threads] == [None] * 4


def test_forgotten_process_ends(tmp_path):
  closed = tmp_path / 'closed'
  process = py_process.PyProcess(Hosted, closed_file=closed)
  process.start()
  pid = process.pid
  del process
  gc.collect()
  assert closed.exists()
  assert not is_alive(pid)


def test_nothing_stays_open():
  def cycle():
    with py_process.PyProcess(Hosted) as process:
      process.call('both_ways', np.zeros(10_000))
    del process
    gc.collect()
    return len(os.listdir('/proc/self/fd'))

  cycle()
  before = cycle()
  cycle()
  assert cycle() == before


# Programs.


def test_children_share_the_modules_that_their_server_imported(tmp_path):
  script = """
import sys
from impala_tf.environments import py_process
from tests.support.hosted import Hosted
py_process.preload(['colorsys', 'no_such_module'])
with py_process.PyProcess(Hosted) as process:
  print('colorsys' in process.call('modules'), 'colorsys' in sys.modules)
"""
  assert run_script(tmp_path, script).communicate(timeout=60)[0].split() == ['True', 'False']


def test_child_imports_neither_tensorflow_nor_the_main_module(tmp_path):
  with py_process.PyProcess(Hosted) as process:
    modules = process.call('modules')
  assert 'impala_tf.environments.base' in modules
  assert 'tensorflow' not in modules
  script = """
import colorsys  # stands for what is expensive to import
from impala_tf.environments import py_process
class Mine:
  def answer(self): return 42
if __name__ == '__main__':
  from tests.support.hosted import Hosted
  with py_process.PyProcess(Hosted) as theirs, py_process.PyProcess(Mine) as mine:
    print('colorsys' in theirs.call('modules'), mine.call('answer'), __spec__, __file__)
"""
  process = run_script(tmp_path, script)
  output, _ = process.communicate()
  assert output.split() == ['False', '42', 'None', str(tmp_path / 'script.py')]


def test_a_folder_for_temporary_files_of_a_long_name_will_do(tmp_path, monkeypatch):
  long = tmp_path / ('x' * 80)
  long.mkdir()
  monkeypatch.setenv('TMPDIR', str(long))
  script = """
import tempfile
from impala_tf.environments import py_process
from tests.support.hosted import Hosted
with py_process.PyProcess(Hosted, 1) as process:
  print(process.call('add', 1), tempfile.gettempdir())
"""
  output, _ = run_script(tmp_path, script).communicate(timeout=60)
  assert output.split() == ['2', str(long)]
  assert not list(long.iterdir())


@pytest.mark.parametrize(('given', 'printed'), [(None, '1 None'), ('3', '3 3')])
def test_a_process_has_one_thread_for_linear_algebra_unless_the_user_says_so(
  tmp_path, monkeypatch, given, printed
):
  monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
  if given:
    monkeypatch.setenv('OMP_NUM_THREADS', given)
  script = """
import os
from impala_tf.environments import py_process
from tests.support.hosted import Hosted
with py_process.PyProcess(Hosted) as process:
  print(process.call('variable', 'OMP_NUM_THREADS'), os.environ.get('OMP_NUM_THREADS'))
"""
  output, _ = run_script(tmp_path, script).communicate(timeout=60)
  assert output.strip() == printed


def test_program_that_does_not_close_ends(tmp_path):
  script = f"""
from impala_tf import structs
from impala_tf.environments import operations, py_process
from tests.support.hosted import Hosted
if __name__ == '__main__':
  process = py_process.PyProcess(Hosted, closed_file={str(tmp_path / 'closed')!r})
  process.start()
"""
  process = run_script(tmp_path, script)
  process.communicate(timeout=60)
  assert process.returncode == 0
  assert (tmp_path / 'closed').exists()


def test_killed_program_leaves_no_process(tmp_path):
  script = f"""
import threading
from impala_tf import structs
from impala_tf.environments import operations, py_process
from tests.support.hosted import Hosted
if __name__ == '__main__':
  idle = py_process.PyProcess(Hosted, closed_file={str(tmp_path / 'closed')!r})
  busy = py_process.PyProcess(Hosted)
  py_process.start_all([idle, busy])
  print(idle.pid, busy.pid, flush=True)
  busy.call('block', {str(tmp_path / 'started')!r})
"""
  process = run_script(tmp_path, script)
  pids = [int(pid) for pid in process.stdout.readline().split()]
  wait_until((tmp_path / 'started').exists)
  assert all(map(is_alive, pids))
  process.kill()
  process.communicate()
  wait_until(lambda: not any(map(is_alive, pids)))
  assert (tmp_path / 'closed').exists()
