"""The corrections of the paper's ablation, against its formulas in NumPy and on the loss."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.learning import losses
from tests.support.random_unroll import (
  ACTIONS,
  COLUMNS,
  CONFIG,
  ROWS,
  loss_and_gradients,
  loss_inputs,
)

NAMES = ('vtrace', 'one_step_is', 'epsilon', 'none')


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
