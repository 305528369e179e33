"""Dynamic batching: who is computed with whom, limits, time-outs, errors and the end."""

import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.acting.dynamic_batching import DynamicBatcher

INTEGER = tf.TensorSpec([], tf.int32)


def size_seen(x):
  """Each row beside the size of the batch it was in."""
  return x + 1, tf.fill([tf.shape(x)[0]], tf.shape(x)[0])


class Callers:
  """Threads that each call a batcher with one row, and what came of it by row."""

  def __init__(self, batcher, rows):
    self.results, self.errors = {}, {}

    @tf.function(input_signature=[tf.TensorSpec([1], tf.int32)])
    def call(row):
      return batcher.call(row)

    call.get_concrete_function()

    def run(row):
      try:
        self.results[row] = [
          output.numpy().tolist() for output in tf.nest.flatten(call(tf.constant([row])))
        ]
      except tf.errors.OpError as error:
        self.errors[row] = error

    self._threads = [threading.Thread(target=run, args=(row,), daemon=True) for row in rows]
    for thread in self._threads:
      thread.start()

  def join(self):
    for thread in self._threads:
      thread.join(30)
      assert not thread.is_alive()
    return self


def wait_for(condition):
  deadline = time.monotonic() + 30
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.01)


def test_one_call_alone_in_nests():
  function = lambda nest, y: {'sum': nest['a'][0] + y, 'words': tf.strings.join([nest['b'], 'x'])}
  specs = [
    {'a': (tf.TensorSpec([2], tf.float32),), 'b': tf.TensorSpec([], tf.string)},
    tf.TensorSpec([2], tf.float32),
  ]
  with DynamicBatcher(function, specs) as batcher:

    @tf.function
    def call():
      return batcher.call(
        {'a': (tf.constant([[1.0, 2.0]]),), 'b': tf.constant(['go'])}, tf.constant([[10.0, 20.0]])
      )

    outputs = call()
  assert outputs['sum'].numpy().tolist() == [[11.0, 22.0]]
  assert outputs['words'].numpy().tolist() == [b'gox']
  assert outputs['sum'].shape == [1, 2]


def test_calls_that_wait_are_one_batch_and_each_gets_its_own_row():
  batcher = DynamicBatcher(size_seen, [INTEGER])
  callers = Callers(batcher, [3, 5])
  wait_for(lambda: len(batcher._waiting) == 2)
  with batcher:
    callers.join()
  assert callers.results == {3: [[4], [2]], 5: [[6], [2]]}


def test_rows_of_several_calls_keep_their_order():
  batcher = DynamicBatcher(size_seen, [INTEGER])
  found = {}

  def run(rows):
    found[rows] = [output.numpy().tolist() for output in batcher.call(tf.constant(rows))]

  threads = [threading.Thread(target=run, args=(rows,)) for rows in ((1, 2, 3), (10,), (20, 30))]
  for thread in threads:
    thread.start()
  wait_for(lambda: len(batcher._waiting) == 3)
  with batcher:
    for thread in threads:
      thread.join(30)
  assert found == {
    (1, 2, 3): [[2, 3, 4], [6] * 3],
    (10,): [[11], [6]],
    (20, 30): [[21, 31], [6] * 2],
  }


def test_many_calls_of_many_threads_get_their_own_results():
  found = {}
  with DynamicBatcher(size_seen, [INTEGER], maximum_batch_size=4) as batcher:

    @tf.function(input_signature=[tf.TensorSpec([1], tf.int32)])
    def call(row):
      return batcher.call(row)

    call.get_concrete_function()

    def run(first):
      for row in range(first, first + 20):
        found[row] = [int(output[0]) for output in call(tf.constant([row]))]

    threads = [threading.Thread(target=run, args=(100 * i,)) for i in range(10)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join(60)
  assert len(found) == 200
  assert all(result == row + 1 and 1 <= size <= 4 for row, (result, size) in found.items())


def test_no_batch_is_above_the_maximum():
  batcher = DynamicBatcher(size_seen, [INTEGER], maximum_batch_size=2)
  callers = Callers(batcher, range(5))
  wait_for(lambda: len(batcher._waiting) == 5)
  with batcher:
    callers.join()
  assert sorted(size for _, (size,) in callers.results.values()) == [1, 2, 2, 2, 2]
  assert {row: result for row, ((result,), _) in callers.results.items()} == {
    row: row + 1 for row in range(5)
  }


def test_who_came_first_is_served_first():
  batcher = DynamicBatcher(size_seen, [INTEGER], maximum_batch_size=2)
  first = Callers(batcher, [0, 1])
  wait_for(lambda: len(batcher._waiting) == 2)
  last = Callers(batcher, [2])
  wait_for(lambda: len(batcher._waiting) == 3)
  with batcher:
    first.join()
    last.join()
  assert [size for _, (size,) in (first.results[0], first.results[1], last.results[2])] == [2, 2, 1]


def test_a_batch_below_the_minimum_waits_for_the_timeout_or_for_company():
  with DynamicBatcher(size_seen, [INTEGER], minimum_batch_size=2, timeout=0.5) as batcher:
    alone = Callers(batcher, [1]).join()
    assert alone.results == {1: [[2], [1]]}
  with DynamicBatcher(size_seen, [INTEGER], minimum_batch_size=2, timeout=None) as batcher:
    first = Callers(batcher, [1])
    wait_for(lambda: len(batcher._waiting) == 1)
    second = Callers(batcher, [2]).join()
    assert first.join().results | second.results == {1: [[2], [2]], 2: [[3], [2]]}


@pytest.mark.parametrize(
  ('options', 'size'),
  [
    ({'minimum_batch_size': 1, 'maximum_batch_size': 2}, None),
    ({'minimum_batch_size': 2, 'maximum_batch_size': 2}, None),
    ({'minimum_batch_size': 2, 'maximum_batch_size': 2, 'timeout': None}, 2),
  ],
)
def test_the_batch_is_of_static_size_only_if_all_batches_have_it(options, size):
  seen = []
  DynamicBatcher(lambda x: (seen.append(x.shape[0]), x)[1], [INTEGER], **options)
  assert seen == [size]


def test_an_error_reaches_the_callers_of_the_batch_and_closes_the_batcher():
  def function(x):
    with tf.control_dependencies([tf.debugging.assert_less(x, 5, message='five is too much')]):
      return tf.identity(x)

  batcher = DynamicBatcher(function, [INTEGER])
  callers = Callers(batcher, [1, 5])
  wait_for(lambda: len(batcher._waiting) == 2)
  with batcher:
    callers.join()
    assert callers.results == {}
    assert all('five is too much' in str(error) for error in callers.errors.values())
    assert 'five is too much' in str(batcher.error)
    later = Callers(batcher, [2]).join()
    assert isinstance(later.errors[2], tf.errors.OutOfRangeError)


def test_an_output_of_another_size_than_the_batch_is_an_error():
  with DynamicBatcher(lambda x: tf.concat([x, x], axis=0), [INTEGER]) as batcher:
    callers = Callers(batcher, [1]).join()
  assert 'batch of 1 rows gave an output of shape (2,)' in str(callers.errors[1])


def test_an_output_without_a_batch_is_refused_at_once():
  with pytest.raises(ValueError, match='first dimension'):
    DynamicBatcher(tf.reduce_sum, [INTEGER])


def test_closing_frees_those_that_wait():
  batcher = DynamicBatcher(size_seen, [INTEGER], minimum_batch_size=2, timeout=None)
  with batcher:
    callers = Callers(batcher, [1])
    wait_for(lambda: len(batcher._waiting) == 1)
  assert isinstance(callers.join().errors[1], tf.errors.OutOfRangeError)
  assert batcher.error is None
  assert isinstance(Callers(batcher, [2]).join().errors[2], tf.errors.OutOfRangeError)


def test_a_call_larger_than_any_batch_is_an_error_of_its_own():
  with DynamicBatcher(size_seen, [INTEGER], maximum_batch_size=2) as batcher:
    with pytest.raises(
      (ValueError, tf.errors.OpError), match='3 rows does not fit into batches of at most 2'
    ):
      batcher.call(tf.constant([1, 2, 3]))
    assert [int(output[0]) for output in batcher.call(tf.constant([7]))] == [8, 1]


def test_rows_of_another_shape_are_refused_while_tracing():
  batcher = DynamicBatcher(size_seen, [INTEGER])
  with pytest.raises(ValueError, match=r'shape \(2,\) was given where the batcher takes \(\)'):
    batcher.call(tf.zeros([1, 2], tf.int32))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'minimum_batch_size': 0}, 'minimum_batch_size=0'),
    ({'minimum_batch_size': 3, 'maximum_batch_size': 2}, 'at most maximum_batch_size=2'),
    ({'timeout': 0}, 'timeout=0'),
  ],
)
def test_bad_limits(options, message):
  with pytest.raises(ValueError, match=message):
    DynamicBatcher(size_seen, [INTEGER], **options)


def test_arrays_that_callers_get_stay_as_they_are():
  with DynamicBatcher(size_seen, [INTEGER]) as batcher:
    first = batcher.call(tf.constant([1, 2]))[0]
    batcher.call(tf.constant([8, 9]))
  np.testing.assert_array_equal(first, [2, 3])


def test_who_came_first_waits_no_longer_for_who_came_later():
  batcher = DynamicBatcher(size_seen, [INTEGER], minimum_batch_size=3, timeout=60.0)
  callers = Callers(batcher, [1, 2])
  wait_for(lambda: len(batcher._waiting) == 2)
  batcher._waiting[0].arrival -= 100
  assert batcher._seconds_left() < 0
  batcher.close()
  callers.join()
