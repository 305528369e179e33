"""A learner of the smallest agent, and unrolls for it."""

import contextlib
import dataclasses

import numpy as np
import sonnet as snt
import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.agent import agents, networks
from impala_tf.learning import learner, multi_device, optimizers
from tests.support import catch

# The loss is the paper's; sizes are those of `small_unroll`.
CONFIG = dataclasses.replace(
  catch.CONFIG,
  unroll_length=5,
  batch_size=2,
  num_action_repeats=4,
  total_environment_frames=10_000,
  entropy_cost=0.00025,
  learning_rate=0.1,
  clip_global_norm=None,
)


class Pixels(snt.Module):
  """The smallest torso: three pixels as they are."""

  def __call__(self, frames):
    return tf.cast(tf.reshape(frames, [-1, 3]), tf.float32) / 255.0


def make_small(torso=None, strategy=None, instructed=False, **changes):
  """Makes a learner of the smallest agent; with instructions it has sparse gradients."""
  tf.random.set_seed(0)
  observation = structs.Observation(structs.ArraySpec((1, 1, 3), np.uint8))
  encoder = None
  with strategy.scope() if strategy else contextlib.nullcontext():
    if instructed:
      observation = observation._replace(instruction=structs.ArraySpec((), np.bytes_))
      encoder = networks.InstructionEncoder()
    agent = agents.Agent(
      4, torso or Pixels(), encoder, core=networks.LSTM(3), use_last_action_and_reward=True
    )
    agent.build(observation)
    optimizer = optimizers.RMSProp(agent.trainable_variables)
  config = dataclasses.replace(CONFIG, **changes)
  if strategy:
    return multi_device.MultiDeviceLearner(strategy, agent, optimizer, config)
  return learner.Learner(agent, optimizer, config)


def numbers(metrics):
  """Those of a `learner.Metrics`, a float array, without what there is none of."""
  return np.array([float(value) for value in metrics if value is not None])


def small_unroll(seed=0, rows=6, columns=2, instructed=False):
  random = np.random.RandomState(seed)
  floats = lambda *shape: random.randn(*shape).astype(np.float32)
  unroll = structs.Unroll(
    level=np.zeros(columns, np.int32),
    policy_version=np.zeros(columns, np.int32),
    agent_state=networks.LSTMState(floats(columns, 3), floats(columns, 3)),
    step_outputs=structs.StepOutput(
      reward=floats(rows, columns),
      done=random.rand(rows, columns) < 0.2,
      truncated=np.zeros([rows, columns], bool),
      info=(),
      observation=structs.Observation(
        random.randint(256, size=[rows, columns, 1, 1, 3]).astype(np.uint8)
      ),
    ),
    agent_outputs=structs.AgentOutput(
      action=random.randint(4, size=[rows, columns]).astype(np.int32),
      policy_logits=floats(rows, columns, 4),
      baseline=floats(rows, columns),
    ),
  )
  if instructed:
    words = np.array([b'go left', b'go right', b'stay'])[random.randint(3, size=[rows, columns])]
    observation = unroll.step_outputs.observation._replace(instruction=words)
    unroll = unroll._replace(step_outputs=unroll.step_outputs._replace(observation=observation))
  return tree.map_structure(tf.constant, unroll)


def values_of(variables):
  return [v.numpy() for v in variables]
