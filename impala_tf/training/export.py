"""Exports a trained agent as a SavedModel, for use without this project.

    model = tf.saved_model.load(folder)
    act = model.signatures['serving_default']
    outputs = act(frame=frames)                     # uint8 [B, height, width, channels]
    outputs['action']                               # int32 [B]

An agent that sees more than frames also takes `instruction`, `numbers`, `last_action` and
`last_reward`. An agent with a memory takes its state, `state_0` and so on, and gives the next one
by the same names. At the start of an episode the state is zeros, while last action and last reward
are those that ended the episode before, as in training; before the very first episode they are
zeros.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from impala_tf import files, structs
from impala_tf.agent import agents
from impala_tf.config import Config
from impala_tf.training import checkpoints


def export(suite: Any, config: Config, logdir: str, folder: str) -> checkpoints.Loaded:
  """Writes the newest checkpoint of a run as a SavedModel.

  Args:
    suite: the run's `suite.Suite`.
    config: the run's configuration.
    logdir: the run's folder.
    folder: where to write, anything that tf.io.gfile takes; made if missing. A SavedModel that it
      holds is replaced.

  Raises:
    CheckpointError: if there is no checkpoint, or it is another agent's.
    StorageError: if the folder can't be written.
  """
  # In float32 even if the run computed in bfloat16, so that any machine can use it.
  agent = agents.for_suite(suite, dataclasses.replace(config, precision='float32'))
  loaded = checkpoints.load_weights(logdir, agent)
  policy = Policy(agent, suite.observation_spec(config))

  with files.writing(folder):
    tf.saved_model.save(policy, folder, signatures={'serving_default': policy.act})
  return loaded


class Policy(tf.Module):
  """An agent that acts on one observation of each environment of a batch.

  Attributes:
    act: tf.function from the tensors that the module's text names, each with a leading [B], to a
      dict: 'action' (int32 [B], sampled), 'policy_logits' (float32 [B, num_actions]), 'baseline'
      (float32 [B]), and the next state.
  """

  def __init__(self, agent: agents.Agent, observation_spec: structs.Observation):
    """Takes a built agent and the `structs.ArraySpec`s of one environment's observation."""
    super().__init__(name='policy')
    self._agent = agent

    batched = lambda name, shape, dtype: tf.TensorSpec([None, *shape], dtype, name=name)
    inputs = {
      name: batched(name, spec.shape, tf.as_dtype(spec.dtype))
      for name, spec in observation_spec._asdict().items()
      if isinstance(spec, structs.ArraySpec)
    }
    if agent.use_last_action_and_reward:
      inputs['last_action'] = batched('last_action', [], tf.int32)
      inputs['last_reward'] = batched('last_reward', [], tf.float32)

    state = agent.initial_state(1)
    for name, tensor in _named(state).items():
      inputs[name] = batched(name, tensor.shape[1:], tensor.dtype)

    @tf.function(input_signature=list(inputs.values()), autograph=False)
    def act(*tensors):
      given = dict(zip(inputs, tensors, strict=True))
      batch = tf.shape(given['frame'])[0]
      step_outputs = structs.StepOutput(
        reward=given.get('last_reward', tf.zeros([batch])),
        done=tf.zeros([batch], tf.bool),  # It is the caller who sets the state to zero.
        truncated=(),
        info=(),
        observation=structs.Observation(
          **{name: given[name] for name in structs.Observation._fields if name in given}
        ),
      )
      last_action = given.get('last_action', tf.zeros([batch], tf.int32))
      before = tf.nest.pack_sequence_as(state, [given[name] for name in _named(state)])
      output, after = agent.step(last_action, step_outputs, before)
      return {**output._asdict(), **_named(after)}

    self.act = act


def _named(state):
  return {f'state_{i}': tensor for i, tensor in enumerate(tf.nest.flatten(state))}
