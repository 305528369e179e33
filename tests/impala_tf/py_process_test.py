"""Tests of py_process. TensorFlow is imported by the tests that need it, as the hosted classes here must not."""

import gc
import multiprocessing.forkserver
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from impala_tf import py_process, structs

ROOT = pathlib.Path(__file__).resolve().parents[2]
LARGE = 10 * 1024 * 1024  # bytes; the shared block holds one such array, not two


class Hosted:
  """Counts, and does what the tests ask for; leaves a file when it is closed."""

  def __init__(self, value=0, *, closed_file=None, shape=(1,), error=None):
    if error:
      raise ValueError(error)
    self._value = value
    self._closed_file = closed_file
    self._shape = shape

  def tensor_specs(self, method, *args):
    """Depends on the constructor's arguments (`full`), on constants (`zeros`) and on tensors (`twice`) of the call."""
    vector = lambda dtype: structs.ArraySpec((2,), dtype)
    specs = {
      'add': lambda: structs.ArraySpec((), np.int32),
      'full': lambda: structs.ArraySpec(self._shape, np.float32),
      'zeros': lambda: structs.ArraySpec((1, *args), np.float32),
      'twice': lambda: args[0],
      'greet': lambda: structs.Observation(vector(np.uint8), structs.ArraySpec((), np.bytes_)),
      'wrong_dtype': lambda: vector(np.float32),
      'wrong_shape': lambda: structs.ArraySpec((3,), np.int64),
      'wrong_rank': lambda: structs.ArraySpec((2, 1), np.int64),
      'wrong_number': lambda: (vector(np.int64), vector(np.int64)),
    }
    return specs[method]() if method in specs else None

  def increment(self):
    self._value += 1

  def add(self, number):
    return np.int32(self._value + number)

  def full(self):
    return np.full(self._shape, 7, np.float32)

  def zeros(self, *shape):
    return np.zeros((1, *shape), np.float32)

  def twice(self, array):
    return 2 * array

  def both_ways(self, array):
    return array, array[::-1].copy(), 'both'

  def greet(self, observation, name):
    return structs.Observation(observation.frame[::-1], b'hello ' + name + b' from ' + observation.instruction)

  def wrong(self):
    return np.zeros(2, np.int64)

  wrong_dtype = wrong_shape = wrong_rank = wrong_number = wrong

  def fail(self):
    raise KeyError('no such luck')

  def unsendable(self):
    return threading.Lock()

  def end(self, code):
    os._exit(code)

  def block(self, started_file, until_file=None):
    pathlib.Path(started_file).touch()
    while until_file is None or not pathlib.Path(until_file).exists():
      time.sleep(0.005)
    return 'unblocked'

  def modules(self):
    return sorted(sys.modules)

  def close(self):
    if self._closed_file:
      pathlib.Path(self._closed_file).touch()


@pytest.fixture
def tf():
  """TensorFlow."""
  import tensorflow

  return tensorflow


def operation(process, method, *args):
  """A method of one process's object as an operation."""
  return py_process.ProcessGroup([process]).call(0, method, *args)


def _wait_for(condition):
  """Returns once the condition holds; a test whose condition never comes is ended by the failure below."""
  for _ in range(3000):
    if condition():
      return
    time.sleep(0.005)
  pytest.fail('waited in vain')


def _is_alive(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  return True


class _Thread(threading.Thread):
  """Runs a function and keeps its result or exception."""

  def __init__(self, function):
    super().__init__(daemon=True)
    self._function = function
    self.result = self.error = None
    self.start()

  def run(self):
    try:
      self.result = self._function()
    except BaseException as error:
      self.error = error

  def finish(self):
    self.join(20)
    assert not self.is_alive(), 'the thread hangs'
    return self


def _run_script(tmp_path, text):
  """Starts a Python program, with a main module of its own, that can import this project."""
  path = tmp_path / 'script.py'
  path.write_text(text)
  environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
  return subprocess.Popen([sys.executable, str(path)], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)


# Calls.


def test_object_keeps_its_state_between_calls():
  with py_process.PyProcess(Hosted, 1) as process:
    assert process.call('increment') is None
    assert process.call('add', 2) == 4


def test_operations_have_static_shapes_and_keep_state(tf):
  with py_process.PyProcess(Hosted, 1, shape=(2, 3)) as process:

    @tf.function
    def run():
      assert operation(process, 'increment') is None
      full = operation(process, 'full')
      assert full.shape == (2, 3)
      assert full.dtype == tf.float32
      return operation(process, 'add', tf.constant(2)), full

    total, full = run()
    assert total.numpy() == 4
    np.testing.assert_array_equal(full, np.full((2, 3), 7))


def test_specs_depend_on_the_arguments_of_the_call(tf):
  with py_process.PyProcess(Hosted) as process:

    @tf.function
    def run(tensor):
      zeros = operation(process, 'zeros', 2)  # a constant stays what it is
      twice = operation(process, 'twice', tensor)
      assert zeros.shape == (1, 2)
      assert twice.shape == (3,)
      assert twice.dtype == tf.int64
      return zeros, twice

    zeros, twice = run(tf.constant([1, 2, 3], tf.int64))
    np.testing.assert_array_equal(zeros, [[0, 0]])
    np.testing.assert_array_equal(twice, [2, 4, 6])


def test_nests_and_strings_pass_both_ways(tf):
  with py_process.PyProcess(Hosted) as process:
    observation = structs.Observation(tf.constant([1, 2], tf.uint8), tf.constant('here'))
    answer = tf.function(lambda o, name: operation(process, 'greet', o, name))(observation, tf.constant('you'))
    np.testing.assert_array_equal(answer.frame, [2, 1])
    assert answer.instruction.numpy() == b'hello you from here'


def test_one_trace_calls_the_process_of_the_index(tf):
  with py_process.ProcessGroup([py_process.PyProcess(Hosted, 10 * i) for i in range(3)]) as group:
    traces = []

    @tf.function
    def add(index, number):
      traces.append(index)
      return group.call(index, 'add', number)

    assert [add(tf.constant(i), tf.constant(1)).numpy() for i in (0, 1, 2, 1)] == [1, 11, 21, 11]
    assert len(traces) == 1
    assert len(group) == 3
    assert group[2].call('add', 0) == 20


def test_group_refuses_different_specs(tf):
  del tf
  with (
    py_process.ProcessGroup([py_process.PyProcess(Hosted, shape=(i,)) for i in (1, 2)]) as group,
    pytest.raises(ValueError, match=r'process 0 has .*\(1,\).*process 1 has .*\(2,\)'),
  ):
    group.call(0, 'full')


@pytest.mark.parametrize(
  ('method', 'message'),
  [
    ('wrong_dtype', r'int64 \(2,\) where its tensor_specs say .*float32'),
    ('wrong_shape', r'int64 \(2,\) where its tensor_specs say .*\(3,\)'),
    ('wrong_rank', r'int64 \(2,\) where its tensor_specs say .*\(2, 1\)'),
    ('wrong_number', '1 arrays, its tensor_specs say 2'),
  ],
)
def test_result_that_is_not_as_its_specs_is_an_error(tf, method, message):
  with py_process.PyProcess(Hosted) as process, pytest.raises(tf.errors.InvalidArgumentError, match=message):
    tf.function(lambda: operation(process, method))()


@pytest.mark.parametrize('size', [0, 100, 1_000_000, LARGE])
def test_arrays_of_any_size_arrive(size):
  values = (np.arange(size) % 251).astype(np.uint8)
  with py_process.PyProcess(Hosted) as process:
    same, reverse, text = process.call('both_ways', values)
    np.testing.assert_array_equal(same, values)
    np.testing.assert_array_equal(reverse, values[::-1])
    assert text == 'both'


def test_next_call_leaves_an_earlier_result_alone():
  with py_process.PyProcess(Hosted) as process:
    first = process.call('twice', np.ones(100_000))
    process.call('twice', np.zeros(100_000))
    assert first.min() == 2
    first[:] = 5  # and it may be written to


# Errors.


def test_constructor_error_arrives_and_the_others_are_closed(tmp_path):
  closed = tmp_path / 'closed'
  processes = [py_process.PyProcess(Hosted, closed_file=closed), py_process.PyProcess(Hosted, error='bad luck')]
  with pytest.raises(py_process.ProcessError, match=r'ValueError: bad luck(.|\n)*raise ValueError\(error\)'):
    py_process.start_all(processes)
  assert closed.exists()
  assert processes[0].pid is None


def test_method_error_arrives_with_traceback_and_the_object_lives_on():
  with py_process.PyProcess(Hosted, 1) as process:
    with pytest.raises(py_process.ProcessError, match=r'Hosted.fail raised(.|\n)*no such luck(.|\n)*in fail'):
      process.call('fail')
    assert process.call('add', 1) == 2


def test_method_error_keeps_its_message_in_an_operation(tf):
  with py_process.PyProcess(Hosted) as process, pytest.raises(tf.errors.UnknownError, match='no such luck'):
    tf.function(lambda: operation(process, 'fail'))()


def test_result_that_cannot_be_sent_is_an_error():
  with py_process.PyProcess(Hosted, 1) as process:
    with pytest.raises(py_process.ProcessError, match='pickle'):
      process.call('unsendable')
    assert process.call('add', 1) == 2


def test_close_is_called_also_after_an_error(tmp_path):
  for method in ('increment', 'fail'):
    closed = tmp_path / method
    with py_process.PyProcess(Hosted, closed_file=closed) as process:
      if method == 'fail':
        with pytest.raises(py_process.ProcessError):
          process.call(method)
      else:
        process.call(method)
      assert not closed.exists()
    assert closed.exists()


# Death.


def test_killed_process_is_noticed_by_the_call_that_waits(tf, tmp_path):
  with py_process.PyProcess(Hosted) as process:
    started = tmp_path / 'started'
    thread = _Thread(tf.function(lambda: operation(process, 'block', started)))
    _wait_for(started.exists)
    pid = process.pid
    os.kill(pid, signal.SIGKILL)
    error = thread.finish().error
    assert isinstance(error, tf.errors.UnknownError)
    assert f'Process {pid} of Hosted was killed by SIGKILL during block' in str(error)


def test_process_that_ended_is_noticed_by_the_next_call():
  with py_process.PyProcess(Hosted) as process:
    with pytest.raises(py_process.ProcessError, match='ended with exit code 3 during end'):
      process.call('end', 3)
    with pytest.raises(py_process.ProcessError, match='ended with exit code 3 during add'):
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
      _wait_for(started.exists)
      signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = _Thread(interrupt)
    with pytest.raises(KeyboardInterrupt):
      process.call('block', started, until)
    thread.finish()
    until.touch()
    with pytest.raises(py_process.ProcessError, match='SIGKILL'):
      process.call('add', 1)


def test_signals_to_the_whole_process_group_do_not_end_it():
  with py_process.PyProcess(Hosted, 1) as process:
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGTERM)
    assert process.call('add', 1) == 2


def test_death_of_the_server_that_forks_is_survived(tmp_path):
  closed = tmp_path / 'closed'
  with py_process.PyProcess(Hosted, 1, closed_file=closed) as process:
    pid = process.pid
    os.kill(multiprocessing.forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    assert process.call('add', 1) == 2
    process.close()
    assert closed.exists()
    _wait_for(lambda: not _is_alive(pid))
    process.start()
    assert process.call('add', 1) == 2


# Closing.


def test_no_process_is_left_after_close():
  with py_process.ProcessGroup([py_process.PyProcess(Hosted) for _ in range(3)]) as group:
    pids = [process.pid for process in group]
    assert all(map(_is_alive, pids))
  assert not any(map(_is_alive, pids))
  group.close()


def test_waiting_call_ends_cleanly_when_another_thread_closes(tf, tmp_path):
  started = tmp_path / 'started'
  process = py_process.PyProcess(Hosted)
  process.start()
  pid = process.pid
  thread = _Thread(tf.function(lambda: operation(process, 'block', started)))
  _wait_for(started.exists)
  process.close(grace_seconds=0.01)
  assert isinstance(thread.finish().error, tf.errors.OutOfRangeError)
  assert not _is_alive(pid)
  with pytest.raises(py_process.ProcessClosed, match='call start'):
    process.call('add', 1)


def test_waiting_call_may_finish_while_another_thread_closes(tmp_path):
  started, until, closed = tmp_path / 'started', tmp_path / 'until', tmp_path / 'closed'
  process = py_process.PyProcess(Hosted, closed_file=closed)
  process.start()
  call = _Thread(lambda: process.call('block', started, until))
  _wait_for(started.exists)
  close = _Thread(lambda: process.close(grace_seconds=20))
  _wait_for(lambda: process._closing)
  until.touch()
  assert call.finish().result == 'unblocked'
  close.finish()
  assert closed.exists()


def test_several_threads_may_close():
  process = py_process.PyProcess(Hosted)
  process.start()
  threads = [_Thread(process.close) for _ in range(4)]
  assert [thread.finish().error for thread in threads] == [None] * 4


def test_forgotten_process_ends(tmp_path):
  closed = tmp_path / 'closed'
  process = py_process.PyProcess(Hosted, closed_file=closed)
  process.start()
  pid = process.pid
  del process
  gc.collect()
  assert closed.exists()
  assert not _is_alive(pid)


def test_nothing_stays_open():
  def cycle():
    with py_process.PyProcess(Hosted) as process:
      process.call('twice', np.zeros(10_000))
    del process
    gc.collect()
    return len(os.listdir('/proc/self/fd'))

  cycle()
  before = cycle()
  cycle()
  assert cycle() == before


# Programs.


def test_child_imports_neither_tensorflow_nor_the_main_module(tf, tmp_path):
  del tf
  with py_process.PyProcess(Hosted) as process:
    modules = process.call('modules')
  assert 'impala_tf.environments' in modules
  assert 'tensorflow' not in modules
  script = """
import colorsys  # stands for what is expensive to import
from impala_tf import py_process
class Mine:
  def answer(self): return 42
if __name__ == '__main__':
  from tests.impala_tf.py_process_test import Hosted
  with py_process.PyProcess(Hosted) as theirs, py_process.PyProcess(Mine) as mine:
    print('colorsys' in theirs.call('modules'), mine.call('answer'), __spec__, __file__)
"""
  process = _run_script(tmp_path, script)
  output, _ = process.communicate()
  assert output.split() == ['False', '42', 'None', str(tmp_path / 'script.py')]


def test_program_that_does_not_close_ends(tmp_path):
  script = f"""
from impala_tf import py_process
from tests.impala_tf.py_process_test import Hosted
if __name__ == '__main__':
  process = py_process.PyProcess(Hosted, closed_file={str(tmp_path / 'closed')!r})
  process.start()
"""
  process = _run_script(tmp_path, script)
  process.communicate(timeout=60)
  assert process.returncode == 0
  assert (tmp_path / 'closed').exists()


def test_killed_program_leaves_no_process(tmp_path):
  script = f"""
import threading
from impala_tf import py_process
from tests.impala_tf.py_process_test import Hosted
if __name__ == '__main__':
  idle = py_process.PyProcess(Hosted, closed_file={str(tmp_path / 'closed')!r})
  busy = py_process.PyProcess(Hosted)
  py_process.start_all([idle, busy])
  print(idle.pid, busy.pid, flush=True)
  busy.call('block', {str(tmp_path / 'started')!r})
"""
  process = _run_script(tmp_path, script)
  pids = [int(pid) for pid in process.stdout.readline().split()]
  _wait_for((tmp_path / 'started').exists)
  assert all(map(_is_alive, pids))
  process.kill()
  process.communicate()
  _wait_for(lambda: not any(map(_is_alive, pids)))
  assert (tmp_path / 'closed').exists()
