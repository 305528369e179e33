"""The loss of a batch: clips rewards, corrects for older policies, and adds up three losses.

    loss = compute_loss(learner_outputs, unroll, config)

How a loss accounts for actions that an older policy chose is V-trace, or what the paper compares
it with (Section 5.2.2):

    correction     targets of the baseline             policy gradient
    vtrace         V-trace                             min(rho_bar, pi/mu) grad log pi (q - V)
    one_step_is    n-step returns, uncorrected         min(rho_bar, pi/mu) grad log pi (q - V)
    epsilon        n-step returns, uncorrected         grad log(pi + 1e-6) (q - V)
    none           n-step returns, uncorrected         grad log pi (q - V)

On the policy's own actions, pi = mu, all are the same but for the 1e-6. The paper describes the
last three in words, read here as V-trace's targets with all ratios one: n-step returns.

Functions from outside of the project may take part: `reward_clipping`, `correction` and
`extra_loss` of the configuration may each name one, such as `my_package.losses:my_term`.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from impala_tf import structs
from impala_tf.agent import agents
from impala_tf.config import Config
from impala_tf.config.options import import_reference
from impala_tf.learning import vtrace

EPSILON = 1e-6  # of the epsilon-correction, Section 5.2.2


class Loss(NamedTuple):
  """The loss of a batch and what it was made of.

  Attributes:
    total: float32 scalar, pg + baseline_cost * baseline + entropy_cost * entropy + extra.
    pg, baseline, entropy: float32 scalars, see the functions below.
    extra: float32 scalar, the term that `config.extra_loss` names; None without one.
    clipped_rewards, discounts: float32 [T, B]; the reward of a truncated row is its value.
    vtrace_returns: `vtrace.VTraceFromLogitsReturns` of [T, B], as the correction made them.
  """

  total: tf.Tensor
  pg: tf.Tensor
  baseline: tf.Tensor
  entropy: tf.Tensor
  extra: tf.Tensor | None
  clipped_rewards: tf.Tensor
  discounts: tf.Tensor
  vtrace_returns: vtrace.VTraceFromLogitsReturns


def compute_loss(
  learner_outputs: agents.PolicyAndBaseline,
  unroll: structs.Unroll,
  config: Config,
  entropy_cost: float | tf.Tensor | None = None,
) -> Loss:
  """Computes the actor-critic loss of a batch of unrolls.

  Args:
    learner_outputs: of [T+1, B, ...], the learner's own, on the observations of `unroll`.
    unroll: time-major.
    config: of the run; the fields that count are those of the loss.
    entropy_cost: weight of the entropy loss, a float32 scalar; that of `config` if left out.

  An extra loss is a function of `learner_outputs`, `unroll`, the `Loss` without it, and `config`,
  that returns a float32 scalar: a sum over time and batch, weighted as it is to be.
  """
  # Row t of the unroll holds the action, reward and done that came AFTER observation t-1 (see
  # `structs`). Without row 0 of theirs and row T of the learner's, row t of each belongs to the
  # same observation; the last baseline is the bootstrap.
  actions = unroll.agent_outputs.action[1:]
  behaviour_logits = unroll.agent_outputs.policy_logits[1:]
  rewards, done = unroll.step_outputs.reward[1:], unroll.step_outputs.done[1:]
  policy_logits, values = learner_outputs.policy_logits[:-1], learner_outputs.baseline[:-1]
  bootstrap_value = learner_outputs.baseline[-1]

  # A truncated row ends no task: with its own value as reward, temporal difference and advantage
  # are zero under each correction, and the row before bootstraps from that value.
  rewards = find_reward_transform(config.reward_clipping)(config.reward_scale * rewards)
  worth = tf.stop_gradient(values)
  clipped_rewards = tf.where(unroll.step_outputs.truncated[1:], worth, rewards)
  discounts = config.discounting * tf.cast(~done, tf.float32)
  returns = find_correction(config.correction)(
    config,
    behaviour_policy_logits=behaviour_logits,
    target_policy_logits=policy_logits,
    actions=actions,
    discounts=discounts,
    rewards=clipped_rewards,
    values=values,
    bootstrap_value=bootstrap_value,
  )

  epsilon = EPSILON if config.correction == 'epsilon' else 0.0
  pg = policy_gradient_loss(policy_logits, actions, returns.pg_advantages, epsilon)
  baseline = baseline_loss(values, returns.vs)
  entropy = entropy_loss(policy_logits)
  if entropy_cost is None:
    entropy_cost = config.entropy_cost
  total = pg + config.baseline_cost * baseline + entropy_cost * entropy
  loss = Loss(total, pg, baseline, entropy, None, clipped_rewards, discounts, returns)

  if not config.extra_loss:
    return loss
  extra = import_reference('extra_loss', config.extra_loss)(learner_outputs, unroll, loss, config)
  return loss._replace(total=total + extra, extra=extra)


def policy_gradient_loss(
  policy_logits: tf.Tensor, actions: tf.Tensor, advantages: tf.Tensor, epsilon: float = 0.0
) -> tf.Tensor:
  """Computes - sum log(pi(a_t|x_t) + epsilon) advantage_t, a scalar (Section 4.2).

  This loss and the two below are sums over time and batch, never means: learning rates, RMSProp's
  epsilon and the clipping of gradients take the scale of a sum for granted (caption of Table D.1).

  Args:
    policy_logits: float32 [T, B, num_actions].
    actions: int32 [T, B].
    advantages: float32 [T, B]; no gradient flows through them.
    epsilon: keeps the logarithm, and so its gradient, bounded where the policy has become small.
  """
  log_probs = tfp.distributions.Categorical(logits=policy_logits).log_prob(actions)
  if epsilon:
    log_probs = tf.math.log(tf.exp(log_probs) + epsilon)
  return -tf.reduce_sum(log_probs * tf.stop_gradient(advantages))


def baseline_loss(values: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
  """Computes 1/2 sum (target_t - V(x_t))^2, a scalar, from float32 [T, B] both.

  No gradient flows through the targets.
  """
  return 0.5 * tf.reduce_sum(tf.square(tf.stop_gradient(targets) - values))


def entropy_loss(policy_logits: tf.Tensor) -> tf.Tensor:
  """Computes minus the sum of the entropies of the policies, float32 [T, B, num_actions].

  The scalar falls as the policies spread.
  """
  return -tf.reduce_sum(tfp.distributions.Categorical(logits=policy_logits).entropy())


def abs_one(rewards: tf.Tensor) -> tf.Tensor:
  """Clips rewards to [-1, 1] (Tables D.3 and G.1: single tasks, Atari)."""
  return tf.clip_by_value(rewards, -1.0, 1.0)


def optimistic_asymmetric(rewards: tf.Tensor) -> tf.Tensor:
  """Computes 0.3 min(tanh r, 0) + 5 max(tanh r, 0), the paper's for DMLab-30 (Figure D.1)."""
  squeezed = tf.tanh(rewards)
  return 0.3 * tf.minimum(squeezed, 0.0) + 5.0 * tf.maximum(squeezed, 0.0)


def soft_asymmetric(rewards: tf.Tensor) -> tf.Tensor:
  """Computes 5 tanh(r / 5), times 0.3 where it is negative.

  The authors' released code has this in place of the paper's formula.
  """
  squeezed = tf.tanh(rewards / 5.0)
  return 5.0 * tf.where(rewards < 0, 0.3 * squeezed, squeezed)


# Functions of float32 rewards of any shape, as the loss uses them. Returns of episodes are always
# reported as the environment gave them.
REWARD_TRANSFORMS: dict[str, Callable] = {
  'none': tf.identity,
  'abs_one': abs_one,
  'optimistic_asymmetric': optimistic_asymmetric,
  'soft_asymmetric': soft_asymmetric,
}


def corrected(config: Config, **trajectory: tf.Tensor) -> vtrace.VTraceFromLogitsReturns:
  """Computes V-trace's targets and advantages; `trajectory` is as for `vtrace.from_logits`."""
  return vtrace.from_logits(
    **trajectory,
    clip_rho_threshold=config.clip_rho_threshold,
    clip_c_threshold=config.clip_c_threshold,
    clip_pg_rho_threshold=config.clip_pg_rho_threshold,
    lambda_=config.lambda_,
    q_estimate=config.q_estimate,
  )


def uncorrected(
  config: Config,
  discounts: tf.Tensor,
  rewards: tf.Tensor,
  values: tf.Tensor,
  bootstrap_value: tf.Tensor,
  **policies: tf.Tensor,
) -> vtrace.VTraceFromLogitsReturns:
  """Computes n-step returns and their advantages, as if the learner's own policy had acted."""
  trajectory = {
    'discounts': discounts,
    'rewards': rewards,
    'values': values,
    'bootstrap_value': bootstrap_value,
  }
  returns = corrected(config, **trajectory, **policies)
  n_step = vtrace.from_importance_weights(
    **trajectory,
    log_rhos=tf.zeros_like(returns.log_rhos),
    clip_rho_threshold=None,
    clip_c_threshold=None,
    clip_pg_rho_threshold=None,
    lambda_=config.lambda_,
    q_estimate=config.q_estimate,
  )
  return returns._replace(vs=n_step.vs, pg_advantages=n_step.pg_advantages)


def one_step_importance_sampled(
  config: Config, **trajectory: tf.Tensor
) -> vtrace.VTraceFromLogitsReturns:
  """Computes n-step returns, and advantages that are weighted by the clipped ratio of their row."""
  returns = uncorrected(config, **trajectory)
  ratios = vtrace.clipped(tf.exp(returns.log_rhos), config.clip_pg_rho_threshold)
  return returns._replace(pg_advantages=returns.pg_advantages * tf.stop_gradient(ratios))


# The table at the top of this module. The log_rhos of all are those of the policies, used or not.
CORRECTIONS: dict[str, Callable] = {
  'vtrace': corrected,
  'one_step_is': one_step_importance_sampled,
  'epsilon': uncorrected,  # and see `EPSILON`
  'none': uncorrected,
}


def find_reward_transform(name: str) -> Callable:
  """Returns the function that `config.reward_clipping` names, of this module or of another one.

  Raises:
    ConfigurationError: if there is none of that name.
  """
  return REWARD_TRANSFORMS.get(name) or import_reference('reward_clipping', name)


def find_correction(name: str) -> Callable:
  """Returns the function that `config.correction` names, as `find_reward_transform` does."""
  return CORRECTIONS.get(name) or import_reference('correction', name)
