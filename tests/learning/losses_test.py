"""The loss: reward transforms, the corrections of the ablation against formulas in NumPy, and the
three losses.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import structs
from impala_tf.agent import agents
from impala_tf.config import ConfigurationError
from impala_tf.learning import losses
from tests.support import catch

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


NAMES = ('vtrace', 'one_step_is', 'epsilon', 'none')
CONFIG = dataclasses.replace(
  catch.CONFIG, discounting=0.9, baseline_cost=0.5, entropy_cost=0.01, reward_clipping='abs_one'
)
ROWS, COLUMNS, ACTIONS = 7, 3, 4


def random_inputs(seed=0):
  """Policies that differ enough for ratios far on both sides of the thresholds below; one episode
  ends inside.
  """
  random = np.random.RandomState(seed)
  floats = lambda *shape: random.randn(*shape).astype(np.float32)
  inputs = {
    'behaviour_policy_logits': floats(ROWS, COLUMNS, ACTIONS),
    'target_policy_logits': floats(ROWS, COLUMNS, ACTIONS),
    'actions': random.randint(ACTIONS, size=[ROWS, COLUMNS]).astype(np.int32),
    'discounts': np.full([ROWS, COLUMNS], 0.9, np.float32),
    'rewards': floats(ROWS, COLUMNS),
    'values': floats(ROWS, COLUMNS),
    'bootstrap_value': floats(COLUMNS),
  }
  inputs['discounts'][3, 1] = 0.0
  return inputs


def taken(logits, actions):
  policy = np.exp(logits.astype(np.float64))
  policy /= policy.sum(-1, keepdims=True)
  return np.take_along_axis(policy, actions[..., np.newaxis], -1)[..., 0]


def returns(inputs, **changes):
  config = dataclasses.replace(CONFIG, **changes)
  return losses.find_correction(config.correction)(config, **inputs)


def paper(name, inputs, *, rho_bar, c_bar, pg_rho_bar, lambda_, q_estimate):
  """Targets and advantages as Sections 4.1 and 5.2.2 and Appendix E.3 write them, in float64."""
  target, behaviour = (
    taken(inputs[f'{kind}_policy_logits'], inputs['actions']) for kind in ('target', 'behaviour')
  )
  ratios = target / behaviour
  clip = lambda bar: ratios if bar is None else np.minimum(bar, ratios)
  ones = np.ones_like(ratios)
  rhos, cs = (clip(rho_bar), clip(c_bar)) if name == 'vtrace' else (ones, ones)
  pg_rhos = clip(pg_rho_bar) if name in ('vtrace', 'one_step_is') else ones
  values = np.concatenate([inputs['values'], inputs['bootstrap_value'][np.newaxis]]).astype(
    np.float64
  )
  vs = values.copy()
  rows = len(inputs['rewards'])
  for s in range(rows):
    weight = np.ones(COLUMNS)
    for t in range(s, rows):
      vs[s] += (
        weight
        * rhos[t]
        * (inputs['rewards'][t] + inputs['discounts'][t] * values[t + 1] - values[t])
      )
      weight = weight * inputs['discounts'][t] * lambda_ * cs[t]
  following = {'target': vs, 'baseline': values}[q_estimate][1:]
  return (
    vs[:-1],
    pg_rhos * (inputs['rewards'] + inputs['discounts'] * following - values[:-1]),
    ratios,
  )


@pytest.mark.parametrize('q_estimate', ['target', 'baseline'])
@pytest.mark.parametrize(
  ('rho_bar', 'c_bar', 'pg_rho_bar', 'lambda_'),
  [(1.0, 1.0, 1.0, 1.0), (2.5, 0.6, 1.4, 0.8), (None, None, None, 1.0)],
)
@pytest.mark.parametrize('name', NAMES)
def test_equals_the_papers_formulas(name, rho_bar, c_bar, pg_rho_bar, lambda_, q_estimate):
  inputs = random_inputs()
  vs, pg_advantages, ratios = paper(
    name,
    inputs,
    rho_bar=rho_bar,
    c_bar=c_bar,
    pg_rho_bar=pg_rho_bar,
    lambda_=lambda_,
    q_estimate=q_estimate,
  )
  for threshold in (0.6, 1.0, 1.4, 2.5):
    assert (ratios < threshold).any()
    assert (ratios > threshold).any()
  result = returns(
    inputs,
    correction=name,
    clip_rho_threshold=rho_bar,
    clip_c_threshold=c_bar,
    clip_pg_rho_threshold=pg_rho_bar,
    lambda_=lambda_,
    q_estimate=q_estimate,
  )
  np.testing.assert_allclose(result.vs, vs, rtol=2e-5, atol=2e-5)
  np.testing.assert_allclose(result.pg_advantages, pg_advantages, rtol=2e-5, atol=2e-5)
  np.testing.assert_allclose(np.exp(result.log_rhos), ratios, rtol=1e-5)


def test_each_correction_differs_from_the_others_off_policy():
  results = [returns(random_inputs(), correction=name) for name in NAMES]
  differs = lambda a, b: bool(np.abs(a - b).max() > 0.1)
  targets = [[differs(a.vs, b.vs) for b in results] for a in results]
  assert targets == [[False, True, True, True], *[[True, False, False, False]] * 3]
  advantages = [[differs(a.pg_advantages, b.pg_advantages) for b in results] for a in results]
  # That of the epsilon-correction is in the loss.
  assert advantages == [
    [False, True, True, True],
    [True, False, True, True],
    *[[True, True, False, False]] * 2,
  ]


def loss_and_gradients(
  target_logits, behaviour_logits, values, rewards, actions, truncated=None, **changes
):
  """Loss of `losses.compute_loss` with its gradients with respect to the learner's logits and
  values. Rows that are truncated are done, and no others.
  """
  rows, columns = rewards.shape
  if truncated is None:
    truncated = np.zeros([rows, columns], bool)
  unroll = structs.Unroll(
    level=(),
    policy_version=(),
    agent_state=(),
    step_outputs=structs.StepOutput(
      tf.constant(rewards), tf.constant(truncated), tf.constant(truncated), (), ()
    ),
    agent_outputs=structs.AgentOutput(
      tf.constant(actions), tf.constant(behaviour_logits), tf.zeros([rows, columns])
    ),
  )
  outputs = agents.PolicyAndBaseline(tf.constant(target_logits), tf.constant(values))
  with tf.GradientTape() as tape:
    tape.watch(outputs)
    loss = losses.compute_loss(outputs, unroll, dataclasses.replace(CONFIG, **changes))
  return loss, [gradient.numpy() for gradient in tape.gradient(loss.total, list(outputs))]


def loss_inputs(seed=3):
  random = np.random.RandomState(seed)
  floats = lambda *shape: random.randn(*shape).astype(np.float32)
  actions = random.randint(ACTIONS, size=[ROWS, COLUMNS]).astype(np.int32)
  return floats(ROWS, COLUMNS, ACTIONS), floats(ROWS, COLUMNS), floats(ROWS, COLUMNS), actions


def test_on_policy_all_corrections_are_the_same():
  logits, values, rewards, actions = loss_inputs()
  # The behaviour that acted after observation t is in row t + 1.
  behaviour = np.roll(logits, 1, axis=0)
  results = [
    loss_and_gradients(logits, behaviour, values, rewards, actions, correction=n) for n in NAMES
  ]
  (loss, (to_logits, to_values)), *others = results
  assert np.abs(to_logits).max() > 0.1
  assert np.abs(to_values).max() > 0.1
  for other_loss, (other_to_logits, other_to_values) in others:
    np.testing.assert_allclose(other_loss.total, loss.total, rtol=1e-5)
    np.testing.assert_allclose(other_to_logits, to_logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other_to_values, to_values, rtol=1e-4, atol=1e-5)
  # Off-policy they are not: the test would not notice if all were one.
  results = [
    loss_and_gradients(logits, logits[::-1].copy(), values, rewards, actions, correction=n)
    for n in NAMES
  ]
  assert all(np.abs(gradients[0] - results[0][1][0]).max() > 0.1 for _, gradients in results[1:])


@pytest.mark.parametrize('q_estimate', ['target', 'baseline'])
@pytest.mark.parametrize('name', NAMES)
def test_a_truncated_row_ends_one_trajectory_and_teaches_nothing(name, q_estimate):
  logits, values, rewards, actions = loss_inputs()
  behaviour = logits[::-1].copy()
  truncated = np.zeros([ROWS, COLUMNS], bool)
  truncated[4] = True  # What the action after observation 3 led to.
  settings = {'correction': name, 'q_estimate': q_estimate, 'entropy_cost': 0.0}
  loss, (to_logits, to_values) = loss_and_gradients(
    logits, behaviour, values, rewards, actions, truncated, **settings
  )

  # As if the unroll had been cut there: its first part bootstraps from the value of observation 3,
  # the second begins with observation 4.
  parts = [
    loss_and_gradients(
      logits[a:b], behaviour[a:b], values[a:b], rewards[a:b], actions[a:b], **settings
    )
    for a, b in ((0, 4), (4, ROWS))
  ]
  np.testing.assert_allclose(loss.total, sum(part.total for part, _ in parts), rtol=1e-5)
  for whole, pieces in ((to_logits, 0), (to_values, 1)):
    expected = np.concatenate([gradients[pieces] for _, gradients in parts])
    np.testing.assert_allclose(whole, expected, rtol=1e-4, atol=1e-5)
    assert not whole[3].any()
    assert np.abs(whole[2]).max() > 0.1

  # The targets are those of the paper's sums in NumPy for the first part.
  inputs = {
    'behaviour_policy_logits': behaviour[1:4],
    'target_policy_logits': logits[:3],
    'actions': actions[1:4],
    'discounts': np.full([3, COLUMNS], 0.9),
    'rewards': np.clip(rewards[1:4], -1, 1),
    'values': values[:3],
    'bootstrap_value': values[3],
  }
  vs, pg_advantages, _ = paper(
    name, inputs, rho_bar=1.0, c_bar=1.0, pg_rho_bar=1.0, lambda_=1.0, q_estimate=q_estimate
  )
  returned = loss.vtrace_returns
  np.testing.assert_allclose(returned.vs[:3], vs, rtol=2e-5, atol=2e-5)
  np.testing.assert_allclose(returned.pg_advantages[:3], pg_advantages, rtol=2e-5, atol=2e-5)


def test_epsilon_bounds_the_gradient_of_an_action_that_became_unlikely():
  logits, values, rewards, actions = loss_inputs()
  # The learner's policy has nearly given up the actions that were taken: about e-25 each.
  np.put_along_axis(logits[:-1], actions[1:, :, np.newaxis], -25.0, axis=-1)
  largest = {}
  for name, epsilon in (('epsilon', 1e-6), ('none', 0.0)):
    arguments = (logits, np.zeros_like(logits), values, rewards, actions)
    loss, (to_logits, _) = loss_and_gradients(*arguments, correction=name, entropy_cost=0.0)
    log_policy = np.log(taken(logits[:-1], actions[1:]) + epsilon)
    np.testing.assert_allclose(
      loss.pg, -np.sum(log_policy * loss.vtrace_returns.pg_advantages), rtol=1e-4
    )
    largest[name] = np.abs(to_logits).max()
  assert largest['none'] > 0.1
  assert largest['epsilon'] < 1e-3 * largest['none']


@pytest.mark.parametrize('name', NAMES)
def test_no_gradient_flows_through_targets_and_advantages(name):
  inputs = {key: tf.constant(value) for key, value in random_inputs().items()}
  sources = [inputs['target_policy_logits'], inputs['values'], inputs['bootstrap_value']]
  with tf.GradientTape() as tape:
    tape.watch(sources)
    result = returns(inputs, correction=name)
  assert tape.gradient([result.vs, result.pg_advantages], sources) == [None] * 3


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
