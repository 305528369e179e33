"""Unrolls as few tensors, for their way over a network.

Between machines each tensor is asked for and sent on its own, which for the dozen small ones of an
unroll takes longer than their bytes do. So they cross a network as one row of bytes, and one of
texts if there are any:

    wire_format = WireFormat(unroll_spec)
    tensors = wire_format.serialize(unrolls)                 # a list of [n, ...] tensors
    unrolls = wire_format.deserialize(tensors)
"""

import math
from typing import Any

import tensorflow as tf
import tree


class WireFormat:
  """Turns unrolls into few tensors, and back.

  Attributes:
    specs: list of `tf.TensorSpec`, one unroll's.
    bytes: int, how many of them an unroll has, without texts.
  """

  def __init__(self, unroll_spec: Any):
    """Takes a nest of `tf.TensorSpec`, one unroll without a batch."""
    self._spec = unroll_spec
    leaves = tree.flatten(unroll_spec)
    binary = [leaf for leaf in leaves if leaf.dtype != tf.string]
    texts = [leaf for leaf in leaves if leaf.dtype == tf.string]
    self._sizes = [leaf.shape.num_elements() * leaf.dtype.size for leaf in binary]
    self._counts = [leaf.shape.num_elements() for leaf in texts]
    self.bytes = sum(self._sizes)
    self.specs = [tf.TensorSpec([self.bytes], tf.uint8)]
    if texts:
      self.specs.append(tf.TensorSpec([sum(self._counts)], tf.string))

  def serialize(self, unrolls: Any) -> list[tf.Tensor]:
    """Turns a nest of [n, ...] tensors into a list of [n, ...] tensors."""
    leaves = tree.flatten(unrolls)
    tensors = [tf.concat([_to_bytes(leaf) for leaf in leaves if leaf.dtype != tf.string], axis=1)]
    if self._counts:
      tensors.append(tf.concat([_flat(leaf) for leaf in leaves if leaf.dtype == tf.string], axis=1))
    return tensors

  def deserialize(self, tensors: list[tf.Tensor]) -> Any:
    """Undoes `serialize`."""
    parts = iter(tf.split(tensors[0], self._sizes, axis=1))
    texts = iter(tf.split(tensors[1], self._counts, axis=1) if self._counts else ())

    def leaf(spec):
      if spec.dtype == tf.string:
        return tf.reshape(next(texts), [-1, *spec.shape])
      return _from_bytes(next(parts), spec)

    return tree.map_structure(leaf, self._spec)


def _flat(tensor):
  return tf.reshape(tensor, [-1, math.prod(tensor.shape[1:])])


def _to_bytes(tensor):
  # TensorFlow refuses to see booleans as bytes, but turns them into such.
  return _flat(
    tf.cast(tensor, tf.uint8) if tensor.dtype == tf.bool else tf.bitcast(tensor, tf.uint8)
  )


def _from_bytes(data, spec):
  if spec.dtype == tf.bool:
    return tf.reshape(tf.cast(data, tf.bool), [-1, *spec.shape])
  if spec.dtype.size == 1:
    return tf.reshape(tf.bitcast(data, spec.dtype), [-1, *spec.shape])
  return tf.bitcast(tf.reshape(data, [-1, *spec.shape, spec.dtype.size]), spec.dtype)
