"""The queue keeps order and bound."""

import threading
import time

import numpy as np
import pytest
import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.acting import specs
from impala_tf.transport import unroll_queue

T, ACTIONS = 3, 2
STEP_SPEC = structs.step_output_spec(
  structs.Observation(structs.ArraySpec((2, 2, 1), np.uint8), structs.ArraySpec((), np.bytes_))
)
SPEC = specs.unroll_spec(STEP_SPEC, ACTIONS, (tf.TensorSpec([5], tf.float32),), T)


def make_unrolls(first, n):
  """n unrolls whose numbers tell environment and row: 10 * (first + environment) + row, and whose
  strings do too.
  """

  def leaf(spec):
    environment = np.arange(first, first + n).reshape([n] + [1] * len(spec.shape))
    has_time = spec.shape.rank > 0 and spec.shape[0] == T + 1
    rows = np.arange(T + 1).reshape([1, T + 1] + [1] * (len(spec.shape) - 1)) if has_time else 0
    numbers = np.broadcast_to(10 * environment + rows, [n, *spec.shape])
    if spec.dtype == tf.string:
      return tf.strings.as_string(tf.constant(numbers, tf.int32))
    return tf.cast(tf.constant(numbers, tf.int32), spec.dtype)

  return tree.map_structure(leaf, SPEC)


def test_it_is_traced_once_before_threads_use_it(monkeypatch):
  traced, build = [], unroll_queue.UnrollQueue._build_enqueue_many

  def build_and_count(self, leaves):
    traced.append(len(leaves))
    return build(self, leaves)

  monkeypatch.setattr(unroll_queue.UnrollQueue, '_build_enqueue_many', build_and_count)
  queue = unroll_queue.UnrollQueue(SPEC, capacity=10)
  assert len(traced) == 1
  for n in (1, 2):
    queue.enqueue_many(make_unrolls(0, n))
  assert len(traced) == 1


def test_batch_is_time_major_and_first_in_first_out():
  queue = unroll_queue.UnrollQueue(SPEC, capacity=10)
  queue.enqueue_many(make_unrolls(0, 4))
  queue.enqueue_many(make_unrolls(4, 2))
  assert queue.size().numpy() == 6
  batch = queue.dequeue_batch(5)
  assert queue.size().numpy() == 1
  np.testing.assert_array_equal(batch.level, 10 * np.arange(5))
  np.testing.assert_array_equal(batch.agent_state[0], np.tile(10 * np.arange(5)[:, np.newaxis], 5))
  rows = np.arange(T + 1)[:, np.newaxis] + 10 * np.arange(5)
  np.testing.assert_array_equal(batch.step_outputs.reward, rows)
  np.testing.assert_array_equal(batch.step_outputs.observation.frame[..., 1, 0, 0], rows)
  np.testing.assert_array_equal(batch.step_outputs.observation.instruction, rows.astype(bytes))
  np.testing.assert_array_equal(batch.agent_outputs.policy_logits[..., 1], rows)
  assert batch.step_outputs.observation.frame.shape == [T + 1, 5, 2, 2, 1]


def test_actors_ahead_of_the_learner_wait():
  queue = unroll_queue.UnrollQueue(SPEC, capacity=3)
  entered = threading.Event()

  def act():
    queue.enqueue_many(make_unrolls(0, 3))
    entered.set()
    queue.enqueue_many(make_unrolls(3, 3))

  thread = threading.Thread(target=act)
  thread.start()
  assert entered.wait(30)
  thread.join(0.3)
  assert thread.is_alive()
  assert queue.size().numpy() == 3
  np.testing.assert_array_equal(queue.dequeue_batch(6).level, 10 * np.arange(6))
  thread.join(30)
  assert not thread.is_alive()


def test_one_environment_fills_a_batch_larger_than_the_queue():
  queue = unroll_queue.UnrollQueue(SPEC, capacity=1)

  def act():
    for i in range(8):
      queue.enqueue_many(make_unrolls(i, 1))

  thread = threading.Thread(target=act)
  thread.start()
  np.testing.assert_array_equal(queue.dequeue_batch(8).level, 10 * np.arange(8))
  thread.join(30)
  assert not thread.is_alive()


@pytest.mark.parametrize(
  ('blocked', 'error'),
  [
    (lambda queue: queue.enqueue_many(make_unrolls(0, 3)), tf.errors.CancelledError),
    (lambda queue: queue.dequeue_batch(100), tf.errors.OutOfRangeError),
  ],
)
def test_close_frees_whoever_waits(blocked, error):
  queue = unroll_queue.UnrollQueue(SPEC, capacity=1)
  caught = []

  def run():
    try:
      blocked(queue)
    except tf.errors.OpError as raised:
      caught.append(type(raised))

  thread = threading.Thread(target=run, daemon=True)
  thread.start()
  time.sleep(0.2)
  assert thread.is_alive()
  queue.close()
  thread.join(30)
  assert caught == [error]
  with pytest.raises(tf.errors.CancelledError):
    queue.enqueue_many(make_unrolls(0, 1))


def test_two_queues_are_two():
  first, second = (unroll_queue.UnrollQueue(SPEC, capacity=2) for _ in range(2))
  first.enqueue_many(make_unrolls(0, 1))
  assert second.size().numpy() == 0
  same = unroll_queue.UnrollQueue(SPEC, capacity=2, shared_name=first._shared_name)
  assert same.size().numpy() == 1


def test_a_queue_without_room_is_refused():
  with pytest.raises(ValueError, match='capacity=0'):
    unroll_queue.UnrollQueue(SPEC, capacity=0)


def test_batches_are_made_time_major_on_the_host():
  queue = unroll_queue.UnrollQueue(SPEC, capacity=4)
  graph = queue.dequeue_batch.get_concrete_function(2).graph
  transposes = [
    operation.device for operation in graph.get_operations() if operation.type == 'Transpose'
  ]
  assert transposes
  assert {device.rpartition('/')[2] for device in transposes} == {'device:CPU:0'}
