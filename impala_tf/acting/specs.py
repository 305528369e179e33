"""Shapes and dtypes of what passes between the parts of a run, as nests of `tf.TensorSpec`."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.agent import agents
from impala_tf.config import Config
from impala_tf.environments import suite as suite_lib


class Specs:
  """The specs of a run, of one environment each.

  Attributes:
    step_output: `structs.StepOutput`.
    agent_state: the agent's state.
    unroll: `structs.Unroll` of T+1 rows.
  """

  def __init__(self, suite: suite_lib.Suite, config: Config, agent: agents.Agent):
    """Works them out; the agent's variables must exist."""
    step_output = structs.step_output_spec(suite.observation_spec(config))
    self.step_output = tensor_specs(step_output)
    self.agent_state = tree.map_structure(
      lambda t: tf.TensorSpec(t.shape[1:], t.dtype), agent.initial_state(1)
    )
    self.unroll = unroll_spec(
      step_output, agent.num_actions, self.agent_state, config.unroll_length
    )


def tensor_specs(array_specs: Any, leading: Sequence[int] = ()) -> Any:
  """Converts a nest of `structs.ArraySpec`, with `leading` dimensions before each shape."""
  return tree.map_structure(
    lambda spec: tf.TensorSpec([*leading, *spec.shape], tf.as_dtype(spec.dtype)), array_specs
  )


def unroll_spec(
  step_output_spec: structs.StepOutput,
  num_actions: int,
  agent_state_spec: Any,
  unroll_length: int,
) -> structs.Unroll:
  """Builds the spec of one unroll.

  Args:
    step_output_spec: of `structs.ArraySpec`, one environment at one step.
    num_actions: size of the policy's logits.
    agent_state_spec: nest of `tf.TensorSpec`, one environment's agent state; the empty tuple
      without memory.
    unroll_length: T.
  """
  rows = unroll_length + 1
  return structs.Unroll(
    level=tf.TensorSpec([], tf.int32),
    policy_version=tf.TensorSpec([], tf.int32),
    agent_state=agent_state_spec,
    step_outputs=tensor_specs(step_output_spec, [rows]),
    agent_outputs=structs.AgentOutput(
      action=tf.TensorSpec([rows], tf.int32),
      policy_logits=tf.TensorSpec([rows, num_actions], tf.float32),
      baseline=tf.TensorSpec([rows], tf.float32),
    ),
  )
