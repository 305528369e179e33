"""Inference: the agent's network with the published weights, run by each actor for itself or for
all actors together.

Both kinds have `refresh()`, which an actor calls before each unroll, and for use inside its
tf.function

    begin()           -> what `step` needs for one unroll, and the version of the weights
    step(context, last_actions, step_outputs, agent_state)
                      -> `structs.AgentOutput`, and the next agent state
"""

import itertools
from typing import Any

import tensorflow as tf
import tree

from impala_tf import config as config_lib
from impala_tf import structs
from impala_tf.acting import weights
from impala_tf.agent import agents

_ids = itertools.count()


def is_shared(config: config_lib.Config) -> bool:
  """Returns whether the actors of a run share their inference, as `config.inference` says: 'auto'
  means that they do if there is a GPU.

  On processors alone each actor's own inference is the cheaper one: batches of several environments
  are all that a processor needs, and waiting for others costs more than larger ones save.
  """
  if config.inference == 'auto':
    return bool(tf.config.list_physical_devices('GPU'))
  return config.inference == 'shared'


class LocalInference:
  """Each actor runs the network on its own environments, with the weights that it copied at the
  start of its unroll.

  One policy an unroll, as in the paper's Section 3.
  """

  def __init__(self, agent: agents.Agent, published_weights: weights.PublishedWeights):
    """Takes a built agent and its weights."""
    self.agent = agent
    self._published = published_weights

  def refresh(self) -> None:
    """Makes sure that the next unroll begins with the newest weights."""
    self._published.refresh()

  def begin(self) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Pulls the weights as tensors, and their version, an int32 scalar."""
    return self._published.pull()

  def step(
    self,
    tensors: list[tf.Tensor],
    last_actions: tf.Tensor,
    step_outputs: structs.StepOutput,
    agent_state: Any,
  ) -> tuple[structs.AgentOutput, Any]:
    """Acts as `agents.Agent.step` does, with the weights `tensors`."""
    with weights.with_weights(self.agent, tensors):
      return self.agent.step(last_actions, step_outputs, agent_state)


class BatchedInference:
  """Actors run the network together, on the observations of all that wait at that moment, with the
  newest weights.

  For a graphics card many rows cost little more than one (Section 3.1 of the paper, where actors
  share it). Weights may change within an unroll, which does no harm: each step keeps the logits it
  acted by, and V-trace compares with those. The version of an unroll is that of its first step.

  Batches are made by TensorFlow's own `BatchFunction`, outside of Python. While one is computed,
  the next gathers. Nothing has to be closed at the end of a run: a call ends after the
  time-out, the batches before it and its own.
  """

  def __init__(
    self,
    agent: agents.Agent,
    published_weights: weights.PublishedWeights,
    row_specs: list[Any],
    maximum_batch_size: int = 1024,
    timeout: float = 0.0,
  ):
    """Traces the network's step on a batch of unknown size.

    Args:
      agent: a built agent.
      published_weights: its weights.
      row_specs: [actions, step outputs, agent state], nests of `tf.TensorSpec` of one environment.
      maximum_batch_size: rows that are computed together at most. A call must not have more.
      timeout: seconds for which a batch below that size waits for more rows. With 0 it is computed
        as soon as the batch before it is done.
    """
    self.agent = agent
    self._published = published_weights
    self._maximum_batch_size = maximum_batch_size
    self._timeout = timeout
    self._shared_name = f'inference_{next(_ids)}'

    # Copies on the network's device, so that the weights go there once a version and not with each
    # batch.
    self._copies = [
      tf.Variable(variable, trainable=False) for variable in agent.trainable_variables
    ]
    self._copied_version = tf.Variable(0, dtype=tf.int32, trainable=False)

    batch_specs = tree.map_structure(
      lambda spec: tf.TensorSpec([None, *spec.shape], spec.dtype), row_specs
    )
    self._function = tf.function(self._compute, autograph=False).get_concrete_function(*batch_specs)

  def refresh(self) -> None:
    """Does nothing: each batch looks for newer weights."""

  def begin(self) -> tuple[tuple[()], tf.Tensor]:
    """Returns nothing, and the version of the newest weights, an int32 scalar."""
    return (), self._published.version()

  def step(
    self,
    context: tuple[()],
    last_actions: tf.Tensor,
    step_outputs: structs.StepOutput,
    agent_state: Any,
  ) -> tuple[structs.AgentOutput, Any]:
    """Acts as `agents.Agent.step` does, together with other callers.

    Raises:
      tf.errors.OpError: if the network failed on the batch, in all its callers.
    """
    del context
    rows = tree.flatten((last_actions, step_outputs, agent_state))
    outputs = self._function.structured_outputs
    flat_outputs = tree.flatten(outputs)
    results = tf.raw_ops.BatchFunction(
      in_tensors=rows,
      captured_tensors=self._function.captured_inputs,
      f=self._function,
      Tout=[output.dtype for output in flat_outputs],
      num_batch_threads=1,
      max_batch_size=self._maximum_batch_size,
      batch_timeout_micros=round(1e6 * self._timeout),
      max_enqueued_batches=2**30,
      shared_name=self._shared_name,
      enable_large_batch_splitting=False,
    )

    # The operation knows no shapes.
    for result, output in zip(results, flat_outputs, strict=True):
      result.set_shape([last_actions.shape[0], *output.shape[1:]])
    return tree.unflatten_as(outputs, results)

  def _compute(self, last_actions, step_outputs, agent_state):
    is_new = tf.not_equal(self._published.version(), self._copied_version)
    tf.cond(is_new, self._copy, tf.no_op)
    with weights.with_weights(self.agent, [copy.read_value() for copy in self._copies]):
      return self.agent.step(last_actions, step_outputs, agent_state)

  def _copy(self):
    tensors, version = self._published.pull()
    with tf.control_dependencies(
      [copy.assign(tensor) for copy, tensor in zip(self._copies, tensors, strict=True)]
    ):
      self._copied_version.assign(version)
    return tf.no_op()
