"""The loss: its three parts, reward transforms, and what other packages put in place of them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.config import ConfigurationError
from impala_tf.learning import losses
from tests.support.random_unroll import CONFIG, ROWS, loss_and_gradients, loss_inputs

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


_REWARDS = np.array([-30.0, -2.0, -0.5, 0.0, 0.5, 2.0, 30.0], np.float32)


def test_abs_one():
  np.testing.assert_array_equal(losses.abs_one(_REWARDS), [-1, -1, -0.5, 0, 0.5, 1, 1])


def test_optimistic_asymmetric_is_the_papers():
  expected = [0.3 * min(np.tanh(r), 0) + 5.0 * max(np.tanh(r), 0) for r in _REWARDS]
  np.testing.assert_allclose(losses.optimistic_asymmetric(_REWARDS), expected, rtol=1e-6)


def test_soft_asymmetric_is_the_released_codes():
  expected = [(1.5 if r < 0 else 5.0) * np.tanh(r / 5.0) for r in _REWARDS]
  np.testing.assert_allclose(losses.soft_asymmetric(tf.constant(_REWARDS)), expected, rtol=1e-6)


def squared_values(learner_outputs, unroll, loss, config):
  """Stands for an extra loss of an installed package."""
  assert (unroll.agent_outputs.action.shape[0], loss.extra) == (ROWS, None)
  return config.discounting * tf.reduce_sum(tf.square(learner_outputs.baseline))


def test_an_extra_loss_of_another_package_is_added_with_its_gradient():
  logits, values, rewards, actions = loss_inputs()
  arguments = (logits, logits[::-1].copy(), values, rewards, actions)
  loss, (to_logits, to_values) = loss_and_gradients(*arguments)
  more, (more_to_logits, more_to_values) = loss_and_gradients(
    *arguments, extra_loss=f'{__name__}:squared_values'
  )
  assert loss.extra is None
  np.testing.assert_allclose(more.extra, 0.9 * np.sum(values**2), rtol=1e-5)
  np.testing.assert_allclose(more.total, loss.total + more.extra, rtol=1e-5)
  np.testing.assert_allclose(more_to_logits, to_logits, rtol=1e-5)
  np.testing.assert_allclose(more_to_values, to_values + 1.8 * values, rtol=1e-4, atol=1e-5)


def halved(rewards):
  """Stands for a reward transform of an installed package."""
  return rewards / 2


def without_targets(config, **trajectory):
  """Stands for a correction of an installed package."""
  returned = losses.corrected(config, **trajectory)
  return returned._replace(vs=tf.zeros_like(returned.vs))


def test_reward_transform_and_correction_may_be_those_of_another_package():
  logits, values, rewards, actions = loss_inputs()
  loss, _ = loss_and_gradients(
    logits,
    logits[::-1].copy(),
    values,
    rewards,
    actions,
    reward_clipping=f'{__name__}:halved',
    correction=f'{__name__}:without_targets',
  )
  np.testing.assert_allclose(loss.clipped_rewards, rewards[1:] / 2, rtol=1e-6)
  np.testing.assert_allclose(loss.baseline, np.sum(values[:-1] ** 2) / 2, rtol=1e-5)


@pytest.mark.parametrize(
  ('clipping', 'expected'),
  [('none', lambda r: 0.5 * r), ('abs_one', lambda r: np.clip(0.5 * r, -1, 1))],
)
def test_rewards_are_scaled_before_they_are_clipped_or_left_as_they_are(clipping, expected):
  logits, values, rewards, actions = loss_inputs()
  rewards *= 5
  arguments = (logits, logits[::-1].copy(), values, rewards, actions)
  loss, _ = loss_and_gradients(*arguments, reward_clipping=clipping, reward_scale=0.5)
  np.testing.assert_allclose(loss.clipped_rewards, expected(rewards[1:]), rtol=1e-6)


@pytest.mark.parametrize('field', ['reward_clipping', 'correction', 'extra_loss'])
@pytest.mark.parametrize('reference', ['no_such_package:f', 'tests.learning.losses_test:no_such'])
def test_functions_that_can_not_be_imported_are_refused_with_their_field(field, reference):
  with pytest.raises(ConfigurationError, match=f'{field}={reference!r}'):
    dataclasses.replace(CONFIG, **{field: reference})
