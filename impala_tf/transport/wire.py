"""How an unroll crosses a network: as one row of bytes, and one of texts if it has any.

Between machines each tensor is asked for and sent on its own, which for the dozen small ones of an
unroll takes longer than their bytes do.
"""

import math

import tensorflow as tf
import tree


class Packing:
  """Turns unrolls into few tensors, and back.

    packing = Packing(unroll_spec)
    tensors = packing.pack(unrolls)      # a list of [n, ...] tensors of the dtypes and shapes that `specs` says
    unrolls = packing.unpack(tensors)

  specs: list of `tf.TensorSpec`, one unroll's.
  bytes: int, how many of them an unroll has, without texts.
  """

  def __init__(self, unroll_spec):
    """Takes a nest of `tf.TensorSpec`, one unroll without a batch."""
    self._spec = unroll_spec
    leaves = tree.flatten(unroll_spec)
    self._binary = [leaf for leaf in leaves if leaf.dtype != tf.string]
    self._texts = [leaf for leaf in leaves if leaf.dtype == tf.string]
    self._sizes = [leaf.shape.num_elements() * leaf.dtype.size for leaf in self._binary]
    self._counts = [leaf.shape.num_elements() for leaf in self._texts]
    self.bytes = sum(self._sizes)
    self.specs = [tf.TensorSpec([self.bytes], tf.uint8)]
    if self._texts:
      self.specs.append(tf.TensorSpec([sum(self._counts)], tf.string))

  def pack(self, unrolls):
    """A list of tensors [n, ...] from a nest of [n, ...]."""
    leaves = tree.flatten(unrolls)
    tensors = [tf.concat([_to_bytes(leaf) for leaf in leaves if leaf.dtype != tf.string], axis=1)]
    if self._texts:
      tensors.append(tf.concat([_flat(leaf) for leaf in leaves if leaf.dtype == tf.string], axis=1))
    return tensors

  def unpack(self, tensors):
    """Undoes `pack`."""
    parts = iter(tf.split(tensors[0], self._sizes, axis=1))
    texts = iter(tf.split(tensors[1], self._counts, axis=1)) if self._texts else iter(())

    def leaf(spec):
      if spec.dtype == tf.string:
        return tf.reshape(next(texts), [-1, *spec.shape])
      return _from_bytes(next(parts), spec)

    return tree.map_structure(leaf, self._spec)


def _flat(tensor):
  return tf.reshape(tensor, [-1, math.prod(tensor.shape[1:])])


def _to_bytes(tensor):
  # What is true or false can't be seen as bytes, but made into them.
  return _flat(
    tf.cast(tensor, tf.uint8) if tensor.dtype == tf.bool else tf.bitcast(tensor, tf.uint8)
  )


def _from_bytes(data, spec):
  if spec.dtype == tf.bool:
    return tf.reshape(tf.cast(data, tf.bool), [-1, *spec.shape])
  if spec.dtype.size == 1:
    return tf.reshape(tf.bitcast(data, spec.dtype), [-1, *spec.shape])
  return tf.bitcast(tf.reshape(data, [-1, *spec.shape, spec.dtype.size]), spec.dtype)
