"""The corrections of the ablation against formulas in NumPy, and what they have in common
on-policy.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import structs
from impala_tf.agent import agents
from impala_tf.learning import corrections, learner

NAMES = ('vtrace', 'one_step_is', 'epsilon', 'none')
LOSS = {'discounting': 0.9, 'baseline_cost': 0.5, 'reward_clipping': 'abs_one'}
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
  for s in range(ROWS):
    weight = np.ones(COLUMNS)
    for t in range(s, ROWS):
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
  result = corrections.Correction(name, rho_bar, c_bar, pg_rho_bar, lambda_, q_estimate).returns(
    **inputs
  )
  np.testing.assert_allclose(result.vs, vs, rtol=2e-5, atol=2e-5)
  np.testing.assert_allclose(result.pg_advantages, pg_advantages, rtol=2e-5, atol=2e-5)
  np.testing.assert_allclose(np.exp(result.log_rhos), ratios, rtol=1e-5)


def test_each_correction_differs_from_the_others_off_policy():
  results = [corrections.Correction(name).returns(**random_inputs()) for name in NAMES]
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
  correction, target_logits, behaviour_logits, values, rewards, actions, entropy_cost=0.01
):
  """Loss of `learner.compute_loss` with its gradients with respect to the learner's logits and
  values.
  """
  rows, columns = rewards.shape
  unroll = structs.Unroll(
    level=(),
    policy_version=(),
    agent_state=(),
    step_outputs=structs.StepOutput(
      tf.constant(rewards), tf.zeros([rows, columns], tf.bool), (), ()
    ),
    agent_outputs=structs.AgentOutput(
      tf.constant(actions), tf.constant(behaviour_logits), tf.zeros([rows, columns])
    ),
  )
  outputs = agents.PolicyAndBaseline(tf.constant(target_logits), tf.constant(values))
  with tf.GradientTape() as tape:
    tape.watch(outputs)
    loss = learner.compute_loss(
      outputs, unroll, correction=correction, entropy_cost=entropy_cost, **LOSS
    )
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
    loss_and_gradients(corrections.Correction(n), logits, behaviour, values, rewards, actions)
    for n in NAMES
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
    loss_and_gradients(corrections.Correction(n), logits, logits[::-1].copy(), *loss_inputs()[1:])
    for n in NAMES
  ]
  assert all(np.abs(gradients[0] - results[0][1][0]).max() > 0.1 for _, gradients in results[1:])


def test_epsilon_bounds_the_gradient_of_an_action_that_became_unlikely():
  logits, values, rewards, actions = loss_inputs()
  # The learner's policy has nearly given up the actions that were taken: about e-25 each.
  np.put_along_axis(logits[:-1], actions[1:, :, np.newaxis], -25.0, axis=-1)
  largest = {}
  for name, epsilon in (('epsilon', 1e-6), ('none', 0.0)):
    arguments = (
      corrections.Correction(name),
      logits,
      np.zeros_like(logits),
      values,
      rewards,
      actions,
    )
    loss, (to_logits, _) = loss_and_gradients(*arguments, entropy_cost=0.0)
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
    result = corrections.Correction(name).returns(**inputs)
  assert tape.gradient([result.vs, result.pg_advantages], sources) == [None] * 3


def test_unknown_names_are_refused():
  with pytest.raises(ValueError, match="'v_trace'"):
    corrections.Correction('v_trace')
  with pytest.raises(ValueError, match=r"target, baseline, got 'values'"):
    dataclasses.replace(corrections.V_TRACE, q_estimate='values').returns(**random_inputs())
