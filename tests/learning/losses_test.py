import numpy as np
import tensorflow as tf

from impala_tf.learning import losses

_LOGITS = np.random.RandomState(0).randn(4, 3, 5).astype(np.float32) * 2
_ACTIONS = np.random.RandomState(1).randint(5, size=[4, 3]).astype(np.int32)
_LOG_POLICY = _LOGITS - np.log(np.exp(_LOGITS.astype(np.float64)).sum(-1, keepdims=True))
_POLICY = np.exp(_LOG_POLICY)


def test_policy_gradient_is_a_sum_weighted_by_advantages():
  advantages = np.random.RandomState(2).randn(4, 3).astype(np.float32)
  taken = np.take_along_axis(_LOG_POLICY, _ACTIONS[..., np.newaxis], -1)[..., 0]
  result = losses.policy_gradient_loss(_LOGITS, _ACTIONS, advantages)
  np.testing.assert_allclose(result, -np.sum(taken * advantages), rtol=1e-5)


def test_policy_gradient_raises_the_probability_of_good_actions():
  logits, advantages = tf.constant(_LOGITS), tf.constant(np.full([4, 3], 2.0, np.float32))
  with tf.GradientTape() as tape:
    tape.watch([logits, advantages])
    loss = losses.policy_gradient_loss(logits, _ACTIONS, advantages)
  to_logits, to_advantages = tape.gradient(loss, [logits, advantages])
  np.testing.assert_allclose(to_logits, 2.0 * (_POLICY - np.eye(5)[_ACTIONS]), rtol=1e-4, atol=1e-5)
  assert to_advantages is None


def test_baseline_is_half_the_squared_error_and_moves_values_only():
  values, targets = (
    tf.constant(x) for x in np.random.RandomState(3).randn(2, 4, 3).astype(np.float32)
  )
  with tf.GradientTape() as tape:
    tape.watch([values, targets])
    loss = losses.baseline_loss(values, targets)
  np.testing.assert_allclose(loss, np.sum((values.numpy() - targets.numpy()) ** 2) / 2, rtol=1e-5)
  to_values, to_targets = tape.gradient(loss, [values, targets])
  np.testing.assert_allclose(to_values, values - targets, rtol=1e-5)
  assert to_targets is None


def test_entropy_loss_is_minus_the_summed_entropy():
  np.testing.assert_allclose(losses.entropy_loss(_LOGITS), np.sum(_POLICY * _LOG_POLICY), rtol=1e-5)
  np.testing.assert_allclose(losses.entropy_loss(tf.zeros([4, 3, 5])), -12 * np.log(5), rtol=1e-6)
