"""Environments that say exactly what happened, and a way to run them without a process of their
own.
"""

import numpy as np

from impala_tf import structs
from impala_tf.environments import operations, rows
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


class InProcess(operations.ProcessGroup):
  """Serves environments as `operations.ProcessGroup` does, from this process."""

  def __init__(self, *batches):
    """Each of `batches` is a list of environments."""
    spec = structs.step_output_spec(batches[0][0].observation_spec)
    super().__init__([_Batch(environments) for environments in batches], spec, len(batches[0]))


class _Batch:
  """Stands for a process."""

  def __init__(self, environments):
    self._rows = rows.Rows(environments[0].observation_spec, len(environments), 1001)
    self._batch = EnvironmentBatch([lambda e=e: e for e in environments], self._rows)
    self.initial, self.take = self._batch.initial, self._rows.take

  def step(self, row, actions):
    return self._batch.step(actions, row)
