"""An unroll crosses the network in one piece and arrives as it was."""

import numpy as np
import pytest
import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.acting import specs
from impala_tf.transport import unroll_queue
from impala_tf.transport.wire_format import WireFormat

T, ACTIONS = 3, 5
TEXT = structs.ArraySpec((), np.bytes_)


def make_spec(instruction, state):
  observation = structs.Observation(structs.ArraySpec((4, 6, 2), np.uint8), instruction)
  return specs.unroll_spec(structs.step_output_spec(observation), ACTIONS, state, T)


def make_unrolls(spec, n, seed=0):
  random = np.random.default_rng(seed)

  def leaf(spec):
    shape = (n, *spec.shape)
    if spec.dtype == tf.string:
      return tf.constant(
        [bytes(random.integers(0, 256, 3, np.uint8)) for _ in range(np.prod(shape))], shape=shape
      )
    if spec.dtype == tf.bool:
      return tf.constant(random.random(shape) < 0.5)
    if spec.dtype == tf.float32:
      return tf.constant(random.normal(size=shape).astype(np.float32))
    return tf.constant(
      random.integers(0, np.iinfo(spec.dtype.as_numpy_dtype).max, shape), spec.dtype
    )

  return tree.map_structure(leaf, spec)


SPECS = [
  make_spec((), ()),
  make_spec(TEXT, (tf.TensorSpec([2], tf.float32), tf.TensorSpec([3], tf.float32))),
]


TEXTS = {
  'first': tf.TensorSpec([2], tf.string),
  'flag': tf.TensorSpec([], tf.bool),
  'second': tf.TensorSpec([3], tf.string),
}


@pytest.mark.parametrize('spec', [*SPECS, TEXTS])
def test_arrives_as_it_was(spec):
  wire_format = WireFormat(spec)
  unrolls = make_unrolls(spec, 4)
  packed = wire_format.serialize(unrolls)
  for tensor, tensor_spec in zip(packed, wire_format.specs, strict=True):
    assert tensor_spec.is_compatible_with(tensor[0])
  assert packed[0].shape == [4, wire_format.bytes]
  unpacked = wire_format.deserialize(packed)
  tree.assert_same_structure(unpacked, unrolls)
  for there, here in zip(tree.flatten(unpacked), tree.flatten(unrolls), strict=True):
    assert there.dtype == here.dtype
    np.testing.assert_array_equal(there, here)


@pytest.mark.parametrize('spec', SPECS)
def test_queue_gives_the_same_batches_serialized_or_not(spec):
  unrolls = make_unrolls(spec, 6)
  batches = []
  for serialized in (False, True):
    queue = unroll_queue.UnrollQueue(spec, 10, serialized=serialized)
    queue.enqueue_many(unrolls)
    batches.append(queue.dequeue_batch(5))
  for plain, packed in zip(*map(tree.flatten, batches), strict=True):
    assert plain.shape == packed.shape
    np.testing.assert_array_equal(plain, packed)
