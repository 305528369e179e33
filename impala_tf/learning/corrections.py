"""How a loss accounts for actions that an older policy chose: V-trace, and what the paper compares
it with (Section 5.2.2).

    name           targets of the baseline             policy gradient
    vtrace         V-trace                             min(rho_bar, pi/mu) grad log pi (q - V)
    one_step_is    n-step returns, uncorrected         min(rho_bar, pi/mu) grad log pi (q - V)
    epsilon        n-step returns, uncorrected         grad log(pi + 1e-6) (q - V)
    none           n-step returns, uncorrected         grad log pi (q - V)

On the policy's own actions, pi = mu, all are the same but for the 1e-6. The paper describes the
last three in words; that their targets are V-trace's with all ratios taken for one, which are
n-step returns, is this module's reading.
"""

import dataclasses

import tensorflow as tf

from impala_tf.learning import vtrace

EPSILON = 1e-6  # Section 5.2.2.


@dataclasses.dataclass(frozen=True)
class Correction:
  """A row of the table above; the fields are those of `config.Config`, `name` being its
  `correction`.

  clip_rho_threshold, clip_c_threshold: of V-trace's targets, None for no clipping.
  clip_pg_rho_threshold: of the ratios of the policy gradient, None for no clipping.
  lambda_: scales the traces, with or without ratios.
  q_estimate: one of `vtrace.Q_ESTIMATES`.
  """

  name: str = 'vtrace'
  clip_rho_threshold: float | None = 1.0
  clip_c_threshold: float | None = 1.0
  clip_pg_rho_threshold: float | None = 1.0
  lambda_: float = 1.0
  q_estimate: str = 'target'

  def __post_init__(self):
    """Raises ValueError for an unknown name."""
    if self.name not in ('vtrace', 'one_step_is', 'epsilon', 'none'):
      raise ValueError(
        f'Unknown correction {self.name!r}; choose vtrace, one_step_is, epsilon or none.'
      )

  @property
  def policy_gradient_epsilon(self):
    """What `losses.policy_gradient_loss` adds to probabilities, a float."""
    return EPSILON if self.name == 'epsilon' else 0.0

  def returns(
    self,
    behaviour_policy_logits,
    target_policy_logits,
    actions,
    discounts,
    rewards,
    values,
    bootstrap_value,
  ):
    """Targets and advantages.

    Args:
      behaviour_policy_logits, ..., bootstrap_value: as for `vtrace.from_logits`.

    Returns:
      `vtrace.VTraceFromLogitsReturns`; the ratios are those of the policies, whether or not they
      are used.
    """
    corrected = vtrace.from_logits(
      behaviour_policy_logits,
      target_policy_logits,
      actions,
      discounts,
      rewards,
      values,
      bootstrap_value,
      clip_rho_threshold=self.clip_rho_threshold,
      clip_pg_rho_threshold=self.clip_pg_rho_threshold,
      lambda_=self.lambda_,
      clip_c_threshold=self.clip_c_threshold,
      q_estimate=self.q_estimate,
    )
    if self.name == 'vtrace':
      return corrected
    uncorrected = vtrace.from_importance_weights(
      tf.zeros_like(corrected.log_rhos),
      discounts,
      rewards,
      values,
      bootstrap_value,
      clip_rho_threshold=None,
      clip_pg_rho_threshold=None,
      lambda_=self.lambda_,
      clip_c_threshold=None,
      q_estimate=self.q_estimate,
    )
    pg_advantages = uncorrected.pg_advantages
    if self.name == 'one_step_is':
      pg_advantages *= tf.stop_gradient(
        vtrace.clipped(tf.exp(corrected.log_rhos), self.clip_pg_rho_threshold)
      )
    return corrected._replace(vs=uncorrected.vs, pg_advantages=pg_advantages)


V_TRACE = Correction()
