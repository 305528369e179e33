"""Losses of an unroll of random numbers, with the gradients to what the learner computes."""

import dataclasses

import numpy as np
import tensorflow as tf

from impala_tf import structs
from impala_tf.agent import agents
from impala_tf.learning import losses
from tests.support import catch

CONFIG = dataclasses.replace(
  catch.CONFIG, discounting=0.9, baseline_cost=0.5, entropy_cost=0.01, reward_clipping='abs_one'
)
ROWS, COLUMNS, ACTIONS = 7, 3, 4


def loss_inputs(seed=3):
  """Logits, values, rewards and actions of rows in time order."""
  random = np.random.RandomState(seed)
  floats = lambda *shape: random.randn(*shape).astype(np.float32)
  actions = random.randint(ACTIONS, size=[ROWS, COLUMNS]).astype(np.int32)
  return floats(ROWS, COLUMNS, ACTIONS), floats(ROWS, COLUMNS), floats(ROWS, COLUMNS), actions


def loss_and_gradients(
  target_logits, behaviour_logits, values, rewards, actions, truncated=None, **changes
):
  """Loss of `losses.compute_loss` with its gradients with respect to the learner's logits and
  values. Rows that are truncated are done, and no others.
  """
  rows, columns = rewards.shape
  if truncated is None:
    truncated = np.zeros([rows, columns], bool)
  unroll = structs.Unroll(
    level=(),
    policy_version=(),
    agent_state=(),
    step_outputs=structs.StepOutput(
      tf.constant(rewards), tf.constant(truncated), tf.constant(truncated), (), ()
    ),
    agent_outputs=structs.AgentOutput(
      tf.constant(actions), tf.constant(behaviour_logits), tf.zeros([rows, columns])
    ),
  )
  outputs = agents.PolicyAndBaseline(tf.constant(target_logits), tf.constant(values))
  with tf.GradientTape() as tape:
    tape.watch(outputs)
    loss = losses.compute_loss(outputs, unroll, dataclasses.replace(CONFIG, **changes))
  return loss, [gradient.numpy() for gradient in tape.gradient(loss.total, list(outputs))]
