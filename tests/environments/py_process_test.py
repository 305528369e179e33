"""Calls of py_process: what passes both ways, and the errors that come back."""

import numpy as np
import pytest

from impala_tf.environments import py_process
from tests.support.hosted import Hosted

# Calls.


def test_object_keeps_its_state_between_calls():
  with py_process.PyProcess(Hosted, 1) as process:
    assert process.call('increment') is None
    assert process.call('add', 2) == 4


@pytest.mark.parametrize('size', [0, 100, 10_000_000])
def test_arrays_of_any_size_arrive(size):
  values = (np.arange(size) % 251).astype(np.uint8)
  with py_process.PyProcess(Hosted) as process:
    same, reverse, text = process.call('both_ways', values)
    np.testing.assert_array_equal(same, values)
    np.testing.assert_array_equal(reverse, values[::-1])
    assert text == 'both'


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
