"""The learner's update: unroll the agent on a batch, V-trace or another correction, losses,
clipping, RMSProp.
"""

import contextlib
import dataclasses
from typing import NamedTuple

import tensorflow as tf

from impala_tf import errors
from impala_tf.acting import weights
from impala_tf.learning import corrections, losses, optimizers, rewards, vtrace

_NOT_FINITE = 'The total loss or the norm of its gradient'


class NonFiniteLossError(errors.UserError, RuntimeError):
  """The loss or its gradient is NaN or infinite. The update it was found in changed nothing."""


class Loss(NamedTuple):
  """The loss of a batch and what it was made of.

  total: float32 scalar, pg + baseline_cost * baseline + entropy_cost * entropy.
  pg, baseline, entropy: float32 scalars, see `losses`.
  clipped_rewards, discounts: float32 [T, B].
  vtrace_returns: `vtrace.VTraceFromLogitsReturns` of [T, B], as the correction made them.
  """

  total: tf.Tensor
  pg: tf.Tensor
  baseline: tf.Tensor
  entropy: tf.Tensor
  clipped_rewards: tf.Tensor
  discounts: tf.Tensor
  vtrace_returns: vtrace.VTraceFromLogitsReturns


class Metrics(NamedTuple):
  """Of one update, all scalars.

  total_loss, pg_loss, baseline_loss, entropy_loss: float32, as in `Loss`, sums over time and batch.
  learning_rate: float32, the one this update used.
  gradient_norm: float32, before clipping.
  lag_min, lag_mean, lag_max: int64, float32, int64; how many updates ago the policies that acted
    were the newest, of the new unrolls alone.
  replayed_lag_mean: float32, the same of replayed ones; None without replay.
  updates, frames: int64, the learner's counters after the update.
  """

  total_loss: tf.Tensor
  pg_loss: tf.Tensor
  baseline_loss: tf.Tensor
  entropy_loss: tf.Tensor
  learning_rate: tf.Tensor
  gradient_norm: tf.Tensor
  lag_min: tf.Tensor
  lag_mean: tf.Tensor
  lag_max: tf.Tensor
  replayed_lag_mean: tf.Tensor | None
  updates: tf.Tensor
  frames: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Tunable:
  """The hyper-parameters that may change while a learner learns: float32 scalar variables, which
  its update reads each time.

  It is no tf.Module, so that checkpoints of a learner hold none of them: a run has them in its
  configuration, and must not find others in its checkpoint. Who changes them has to save them.

  learning_rate: at frame 0.
  entropy_cost: weight of the entropy loss.
  epsilon: of RMSProp.
  clip_global_norm: largest norm of the gradient, None for no clipping.
  """

  learning_rate: tf.Variable
  entropy_cost: tf.Variable
  epsilon: tf.Variable
  clip_global_norm: tf.Variable | None

  def variables(self):
    """Those that there are by name, a dict."""
    values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    return {name: value for name, value in values.items() if value is not None}


def compute_loss(
  learner_outputs,
  unroll,
  *,
  discounting,
  entropy_cost,
  baseline_cost,
  reward_clipping,
  correction=corrections.V_TRACE,
):
  """The actor-critic loss of a batch of unrolls.

  Args:
    learner_outputs: `agents.PolicyAndBaseline` of [T+1, B, ...], the learner's own, on the
      observations of `unroll`.
    unroll: `structs.Unroll`, time-major.
    discounting: gamma.
    entropy_cost: weight of the entropy loss, a number or a float32 scalar.
    baseline_cost: weight of the baseline loss.
    reward_clipping: a name of `rewards.TRANSFORMS`.
    correction: `corrections.Correction`, V-trace by default.

  Returns:
    Loss.
  """
  # Row t of the unroll holds the action, reward and done that came AFTER observation t-1 (see
  # `structs`). Without row 0 of theirs and row T of the learner's, row t of each belongs to the
  # same observation; the last baseline is the bootstrap.
  actions, behaviour_logits = (
    unroll.agent_outputs.action[1:],
    unroll.agent_outputs.policy_logits[1:],
  )
  reward, done = unroll.step_outputs.reward[1:], unroll.step_outputs.done[1:]
  policy_logits, values = learner_outputs.policy_logits[:-1], learner_outputs.baseline[:-1]
  bootstrap_value = learner_outputs.baseline[-1]

  clipped_rewards = rewards.get(reward_clipping)(reward)
  discounts = discounting * tf.cast(~done, tf.float32)
  returns = correction.returns(
    behaviour_policy_logits=behaviour_logits,
    target_policy_logits=policy_logits,
    actions=actions,
    discounts=discounts,
    rewards=clipped_rewards,
    values=values,
    bootstrap_value=bootstrap_value,
  )
  pg = losses.policy_gradient_loss(
    policy_logits, actions, returns.pg_advantages, correction.policy_gradient_epsilon
  )
  baseline = losses.baseline_loss(values, returns.vs)
  entropy = losses.entropy_loss(policy_logits)
  total = pg + baseline_cost * baseline + entropy_cost * entropy
  return Loss(total, pg, baseline, entropy, clipped_rewards, discounts, returns)


class Learner(tf.Module):
  """Improves an agent by one update for each batch of unrolls.

  `agent`, `optimizer`, `frames` (int64, emulator frames consumed) and `updates` (int64) are what a
  checkpoint must hold; `tunable` is a `Tunable`.
  """

  def __init__(
    self,
    agent,
    optimizer,
    *,
    learning_rate,
    epsilon,
    total_environment_frames,
    num_action_repeats,
    discounting,
    entropy_cost,
    baseline_cost,
    reward_clipping,
    clip_global_norm=None,
    learning_rate_decay='linear',
    correction=corrections.V_TRACE,
    replayed=0,
    jit_compile=False,
    name='learner',
  ):
    """Binds a built agent, the optimizer of its `trainable_variables`, and the hyper-parameters.

    Args:
      agent: `agents.Agent` whose variables exist.
      optimizer: `optimizers.RMSProp` made with `agent.trainable_variables`.
      learning_rate: at frame 0.
      epsilon: of RMSProp.
      total_environment_frames: int, where the learning rate reaches 0, action repeats counted.
      num_action_repeats: emulator frames of one agent step.
      discounting: gamma.
      entropy_cost: weight of the entropy loss.
      baseline_cost: weight of the baseline loss.
      reward_clipping: a name of `rewards.TRANSFORMS`.
      clip_global_norm: largest norm of the gradient, None for no clipping.
      learning_rate_decay: 'linear', to 0, or 'none'.
      correction: `corrections.Correction`, V-trace by default.
      replayed: int, how many unrolls of each batch are from a replay: their frames were counted
        before.
      jit_compile: whether XLA compiles the loss and its gradient. It pays on GPUs, and knows no
        instructions.
      name: of the module.

    Raises:
      ValueError: for an unknown reward clipping.
    """
    super().__init__(name=name)
    self._loss_and_gradients = tf.function(
      self._build_loss_and_gradients, jit_compile=jit_compile, autograph=False
    )
    rewards.get(reward_clipping)  # An unknown name should fail here, not in the first update.
    self.agent = agent
    self.optimizer = optimizer
    self.frames = tf.Variable(0, dtype=tf.int64, trainable=False, name='frames')
    self.updates = tf.Variable(0, dtype=tf.int64, trainable=False, name='updates')
    variable = lambda value, name: tf.Variable(value, dtype=tf.float32, trainable=False, name=name)
    self.tunable = Tunable(
      learning_rate=variable(learning_rate, 'learning_rate'),
      entropy_cost=variable(entropy_cost, 'entropy_cost'),
      epsilon=variable(epsilon, 'epsilon'),
      clip_global_norm=None
      if clip_global_norm is None
      else variable(clip_global_norm, 'clip_global_norm'),
    )
    self._learning_rate_decay = learning_rate_decay
    self._total_environment_frames = total_environment_frames
    self._num_action_repeats = num_action_repeats
    self._replayed = replayed
    self._loss_arguments = {
      'discounting': discounting,
      'baseline_cost': baseline_cost,
      'reward_clipping': reward_clipping,
      'correction': correction,
    }

  def update(self, unroll):
    """Takes one step on a batch.

    Args:
      unroll: `structs.Unroll`, time-major: [T+1, B, ...] for step and agent outputs, [B, ...] for
        the rest, of the same static shape each time.

    Returns:
      Metrics.

    Raises:
      NonFiniteLossError: if the loss or the gradient is not finite. No variable has changed then.
    """
    with self._errors_named():
      return self._update(unroll)

  def loss_and_gradients(self, unroll, copies):
    """Loss and gradients where the weights are `copies`, for a worker that has its own; for use
    inside a tf.function.

    Args:
      unroll: as for `update`.
      copies: list of tensors in the order and shapes of `agent.trainable_variables`.

    Returns:
      Loss, and a list of gradients in the same order.
    """
    return self._loss_and_gradients(unroll, self.tunable.entropy_cost.read_value(), copies)

  def apply(self, loss, gradients, policy_version):
    """Takes one step with what `loss_and_gradients` gave, whatever the weights are by now.

    Args:
      loss: Loss.
      gradients: list of tensors or tf.IndexedSlices.
      policy_version: int32 [B], of the unrolls.

    Returns:
      Metrics.

    Raises:
      NonFiniteLossError: as `update`.
    """
    with self._errors_named():
      return self._apply_alone(loss, gradients, policy_version)

  @contextlib.contextmanager
  def _errors_named(self):
    try:
      yield
    except tf.errors.InvalidArgumentError as error:
      if _NOT_FINITE not in error.message:
        raise
      raise NonFiniteLossError(
        f'Update {self.updates.numpy() + 1} has a loss or gradient that is not finite. Nothing was changed; try a lower '
        'learning rate or entropy cost, or a larger epsilon, and look at the rewards.'
      ) from error

  def _build_loss_and_gradients(self, unroll, entropy_cost, copies=None):
    sources = self.agent.trainable_variables if copies is None else copies
    computing = (
      contextlib.nullcontext() if copies is None else weights.with_weights(self.agent, copies)
    )
    with tf.GradientTape() as tape, computing:
      tape.watch(sources)
      outputs, _ = self.agent.unroll(
        unroll.agent_outputs.action, unroll.step_outputs, unroll.agent_state
      )
      loss = compute_loss(outputs, unroll, entropy_cost=entropy_cost, **self._loss_arguments)
    return loss, tape.gradient(loss.total, sources)

  @tf.function
  def _update(self, unroll):
    loss, gradients = self._loss_and_gradients(unroll, self.tunable.entropy_cost.read_value())
    return self._apply(loss, gradients, unroll.policy_version)

  @tf.function
  def _apply_alone(self, loss, gradients, policy_version):
    return self._apply(loss, gradients, policy_version)

  def _apply(self, loss, gradients, policy_version):
    norm, learning_rate = self._step(loss.total, gradients)
    return self._count(loss, norm, learning_rate, policy_version, loss.clipped_rewards.shape)

  def _step(self, total_loss, gradients):
    """Changes the variables, unless something is not finite; the gradients' norm and the learning
    rate.
    """
    tunable = self.tunable
    gradients, norm = optimizers.clip_by_global_norm(gradients, tunable.clip_global_norm)
    learning_rate = tunable.learning_rate.read_value()
    if self._learning_rate_decay == 'linear':
      learning_rate = optimizers.linear_decay(
        learning_rate, self.frames, self._total_environment_frames
      )
    finite = [tf.debugging.check_numerics(t, _NOT_FINITE) for t in (total_loss, norm)]
    with tf.control_dependencies(finite):
      self.optimizer.apply(
        gradients, self.agent.trainable_variables, learning_rate, tunable.epsilon.read_value()
      )
      return tf.identity(norm), learning_rate

  def _count(self, loss, norm, learning_rate, policy_version, shape):
    """Moves the counters on; `shape` is [T, B], all that was learned from."""
    steps, batch_size = shape
    fresh = batch_size - self._replayed
    lags = self.updates - tf.cast(policy_version, tf.int64)
    with tf.control_dependencies([norm, lags]):
      frames = self.frames.assign_add(steps * fresh * self._num_action_repeats)
      updates = self.updates.assign_add(1)
    return Metrics(
      total_loss=loss.total,
      pg_loss=loss.pg,
      baseline_loss=loss.baseline,
      entropy_loss=loss.entropy,
      learning_rate=learning_rate,
      gradient_norm=norm,
      lag_min=tf.reduce_min(lags[:fresh]),
      lag_mean=tf.reduce_mean(tf.cast(lags[:fresh], tf.float32)),
      lag_max=tf.reduce_max(lags[:fresh]),
      replayed_lag_mean=tf.reduce_mean(tf.cast(lags[fresh:], tf.float32))
      if self._replayed
      else None,
      updates=tf.identity(updates),
      frames=tf.identity(frames),
    )
