"""Environments that say exactly what happened, and a way to run them without a process of their
own.
"""

import numpy as np
import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.environments.base import EnvironmentBatch, Transition


class Counting:
  """Encodes time and action: the reward of step n with action a is 100 n + a; the frame is filled
  with n modulo 256.

  Episodes have `length` steps; n goes on over episodes. If `life` is given, every so many steps a
  life is lost: done, but not finished.
  """

  num_actions = 9

  def __init__(self, length=4, first=0, life=None, shape=(2, 2, 1)):
    """`first` is the n of the first observation, `shape` that of a frame."""
    self.observation_spec = structs.Observation(structs.ArraySpec(shape, np.uint8))
    self._length = length
    self._life = life
    self._n = first
    self._step = 0

  def reset(self):
    """Starts an episode; n does not start again."""
    self._step = 0
    return self._observe()

  def step(self, action):
    """Counts."""
    self._n += 1
    self._step += 1
    finished = self._step == self._length
    done = finished or (self._life is not None and self._step % self._life == 0)
    return Transition(self._observe(), 100 * self._n + action, done, finished)

  def close(self):
    """Nothing to give back."""

  def _observe(self):
    return structs.Observation(np.full(self.observation_spec.frame.shape, self._n % 256, np.uint8))


class InProcess:
  """Serves `EnvironmentBatch`es as a `process_group.ProcessGroup` does, from this process."""

  def __init__(self, *batches):
    """Each of `batches` is a list of environments."""
    self.batches = [
      EnvironmentBatch([lambda e=e: e for e in environments]) for environments in batches
    ]

  def call(self, index, method, *args):
    """The method of batch `index` as an operation."""
    specs = self.batches[0].tensor_specs(method)

    def run(index, *args):
      # A copy, since the batch writes to its arrays again.
      return [
        np.array(a, bytes if a.dtype == object else a.dtype)
        for a in tree.flatten(getattr(self.batches[index], method)(*args))
      ]

    flat = tree.flatten(specs)
    outputs = tf.numpy_function(run, [index, *args], [tf.as_dtype(s.dtype) for s in flat])
    for output, spec in zip(outputs, flat, strict=True):
      output.set_shape(spec.shape)
    return tree.unflatten_as(specs, outputs)
