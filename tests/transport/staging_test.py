"""The staging area passes on batches and failures."""

import time

import pytest
import tensorflow as tf

from impala_tf.transport.staging import StagingArea
from tests.support.processes import wait_until


def test_it_passes_batches_in_order_with_what_was_computed_on_the_host():
  batches = iter(range(3))

  def dequeue():
    for i in batches:
      return tf.constant(i)
    raise tf.errors.OutOfRangeError(None, None, 'closed')

  staging = StagingArea(dequeue, on_host=lambda batch: int(batch) * 10)
  staging.start()
  assert [(int(b), h) for b, h in (staging.get(30) for _ in range(3))] == [(0, 0), (1, 10), (2, 20)]
  assert staging.get(0.01) is None
  staging.close()


def test_it_fetches_no_more_than_one_batch_ahead():
  fetched = []

  def dequeue():
    fetched.append(len(fetched))
    return tf.constant(fetched[-1])

  staging = StagingArea(dequeue)
  staging.start()
  assert int(staging.get(30)[0]) == 0
  # The one taken, and the one staged.
  wait_until(lambda: len(fetched) >= 2)
  time.sleep(0.3)
  assert len(fetched) == 2
  assert int(staging.get(30)[0]) == 1
  wait_until(lambda: len(fetched) >= 3)
  staging.close()


def test_it_hands_a_failure_to_the_learner_after_the_batches_before_it():
  batches = iter([1])

  def dequeue():
    for i in batches:
      return tf.constant(i)
    raise tf.errors.DataLossError(None, None, 'a bad unroll')

  staging = StagingArea(dequeue)
  staging.start()
  assert int(staging.get(30)[0]) == 1

  def next_batch():
    while staging.get(0.1) is None:
      pass

  with pytest.raises(tf.errors.DataLossError, match='a bad unroll'):
    next_batch()
  staging.close()
