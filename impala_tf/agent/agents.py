"""The agent: a torso, perhaps an instruction encoder and an LSTM, and heads for policy and
baseline.

    frame ---------- torso --------+
    last reward, last action ------+-- LSTM -- policy logits, baseline    (Figure 3 of the paper)
    instruction ---- encoder ------+

Only the torso is always there: the agent of Atari-57 is feed-forward and sees nothing but frames.
Numbers beside an image have an encoder, too. Without an LSTM a linear layer may stand in its place,
so that the heads can choose by frame and instruction together.
"""

from typing import Any, NamedTuple

import numpy as np
import sonnet as snt
import tensorflow as tf
import tensorflow_probability as tfp
import tree
from absl import logging

from impala_tf import structs
from impala_tf.agent import networks
from impala_tf.config import Config
from impala_tf.config.options import import_reference
from impala_tf.system import machine

_TORSOS = {
  'shallow': networks.ShallowTorso,
  'nature': networks.NatureTorso,
  'deep': networks.DeepTorso,
  'vector': networks.VectorTorso,
}


class PolicyAndBaseline(NamedTuple):
  """The outputs of the heads for each observation: float32 [T, B, num_actions] and [T, B]."""

  policy_logits: tf.Tensor
  baseline: tf.Tensor


class Agent(snt.Module):
  """Policy and baseline of observations, one step at a time (`step`) or along whole unrolls
  (`unroll`).
  """

  def __init__(
    self,
    num_actions: int,
    torso: snt.Module,
    instruction_encoder: snt.Module | None = None,
    core: networks.LSTM | None = None,
    use_last_action_and_reward: bool = False,
    numbers_encoder: snt.Module | None = None,
    mixer: snt.Module | None = None,
    name: str = 'agent',
  ):
    """Puts the agent together; its variables come with `build`.

    Args:
      num_actions: size of the policy's logits.
      torso: from uint8 [N, H, W, C], or float32 [N, n], to float32 [N, features].
      instruction_encoder: from string [N] to float32 [N, features], or None.
      core: memory, or None for a feed-forward agent.
      use_last_action_and_reward: whether the last action, one-hot, and the last reward, clipped to
        [-1, 1] independently of the loss, join the torso's features.
      numbers_encoder: from float32 [N, n] to float32 [N, features], for numbers beside an image, or
        None.
      mixer: from all features, float32 [N, features], to what the heads see; None with a core, or
        for the features themselves.
      name: of the module.
    """
    super().__init__(name=name)
    self.num_actions = num_actions
    self.torso = torso
    self.instruction_encoder = instruction_encoder
    self.numbers_encoder = numbers_encoder
    self.mixer = mixer
    self.core = core
    self.use_last_action_and_reward = use_last_action_and_reward
    self.policy_logits = snt.Linear(num_actions, name='policy_logits')
    self.baseline = snt.Linear(1, name='baseline')

  def build(self, observation_spec: structs.Observation) -> None:
    """Makes the variables.

    Args:
      observation_spec: of `structs.ArraySpec`, of one environment at one step.
    """

    def zeros(shape, dtype):
      return tf.zeros([1, 1, *shape], tf.as_dtype(dtype))

    step_outputs = structs.StepOutput(
      reward=zeros((), np.float32),
      done=zeros((), np.bool_),
      truncated=zeros((), np.bool_),
      info=structs.EpisodeInfo(zeros((), np.float32), zeros((), np.int32), zeros((), np.bool_)),
      observation=tree.map_structure(lambda spec: zeros(spec.shape, spec.dtype), observation_spec),
    )
    self.unroll(zeros((), np.int32), step_outputs, self.initial_state(1))

  def initial_state(self, batch_size: int) -> networks.LSTMState | tuple:
    """Makes the state before the first observation: zeros [batch_size, ...], () without a core."""
    return self.core.initial_state(batch_size) if self.core else ()

  def step(
    self, last_actions: tf.Tensor, step_outputs: structs.StepOutput, state: Any
  ) -> tuple[structs.AgentOutput, Any]:
    """Acts on one observation of each environment of a batch.

    Args:
      last_actions: int32 [B], the actions that led to `step_outputs`.
      step_outputs: of [B, ...].
      state: of [B, ...], from `initial_state` or the step before.

    Returns:
      The output of [B, ...] with actions sampled from the policy, and the new state.
    """
    last_actions, step_outputs = tree.map_structure(
      lambda t: t[tf.newaxis], (last_actions, step_outputs)
    )
    output, state = self.unroll(last_actions, step_outputs, state)
    policy_logits, baseline = output.policy_logits[0], output.baseline[0]
    action = tfp.distributions.Categorical(logits=policy_logits, dtype=tf.int32).sample()
    return structs.AgentOutput(action, policy_logits, baseline), state

  def unroll(
    self, last_actions: tf.Tensor, step_outputs: structs.StepOutput, state: Any
  ) -> tuple[PolicyAndBaseline, Any]:
    """Computes policy and baseline of every observation of a batch of unrolls.

    Args:
      last_actions: int32 [T, B], row t the actions that led to row t of `step_outputs`.
      step_outputs: of [T, B, ...]. Where done, the state is zeroed before that row is consumed.
      state: of [B, ...], before row 0.

    Returns:
      Policy and baseline, and the state after the last row.

    Raises:
      ValueError: if the agent reads instructions and the observations have none.
    """
    # Sonnet's reshaping silently leaves NumPy arrays as they are.
    last_actions, step_outputs = tree.map_structure(
      tf.convert_to_tensor, (last_actions, step_outputs)
    )

    # Only the core needs the order of time; all else takes time and batch as one dimension.
    def flat(tensor):
      return snt.merge_leading_dims(tensor, 2)

    def unflat(tensor):
      return snt.split_leading_dim(tensor, step_outputs.reward, 2)

    observation = step_outputs.observation
    features = [self.torso(flat(observation.frame))]
    if self.use_last_action_and_reward:
      features.append(tf.clip_by_value(flat(step_outputs.reward), -1.0, 1.0)[:, tf.newaxis])
      features.append(tf.one_hot(flat(last_actions), self.num_actions))

    if self.instruction_encoder:
      if isinstance(observation.instruction, tuple):
        raise ValueError(
          'This agent reads instructions, but the observations have none: make it without the '
          'encoder.'
        )
      features.append(self.instruction_encoder(flat(observation.instruction)))

    if self.numbers_encoder:
      features.append(self.numbers_encoder(flat(observation.numbers)))

    inputs = tf.concat(features, axis=1)
    if self.mixer:
      inputs = tf.nn.relu(self.mixer(inputs))
    if self.core:
      outputs, state = self.core(unflat(inputs), state, resets=step_outputs.done)
      inputs = flat(outputs)

    baseline = tf.squeeze(self.baseline(inputs), axis=1)
    return PolicyAndBaseline(unflat(self.policy_logits(inputs)), unflat(baseline)), state


class Greedy(tf.Module):
  """An agent that takes the action of the highest probability, for evaluations; it acts but can't
  be trained.
  """

  def __init__(self, agent: Agent):
    """Takes a built agent, whose variables it shares."""
    super().__init__()
    self.num_actions = agent.num_actions
    self.initial_state = agent.initial_state
    self._agent = agent

  def step(
    self, last_actions: tf.Tensor, step_outputs: structs.StepOutput, state: Any
  ) -> tuple[structs.AgentOutput, Any]:
    """Acts as `Agent.step` does."""
    output, state = self._agent.step(last_actions, step_outputs, state)
    action = tf.argmax(output.policy_logits, axis=-1, output_type=tf.int32)
    return output._replace(action=action), state


def make_agent(
  num_actions: int,
  network: str | snt.Module,
  use_lstm: bool,
  use_last_action_and_reward: bool,
  use_instruction: bool,
  numbers_encoder: snt.Module | None = None,
  use_mixer: bool = False,
) -> Agent:
  """Puts an agent together from the paper's parts; its variables are yet to be made.

  Args:
    num_actions: size of the policy's logits.
    network: the torso, 'shallow', 'nature', 'deep' or 'vector', or 'package.module:MyTorso', a
      function without arguments that makes a Sonnet module from frames [N, ...] to features [N, n];
      or such a module.
    use_lstm: whether an LSTM of 256 stands before the heads.
    use_last_action_and_reward: whether the agent sees its last action and reward.
    use_instruction: whether it reads instructions.
    numbers_encoder: as for `Agent`.
    use_mixer: whether a linear layer of 256 stands before the heads, without an LSTM.

  Raises:
    ValueError: for an unknown network.
    ConfigurationError: for one that can't be imported.
  """
  if not isinstance(network, str):
    torso = network
  elif ':' in network:
    torso = import_reference('agent', network)()
  elif network in _TORSOS:
    torso = _TORSOS[network]()
  else:
    raise ValueError(f'Unknown network {network!r}; choose one of {", ".join(_TORSOS)}.')

  return Agent(
    num_actions,
    torso,
    instruction_encoder=networks.InstructionEncoder() if use_instruction else None,
    core=networks.LSTM(256) if use_lstm else None,
    use_last_action_and_reward=use_last_action_and_reward,
    numbers_encoder=numbers_encoder,
    mixer=snt.Linear(256, name='mixer') if use_mixer else None,
  )


def for_suite(suite: Any, config: Config) -> Agent:
  """Makes the agent of a `suite.Suite`, and its variables.

  It computes in the precision of the run where the processor can.
  """
  agent = suite.make_agent(config)
  agent.build(suite.observation_spec(config))
  if config.precision == 'bfloat16':
    if machine.graphics_cards() or machine.has_bfloat16():
      agent.torso.compute_dtype = tf.bfloat16
    else:
      logging.warning(
        'precision=bfloat16 changes nothing here: there is no graphics card, and the processor has '
        'neither AVX-512 nor AVX-NE-CONVERT.'
      )
  return agent
