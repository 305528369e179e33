"""Several learners in step, one on each device of a host (Figure 1, right; 8 learners in Table 3).

Each has a batch of its own, computes its gradient, and all apply the sum: N learners of batches of
B unrolls do what one would do with a batch of N*B, since the paper's losses are sums.

    strategy = make_strategy(config.num_learners)
    with strategy.scope():
      agent, optimizer = ...                               # whose variables every device has a copy of
    learner = MultiDeviceLearner(strategy, agent, optimizer, ...)     # outside of the scope: of its counters there is one

The devices must be of one host. Over several hosts TensorFlow has MultiWorkerMirroredStrategy, but
a process can't use that and be connected to actors: TensorFlow refuses to enable both ("Cannot
enable remote execution as well as collective ops").
"""

import tensorflow as tf
import tree

from impala_tf.config import ConfigurationError
from impala_tf.learning import learner


def make_strategy(num_learners, in_cluster=False):
  """A `tf.distribute.MirroredStrategy` over the first graphics cards, or, where there are none,
  logical processors.

  Args:
    num_learners: int.
    in_cluster: whether this process is connected to a cluster, see `connection.connect`.

  Returns:
    The strategy.

  Raises:
    ConfigurationError: if there are fewer devices than learners.
  """
  kind = 'GPU' if tf.config.list_logical_devices('GPU') else 'CPU'
  devices = tf.config.list_logical_devices(kind)
  if len(devices) < num_learners:
    raise ConfigurationError(
      f'num_learners={num_learners} needs a device for each, and there are {len(devices)} ({kind}). Change --num_learners.'
    )
  # TensorFlow's collective operations, the default, know the devices by the names they have outside
  # of a cluster: within one the first sum fails, and never returns.
  reduction = tf.distribute.ReductionToOneDevice() if in_cluster else None
  return tf.distribute.MirroredStrategy(
    [device.name for device in devices[:num_learners]], reduction
  )


class MultiDeviceLearner(learner.Learner):
  """A `learner.Learner` on several devices; its `update` takes the batches of all of them, one
  behind the other.
  """

  def __init__(self, strategy, agent, optimizer, **arguments):
    """Binds agent and optimizer, made in the strategy's scope; `arguments` are those of
    `learner.Learner`.
    """
    super().__init__(agent, optimizer, **arguments)
    self._strategy = strategy

  def update(self, unroll):
    """As `learner.Learner.update`; the batch must be divisible among the devices."""
    count = self._strategy.num_replicas_in_sync
    rows, batch_size = unroll.step_outputs.reward.shape
    over_batch = lambda axis, nest: tree.map_structure(lambda t: tf.split(t, count, axis), nest)
    split = unroll._replace(
      level=over_batch(0, unroll.level),
      policy_version=over_batch(0, unroll.policy_version),
      agent_state=over_batch(0, unroll.agent_state),
      step_outputs=over_batch(1, unroll.step_outputs),
      agent_outputs=over_batch(1, unroll.agent_outputs),
    )
    part = lambda context: tree.map_structure_up_to(
      unroll, lambda parts: parts[context.replica_id_in_sync_group], split
    )
    parts = self._strategy.experimental_distribute_values_from_function(part)
    with self._errors_named():
      return self._update_all(parts, unroll.policy_version, (rows - 1, batch_size))

  @tf.function
  def _update_all(self, parts, policy_version, shape):
    def update_one(unroll):
      loss, gradients = self._loss_and_gradients(unroll, self.tunable.entropy_cost.read_value())
      scalars = {
        'total': loss.total,
        'pg': loss.pg,
        'baseline': loss.baseline,
        'entropy': loss.entropy,
      }
      summed, gradients = tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.SUM, (scalars, gradients)
      )
      norm, learning_rate = self._step(summed['total'], gradients)
      return summed, norm, learning_rate

    # What the devices return is equal, so that one tells all.
    first = lambda values: self._strategy.experimental_local_results(values)[0]
    results = self._strategy.run(update_one, args=(parts,))
    summed, norm, learning_rate = tree.map_structure(first, results)
    loss = learner.Loss(**summed, clipped_rewards=(), discounts=(), vtrace_returns=())
    return self._count(loss, norm, learning_rate, policy_version, shape)
