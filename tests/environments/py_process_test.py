"""Calls of py_process: what passes both ways, and the errors that come back."""

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import structs
from impala_tf.environments import process_group, py_process
from tests.support.hosted import LARGE, Hosted, operation

# Calls.


def test_object_keeps_its_state_between_calls():
  with py_process.PyProcess(Hosted, 1) as process:
    assert process.call('increment') is None
    assert process.call('add', 2) == 4


def test_operations_have_static_shapes_and_keep_state():
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


def test_specs_depend_on_the_arguments_of_the_call():
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


def test_nests_and_strings_pass_both_ways():
  with py_process.PyProcess(Hosted) as process:
    observation = structs.Observation(tf.constant([1, 2], tf.uint8), tf.constant('here'))
    answer = tf.function(lambda o, name: operation(process, 'greet', o, name))(
      observation, tf.constant('you')
    )
    np.testing.assert_array_equal(answer.frame, [2, 1])
    assert answer.instruction.numpy() == b'hello you from here'


def test_one_trace_calls_the_process_of_the_index():
  with process_group.ProcessGroup(
    [py_process.PyProcess(Hosted, 10 * i) for i in range(3)]
  ) as group:
    traces = []

    @tf.function
    def add(index, number):
      traces.append(index)
      return group.call(index, 'add', number)

    assert [add(tf.constant(i), tf.constant(1)).numpy() for i in (0, 1, 2, 1)] == [1, 11, 21, 11]
    assert len(traces) == 1
    assert len(group) == 3
    assert group[2].call('add', 0) == 20


def test_group_refuses_different_specs():
  with (
    process_group.ProcessGroup([py_process.PyProcess(Hosted, shape=(i,)) for i in (1, 2)]) as group,
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
def test_result_that_is_not_as_its_specs_is_an_error(method, message):
  with (
    py_process.PyProcess(Hosted) as process,
    pytest.raises(tf.errors.InvalidArgumentError, match=message),
  ):
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
  processes = [
    py_process.PyProcess(Hosted, closed_file=closed),
    py_process.PyProcess(Hosted, error='bad luck'),
  ]
  with pytest.raises(
    py_process.ProcessError, match=r'ValueError: bad luck(.|\n)*raise ValueError\(error\)'
  ):
    py_process.start_all(processes)
  assert closed.exists()
  assert processes[0].pid is None


def test_method_error_arrives_with_traceback_and_the_object_lives_on():
  with py_process.PyProcess(Hosted, 1) as process:
    with pytest.raises(
      py_process.ProcessError, match=r'Hosted.fail raised(.|\n)*no such luck(.|\n)*in fail'
    ):
      process.call('fail')
    assert process.call('add', 1) == 2


def test_method_error_keeps_its_message_in_an_operation():
  with (
    py_process.PyProcess(Hosted) as process,
    pytest.raises(tf.errors.UnknownError, match='no such luck'),
  ):
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
