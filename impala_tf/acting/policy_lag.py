"""Actors that act with weights of a given number of updates ago (Figure E.1).

    weights = LaggingWeights(agent, lag=3)       # in place of weights.PublishedWeights
    weights.publish(learner.updates)             # after update u actors pull what was published after update u - 3

Unrolls that wait for the learner grow older by the updates that it takes meanwhile. Where nothing
waits, with `architecture=a2c_sync_trajectories` or `a2c_sync_step`, the lag at the learner is the
one given, exactly.
"""

import collections

import tensorflow as tf

from impala_tf.acting import weights


class LaggingWeights(weights.PublishedWeights):
  """`weights.PublishedWeights` whose readers get what was published `lag` times before.

  Until there are so many, they get the first: the lag grows from 0, anew after a resume. The
  vectors in between are kept, `lag` times the size of the network.
  """

  def __init__(self, agent, lag, **options):
    """Publishes the agent's present weights, which are seen at once.

    Args:
      agent: a `tf.Module` whose variables exist.
      lag: int, updates between what is published and what is seen.
      **options: as for `weights.PublishedWeights`.
    """
    self._vectors = collections.deque(maxlen=lag + 1)
    super().__init__(agent, **options)

  def publish(self, version):
    """Lets the present weights wait, and shows the oldest.

    `version` is an int32 scalar, the learner's updates.
    """
    self._vectors.append(self._present(version))
    self._show(self._vectors[0])

  @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
  def _present(self, version):
    return self._flat(version)

  @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
  def _show(self, flat):
    self._assign(flat)
