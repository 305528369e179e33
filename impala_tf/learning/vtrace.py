"""V-trace: targets and advantages from trajectories of another policy (Espeholt et al., 2018,
section 4.1).

For a trajectory of the behaviour policy mu, with the learner's policy pi and its values V,

    rho_t   = min(rho_bar, pi(a_t|x_t) / mu(a_t|x_t))
    c_t     = lambda min(c_bar, pi(a_t|x_t) / mu(a_t|x_t))
    delta_t = rho_t (r_t + discount_t V(x_{t+1}) - V(x_t))
    v_s     = V(x_s) + delta_s + discount_s c_s (v_{s+1} - V(x_{s+1}))           (remark 1)

and the policy gradient's advantage is rho_s (q_s - V(x_s)) with q_s = r_s + discount_s v_{s+1}, and
a clipping of its own.

Here row t holds the observation x_t, the action taken on it, and that action's reward and discount;
`values` are V of rows 0..T-1 and `bootstrap_value` is V of row T. All functions are pure and run
eagerly as well as inside a tf.function.
"""

from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

Q_ESTIMATES = ('target', 'baseline')


class VTraceReturns(NamedTuple):
  """The targets v_s of the baseline, and the weights of grad log pi(a_s|x_s): float32 [T, B, ...],
  constants to the gradient.
  """

  vs: tf.Tensor
  pg_advantages: tf.Tensor


class VTraceFromLogitsReturns(NamedTuple):
  """VTraceReturns and what they were computed from, each float32 [T, B].

  Attributes:
    log_rhos: log pi(a_t|x_t) - log mu(a_t|x_t), not clipped.
    behaviour_action_log_probs: log mu(a_t|x_t).
    target_action_log_probs: log pi(a_t|x_t).
  """

  vs: tf.Tensor
  pg_advantages: tf.Tensor
  log_rhos: tf.Tensor
  behaviour_action_log_probs: tf.Tensor
  target_action_log_probs: tf.Tensor


def log_probs_from_logits_and_actions(policy_logits: tf.Tensor, actions: tf.Tensor) -> tf.Tensor:
  """Computes the log-probabilities of actions under softmax policies, float32 [T, B].

  Args:
    policy_logits: float32 [T, B, num_actions].
    actions: int32 [T, B].

  Raises:
    ValueError: for inputs of a wrong rank.
  """
  policy_logits = tf.convert_to_tensor(policy_logits, tf.float32)
  actions = tf.convert_to_tensor(actions, tf.int32)
  _check_rank('policy_logits', policy_logits, 3)
  _check_rank('actions', actions, 2)
  return tfp.distributions.Categorical(logits=policy_logits).log_prob(actions)


def from_logits(
  behaviour_policy_logits: tf.Tensor,
  target_policy_logits: tf.Tensor,
  actions: tf.Tensor,
  discounts: tf.Tensor,
  rewards: tf.Tensor,
  values: tf.Tensor,
  bootstrap_value: tf.Tensor,
  **options: Any,
) -> VTraceFromLogitsReturns:
  """Computes V-trace for softmax policies.

  Args:
    behaviour_policy_logits: float32 [T, B, num_actions], of the policy mu that acted.
    target_policy_logits: float32 [T, B, num_actions], of the learner's policy pi.
    actions: int32 [T, B], sampled from mu.
    discounts, rewards, values: float32 [T, B], as for `from_importance_weights`.
    bootstrap_value: float32 [B], the learner's V(x_T).
    **options: thresholds, `lambda_` and `q_estimate`, as for `from_importance_weights`.

  Raises:
    ValueError: as `from_importance_weights`.
  """
  behaviour_action_log_probs = log_probs_from_logits_and_actions(behaviour_policy_logits, actions)
  target_action_log_probs = log_probs_from_logits_and_actions(target_policy_logits, actions)
  log_rhos = target_action_log_probs - behaviour_action_log_probs
  returns = from_importance_weights(
    log_rhos=log_rhos,
    discounts=discounts,
    rewards=rewards,
    values=values,
    bootstrap_value=bootstrap_value,
    **options,
  )
  return VTraceFromLogitsReturns(
    **returns._asdict(),
    log_rhos=log_rhos,
    behaviour_action_log_probs=behaviour_action_log_probs,
    target_action_log_probs=target_action_log_probs,
  )


def from_importance_weights(
  log_rhos: tf.Tensor,
  discounts: tf.Tensor,
  rewards: tf.Tensor,
  values: tf.Tensor,
  bootstrap_value: tf.Tensor,
  clip_rho_threshold: float | None = 1.0,
  clip_pg_rho_threshold: float | None = 1.0,
  lambda_: float = 1.0,
  clip_c_threshold: float | None = 1.0,
  q_estimate: str = 'target',
) -> VTraceReturns:
  """Computes V-trace for given importance ratios.

  Dimensions after [T, B] broadcast: ratios [T, B, 1] may stand beside rewards [T, B, 42].

  Args:
    log_rhos: float32 [T, B, ...], log pi(a_t|x_t) - log mu(a_t|x_t). A logarithm, so that ratios
      don't under- or overflow before they are clipped.
    discounts: float32 [T, B, ...], gamma, or 0 where the action of that row ended an episode.
    rewards: float32 [T, B, ...], what the action of that row earned.
    values: float32 [T, B, ...], the learner's V(x_t).
    bootstrap_value: float32 [B, ...], the learner's V(x_T).
    clip_rho_threshold: rho_bar, None for no clipping.
    clip_pg_rho_threshold: the same for the ratios of the policy gradient.
    lambda_: scales c; 1 is the paper's setting.
    clip_c_threshold: c_bar, None for no clipping. The paper's theorems need c_bar <= rho_bar.
    q_estimate: q_s of the advantage, one of `Q_ESTIMATES`: 'target' for r_s + discount_s v_{s+1},
      'baseline' for r_s + discount_s V(x_{s+1}) (appendix E.3).

  Raises:
    ValueError: for a wrong rank, threshold or q_estimate, and lambda_ outside [0, 1].
  """
  _check_options(
    lambda_, q_estimate, rho=clip_rho_threshold, c=clip_c_threshold, pg_rho=clip_pg_rho_threshold
  )
  log_rhos, discounts, rewards, values, bootstrap_value = _of_fitting_ranks(
    log_rhos, discounts, rewards, values, bootstrap_value
  )

  rhos = tf.exp(log_rhos)
  cs = lambda_ * clipped(rhos, clip_c_threshold)
  values_t_plus_1 = tf.concat([values[1:], bootstrap_value[tf.newaxis]], axis=0)
  deltas = clipped(rhos, clip_rho_threshold) * (rewards + discounts * values_t_plus_1 - values)

  # The differences v_s - V(x_s), from the last row to the first.
  vs_minus_values = tf.scan(
    lambda following, row: row[0] + row[1] * following,
    (deltas, discounts * cs),
    initializer=tf.zeros_like(bootstrap_value),
    parallel_iterations=1,
    reverse=True,
  )
  vs = vs_minus_values + values

  vs_t_plus_1 = tf.concat([vs[1:], bootstrap_value[tf.newaxis]], axis=0)
  qs = rewards + discounts * (vs_t_plus_1 if q_estimate == 'target' else values_t_plus_1)
  pg_advantages = clipped(rhos, clip_pg_rho_threshold) * (qs - values)
  return VTraceReturns(vs=tf.stop_gradient(vs), pg_advantages=tf.stop_gradient(pg_advantages))


def clipped(rhos: tf.Tensor, threshold: float | None) -> tf.Tensor:
  """Clips ratios from above at a threshold, None for no clipping."""
  return rhos if threshold is None else tf.minimum(threshold, rhos)


def _check_options(lambda_, q_estimate, **thresholds):
  for name, threshold in thresholds.items():
    if threshold is not None and threshold <= 0:
      raise ValueError(f'clip_{name}_threshold must be positive or None, got {threshold}.')
  if not 0 <= lambda_ <= 1:
    raise ValueError(f'lambda_ must be in [0, 1], got {lambda_}.')
  if q_estimate not in Q_ESTIMATES:
    raise ValueError(f'q_estimate must be one of {", ".join(Q_ESTIMATES)}, got {q_estimate!r}.')


def _of_fitting_ranks(log_rhos, *others):
  """Returns the arguments of `from_importance_weights` as tensors of ranks that fit together."""
  log_rhos, *others = (tf.convert_to_tensor(t, tf.float32) for t in (log_rhos, *others))
  rank = log_rhos.shape.rank
  if rank is not None:
    for name, tensor in zip(('discounts', 'rewards', 'values'), others, strict=False):
      _check_rank(name, tensor, rank)
    _check_rank('bootstrap_value', others[-1], rank - 1)
  return log_rhos, *others


def _check_rank(name, tensor, rank):
  if tensor.shape.rank not in (None, rank):
    raise ValueError(f'{name} must have rank {rank}, got shape {tensor.shape}.')
