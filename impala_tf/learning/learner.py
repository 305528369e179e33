"""The learner's update: unroll the agent on a batch, loss, gradient, clipping, RMSProp.

Each call is one update, on one batch:

    learner = Learner(agent, optimizer, config)
    metrics = learner.update(unrolls)
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import NamedTuple, Self

import tensorflow as tf

from impala_tf import errors, structs
from impala_tf.acting import weights
from impala_tf.agent import agents
from impala_tf.config import Config
from impala_tf.learning import losses, optimizers

_NOT_FINITE = 'The total loss or the norm of its gradient'


class NonFiniteLossError(errors.UserError, RuntimeError):
  """The loss or its gradient is NaN or infinite. The update it was found in changed nothing."""


class Gradients(NamedTuple):
  """Loss and gradients of a batch that an A3C worker computed with its own copy of the weights; see
  `Learner.loss_and_gradients`.

  Attributes:
    loss: of the batch.
    gradients: in the order of `agent.trainable_variables`.
    policy_version: int32 [B], of the unrolls.
  """

  loss: losses.Loss
  gradients: list[tf.Tensor | tf.IndexedSlices]
  policy_version: tf.Tensor


class Metrics(NamedTuple):
  """Numbers of one update, all scalars.

  Attributes:
    total_loss, pg_loss, baseline_loss, entropy_loss: float32, as in `losses.Loss`.
    learning_rate: float32, the one this update used.
    gradient_norm: float32, before clipping.
    lag_min, lag_mean, lag_max: int64, float32, int64; how many updates ago the policies that acted
      were the newest, of the new unrolls alone.
    replayed_lag_mean: float32, the same of replayed ones; None without replay.
    updates, frames: int64, the learner's counters after the update.
    extra_loss: float32, as in `losses.Loss`; None without one.
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
  extra_loss: tf.Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Tunable:
  """The hyper-parameters that may change while a learner learns, as float32 scalar variables.

  The update reads them each time. Deliberately not a tf.Module: these values come from the
  configuration and must not be restored from the learner's checkpoint. A callback that changes
  them must checkpoint them itself.

  Attributes:
    learning_rate: initial one, before its decay.
    entropy_cost: weight of the entropy loss.
    epsilon: of RMSProp.
    clip_global_norm: largest norm of the gradient, None for no clipping.
  """

  learning_rate: tf.Variable
  entropy_cost: tf.Variable
  epsilon: tf.Variable
  clip_global_norm: tf.Variable | None

  @classmethod
  def of(cls, config: Config) -> Self:
    """Makes the variables, with the values of a configuration."""

    def variable(name):
      value = getattr(config, name)
      if value is None:
        return None
      return tf.Variable(value, trainable=False, dtype=tf.float32, name=name)

    return cls(**{field.name: variable(field.name) for field in dataclasses.fields(cls)})

  def variables(self) -> dict[str, tf.Variable]:
    """Returns the variables by name, without those that are None."""
    return {name: variable for name, variable in vars(self).items() if variable is not None}


class Learner(tf.Module):
  """Improves an agent by one update for each batch of unrolls.

  `agent`, `optimizer`, `frames` (int64, emulator frames consumed) and `updates` (int64) are what a
  checkpoint must hold; `tunable` is a `Tunable`.
  """

  def __init__(
    self,
    agent: agents.Agent,
    optimizer: optimizers.RMSProp,
    config: Config,
    name: str = 'learner',
  ):
    """Binds the parts and makes the counters.

    Args:
      agent: whose variables exist.
      optimizer: made with `agent.trainable_variables`.
      config: of the run.
      name: of the module.

    Raises:
      ConfigurationError: for reward clipping or correction of an unknown name.
    """
    super().__init__(name=name)
    # An unknown name should fail here, not in the first update.
    losses.find_reward_transform(config.reward_clipping)
    losses.find_correction(config.correction)
    self._config = config
    self.agent = agent
    self.optimizer = optimizer
    self.frames = tf.Variable(0, dtype=tf.int64, trainable=False, name='frames')
    self.updates = tf.Variable(0, dtype=tf.int64, trainable=False, name='updates')
    self.tunable = Tunable.of(config)
    # Compiling pays on graphics cards, and XLA knows no instructions.
    self._loss_and_gradients = tf.function(
      self._build_loss_and_gradients, jit_compile=config.jit_compile, autograph=False
    )

  def update(self, batch: structs.Unroll | Gradients) -> Metrics:
    """Takes one step, on a batch of unrolls or with gradients that a worker computed.

    Args:
      batch: unrolls, time-major: [T+1, B, ...] for step and agent outputs, [B, ...] for the rest,
        of the same static shape each time; or `Gradients`, which are applied to the weights as
        they are by now.

    Raises:
      NonFiniteLossError: if the loss or the gradient is not finite. No variable has changed then.
    """
    with self._named_errors():
      return self._apply(batch) if isinstance(batch, Gradients) else self._update(batch)

  def loss_and_gradients(self, unroll: structs.Unroll, copies: list[tf.Tensor]) -> Gradients:
    """Computes what `update` takes where the weights are `copies`; for use inside a tf.function.

    Args:
      unroll: as for `update`.
      copies: in the order and shapes of `agent.trainable_variables`.
    """
    entropy_cost = self.tunable.entropy_cost.read_value()
    loss, gradients = self._loss_and_gradients(unroll, entropy_cost, copies)
    return Gradients(loss, gradients, unroll.policy_version)

  @contextlib.contextmanager
  def _named_errors(self) -> Iterator[None]:
    try:
      yield
    except tf.errors.InvalidArgumentError as error:
      if _NOT_FINITE not in error.message:
        raise
      raise NonFiniteLossError(
        f'Update {self.updates.numpy() + 1} has a loss or gradient that is not finite. Nothing was '
        'changed; try a lower learning rate or entropy cost, or a larger epsilon, in another '
        '--logdir, and look at the rewards.'
      ) from error

  @tf.function(autograph=False)
  def _update(self, unroll):
    loss, gradients = self._loss_and_gradients(unroll, self.tunable.entropy_cost.read_value())
    return self._step(Gradients(loss, gradients, unroll.policy_version))

  @tf.function(autograph=False)
  def _apply(self, gradients):
    return self._step(gradients)

  def _build_loss_and_gradients(self, unroll, entropy_cost, copies=None):
    sources, computing = self.agent.trainable_variables, contextlib.nullcontext()
    if copies is not None:
      sources, computing = copies, weights.with_weights(self.agent, copies)
    with tf.GradientTape() as tape, computing:
      tape.watch(sources)
      outputs, _ = self.agent.unroll(
        unroll.agent_outputs.action, unroll.step_outputs, unroll.agent_state
      )
      loss = losses.compute_loss(outputs, unroll, self._config, entropy_cost)
    # A variable that the loss does not reach, such as one behind a tf.stop_gradient, stays.
    gradients = tape.gradient(
      loss.total, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return loss, gradients

  def _step(self, computed):
    norm, learning_rate = self._change_variables(computed.loss.total, computed.gradients)
    return self._count(computed.loss, norm, learning_rate, computed.policy_version)

  def _change_variables(self, total_loss, gradients):
    """Applies the gradients unless something is not finite; returns their norm and the rate."""
    tunable = self.tunable
    gradients, norm = optimizers.clip_by_global_norm(gradients, tunable.clip_global_norm)
    learning_rate = tunable.learning_rate.read_value()
    if self._config.learning_rate_decay == 'linear':
      learning_rate = optimizers.linear_decay(
        learning_rate, self.frames, self._config.total_environment_frames
      )

    finite = [tf.debugging.check_numerics(t, _NOT_FINITE) for t in (total_loss, norm)]
    with tf.control_dependencies(finite):
      self.optimizer.apply(
        gradients, self.agent.trainable_variables, learning_rate, tunable.epsilon.read_value()
      )
      return tf.identity(norm), learning_rate

  def _count(self, loss, norm, learning_rate, policy_version):
    """Moves the counters on and returns the metrics."""
    lags = self.updates - tf.cast(policy_version, tf.int64)
    with tf.control_dependencies([norm, lags]):
      frames = self.frames.assign_add(self._config.frames_per_update)
      updates = self.updates.assign_add(1)

    # Replayed unrolls stand behind the new ones; their frames were counted when they were new.
    fresh, replayed = lags[: self._config.fresh_per_batch], lags[self._config.fresh_per_batch :]
    replayed_lag_mean = None
    if self._config.replayed_per_batch:
      replayed_lag_mean = tf.reduce_mean(tf.cast(replayed, tf.float32))
    return Metrics(
      total_loss=loss.total,
      pg_loss=loss.pg,
      baseline_loss=loss.baseline,
      entropy_loss=loss.entropy,
      learning_rate=learning_rate,
      gradient_norm=norm,
      lag_min=tf.reduce_min(fresh),
      lag_mean=tf.reduce_mean(tf.cast(fresh, tf.float32)),
      lag_max=tf.reduce_max(fresh),
      replayed_lag_mean=replayed_lag_mean,
      updates=tf.identity(updates),
      frames=tf.identity(frames),
      extra_loss=loss.extra,
    )
