"""Where actions come from: the agent's network with the published weights, run by each actor for
itself or for all together.

Both kinds have, for use inside an actor's tf.function,

    begin()                                       -> what `step` needs for one unroll, and the version of the weights
    step(context, last_actions, step_outputs, agent_state) -> `structs.AgentOutput`, the next agent
    state
"""

import tensorflow as tf

from impala_tf.acting import dynamic_batching, weights


def is_shared(config):
  """Whether the actors of a run share their inference: as `config.inference` says, 'auto' meaning
  if there is a GPU.

  On processors alone each actor's own inference is the cheaper one: batches of several environments
  are all that a processor needs, and the way through another thread costs more than larger ones
  save.
  """
  if config.inference == 'auto':
    return bool(tf.config.list_physical_devices('GPU'))
  return config.inference == 'shared'


class LocalInference:
  """Each actor runs the network on its own environments, with the weights that it copied at the
  start of its unroll.

  One policy an unroll, as in the paper's Section 3.
  """

  error = None

  def __init__(self, agent, published_weights):
    """Takes a built `agents.Agent` and its `weights.PublishedWeights`."""
    self.agent = agent
    self._published = published_weights

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.close()

  def close(self):
    """Has nothing to end."""

  def begin(self):
    """The weights as tensors, and their version, an int32 scalar."""
    return self._published.pull()

  def step(self, tensors, last_actions, step_outputs, agent_state):
    """As `agents.Agent.step`."""
    with weights.with_weights(self.agent, tensors):
      return self.agent.step(last_actions, step_outputs, agent_state)


class BatchedInference:
  """The network is run on the environments of all actors that wait for actions, with the newest
  weights.

  Weights may change within an unroll then. That is no harm: each step's logits are kept as they
  were when it acted, and V-trace compares with those. The version of an unroll is that of its first
  step.
  """

  def __init__(self, agent, published_weights, row_specs, **options):
    """Traces the network's step on a batch of unknown size.

    Args:
      agent: a built `agents.Agent`.
      published_weights: its `weights.PublishedWeights`.
      row_specs: [actions, step outputs, agent state], nests of `tf.TensorSpec` of one environment.
      **options: minimum_batch_size, maximum_batch_size and timeout of
      `dynamic_batching.DynamicBatcher`.
    """
    self.agent = agent
    self._published = published_weights
    # Copies on the network's device, so that the weights go there once a version and not with each
    # batch.
    self._copies = [
      tf.Variable(variable, trainable=False) for variable in agent.trainable_variables
    ]
    self._copied_version = tf.Variable(0, dtype=tf.int32, trainable=False)
    self._batcher = dynamic_batching.DynamicBatcher(self._compute, row_specs, **options)

  @property
  def error(self):
    """What ended the computing of batches before `close`, or None."""
    return self._batcher.error

  def __enter__(self):
    self._batcher.__enter__()
    return self

  def __exit__(self, *exception):
    self.close()

  def close(self):
    """Frees the actors that wait for actions; their unrolls end with tf.errors.OutOfRangeError."""
    self._batcher.close()

  def begin(self):
    """Nothing, and the version of the newest weights, an int32 scalar."""
    return (), self._published.version()

  def step(self, context, last_actions, step_outputs, agent_state):
    """As `agents.Agent.step`."""
    del context
    return self._batcher.call(last_actions, step_outputs, agent_state)

  def _compute(self, last_actions, step_outputs, agent_state):
    tf.cond(tf.equal(self._published.version(), self._copied_version), tf.no_op, self._copy)
    with weights.with_weights(self.agent, [copy.read_value() for copy in self._copies]):
      return self.agent.step(last_actions, step_outputs, agent_state)

  def _copy(self):
    tensors, version = self._published.pull()
    with tf.control_dependencies(
      [copy.assign(tensor) for copy, tensor in zip(self._copies, tensors, strict=True)]
    ):
      self._copied_version.assign(version)
    return tf.no_op()
