"""Several learners in step, one on each device of a host (Figure 1, right; 8 learners in Table 3).

Each has a batch of its own, computes its gradient, and all apply the sum: N learners of batches of
B unrolls do what one would do with a batch of N*B, since the paper's losses are sums.

    strategy = make_strategy(config.num_learners)
    with strategy.scope():
      agent, optimizer = ...              # every device has a copy of their variables
    learner = MultiDeviceLearner(strategy, agent, optimizer, config)      # outside of the scope

The devices must be of one host. Over several hosts TensorFlow has MultiWorkerMirroredStrategy, but
a process can't use that and be connected to actors: TensorFlow refuses to enable both ("Cannot
enable remote execution as well as collective ops").
"""

import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.agent import agents
from impala_tf.config import Config, ConfigurationError
from impala_tf.learning import learner, losses, optimizers
from impala_tf.transport import unroll_queue


def make_strategy(num_learners: int) -> tf.distribute.MirroredStrategy:
  """Makes a strategy over the first graphics cards, or over logical processors without any.

  Raises:
    ConfigurationError: if there are fewer devices than learners.
  """
  kind = 'GPU' if tf.config.list_logical_devices('GPU') else 'CPU'
  devices = [device.name for device in tf.config.list_logical_devices(kind)]
  if len(devices) < num_learners:
    raise ConfigurationError(
      f'num_learners={num_learners} needs a device for each, and there are {len(devices)} '
      f'({kind}). Change --num_learners.'
    )

  # TensorFlow's collective operations, the default, know the devices by the names they have outside
  # of a cluster: within one the first sum fails, and never returns.
  in_cluster = '/job:' in devices[0]
  reduction = tf.distribute.ReductionToOneDevice() if in_cluster else None
  return tf.distribute.MirroredStrategy(devices[:num_learners], reduction)


class MultiDeviceLearner(learner.Learner):
  """A learner on several devices, whose updates take the batches of all of them."""

  def __init__(
    self,
    strategy: tf.distribute.MirroredStrategy,
    agent: agents.Agent,
    optimizer: optimizers.RMSProp,
    config: Config,
  ):
    """Binds the parts; agent and optimizer were made in the scope of the strategy."""
    super().__init__(agent, optimizer, config)
    self._strategy = strategy

  def update(self, batch: structs.Unroll | learner.Gradients) -> learner.Metrics:
    """Takes one step as `learner.Learner.update`, with the batches of all devices in one.

    Raises:
      NotImplementedError: for gradients that a worker computed.
    """
    if isinstance(batch, learner.Gradients):
      raise NotImplementedError('Several learners take unrolls, not gradients.')
    with self._named_errors():
      return self._update_all(self._distributed(batch), batch.policy_version)

  def _distributed(self, batch):
    """Gives each device its part of the unrolls."""
    count = self._strategy.num_replicas_in_sync
    parts = unroll_queue.map_batches(lambda axis, tensor: tf.split(tensor, count, axis), batch)

    def part_of(context):
      number = context.replica_id_in_sync_group
      return tree.map_structure_up_to(batch, lambda of_all: of_all[number], parts)

    return self._strategy.experimental_distribute_values_from_function(part_of)

  @tf.function(autograph=False)
  def _update_all(self, parts, policy_version):
    def update_one(unroll):
      loss, gradients = self._loss_and_gradients(unroll, self.tunable.entropy_cost.read_value())
      # What has a row for each step stays on its device.
      loss = loss._replace(clipped_rewards=(), discounts=(), vtrace_returns=())
      scalars = {name: value for name, value in loss._asdict().items() if value is not None}
      summed, gradients = tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.SUM, (scalars, gradients)
      )
      norm, learning_rate = self._change_variables(summed['total'], gradients)
      return summed, norm, learning_rate

    # All devices return the same, so that the first one's results are enough.
    results = self._strategy.run(update_one, args=(parts,))
    summed, norm, learning_rate = tree.map_structure(
      lambda values: self._strategy.experimental_local_results(values)[0], results
    )
    loss = losses.Loss(**{'extra': None, **summed})
    return self._count(loss, norm, learning_rate, policy_version)
