"""The three losses of the actor-critic update (Espeholt et al., 2018, section 4.2).

Each is a sum over time and batch, never a mean: learning rates, RMSProp's epsilon and the clipping
of gradients all take the scale of a sum for granted (caption of table D.1).
"""

import tensorflow as tf
import tensorflow_probability as tfp


def policy_gradient_loss(policy_logits, actions, advantages, epsilon=0.0):
  """- sum log(pi(a_t|x_t) + epsilon) advantage_t, a scalar.

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


def baseline_loss(values, targets):
  """1/2 sum (target_t - V(x_t))^2, a scalar; float32 [T, B] both, and no gradient flows through the
  targets.
  """
  return 0.5 * tf.reduce_sum(tf.square(tf.stop_gradient(targets) - values))


def entropy_loss(policy_logits):
  """Minus the sum of the entropies of the policies, float32 [T, B, num_actions]; a scalar that
  falls as they spread.
  """
  return -tf.reduce_sum(tfp.distributions.Categorical(logits=policy_logits).entropy())
