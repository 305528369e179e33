"""V-trace against the sums of the paper, and what it is in special cases."""

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.learning import vtrace
from tests.support import golden


def paper_sums(
  log_rhos, discounts, rewards, values, bootstrap_value, rho_bar, pg_rho_bar, lambda_=1.0
):
  """Section 4.1 as it is written: v_s = V(x_s) + sum_t gamma^(t-s) (prod_(s<=i<t) c_i) delta_t, in
  float64.
  """
  log_rhos, discounts, rewards, values = (
    np.asarray(x, np.float64) for x in (log_rhos, discounts, rewards, values)
  )
  ratios = np.exp(log_rhos)
  clip = lambda bar: ratios if bar is None else np.minimum(ratios, bar)
  cs = lambda_ * np.minimum(ratios, 1.0)
  all_values = np.concatenate([values, np.asarray(bootstrap_value, np.float64)[np.newaxis]])
  rows = len(rewards)
  vs = all_values.copy()
  for s in range(rows):
    for t in range(s, rows):
      delta = clip(rho_bar)[t] * (rewards[t] + discounts[t] * all_values[t + 1] - all_values[t])
      vs[s] += np.prod(discounts[s:t], axis=0) * np.prod(cs[s:t], axis=0) * delta
  return vs[:-1], clip(pg_rho_bar) * (rewards + discounts * vs[1:] - values)


def random_inputs(rows, columns, seed=0):
  """Ratios from 0.08 to 12, on both sides of 1 and of all thresholds below; one episode ends
  inside.
  """
  random = np.random.RandomState(seed)
  inputs = {
    'log_rhos': random.permutation(np.linspace(-2.5, 2.5, rows * columns)).reshape(rows, columns),
    'discounts': random.uniform(0.5, 1.0, [rows, columns]),
    'rewards': random.randn(rows, columns) * 3,
    'values': random.randn(rows, columns) * 2,
    'bootstrap_value': random.randn(columns),
  }
  inputs['discounts'][rows // 2, 0] = 0.0
  return {name: x.astype(np.float32) for name, x in inputs.items()}


@pytest.mark.parametrize('columns', [1, 5])
@pytest.mark.parametrize('lambda_', [1.0, 0.7])
@pytest.mark.parametrize(
  ('rho_bar', 'pg_rho_bar'), [(1.0, 1.0), (None, None), (3.7, 2.2), (0.5, 4.0)]
)
def test_equals_the_papers_sums(columns, lambda_, rho_bar, pg_rho_bar):
  inputs = random_inputs(8, columns)
  ratios = np.exp(inputs['log_rhos'])
  for threshold in (0.5, 1.0, 2.2, 3.7, 4.0):
    assert (ratios < threshold).any()
    assert (ratios > threshold).any()
  returns = vtrace.from_importance_weights(
    **inputs, clip_rho_threshold=rho_bar, clip_pg_rho_threshold=pg_rho_bar, lambda_=lambda_
  )
  vs, pg_advantages = paper_sums(**inputs, rho_bar=rho_bar, pg_rho_bar=pg_rho_bar, lambda_=lambda_)
  np.testing.assert_allclose(returns.vs, vs, rtol=2e-5, atol=2e-5)
  np.testing.assert_allclose(returns.pg_advantages, pg_advantages, rtol=2e-5, atol=2e-5)


def test_all_is_clipped_at_one_by_default():
  inputs = random_inputs(8, 5)
  returns = vtrace.from_importance_weights(**inputs)
  vs, pg_advantages = paper_sums(**inputs, rho_bar=1.0, pg_rho_bar=1.0)
  np.testing.assert_allclose(returns.vs, vs, rtol=2e-5, atol=2e-5)
  np.testing.assert_allclose(returns.pg_advantages, pg_advantages, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize('case', ['c0', 'c1'])
@pytest.mark.parametrize('thresholds', ['t0', 't1', 't2'])
def test_equals_the_authors_numbers(case, thresholds):
  arrays = golden.load('vtrace')
  names = (
    'behaviour_policy_logits',
    'target_policy_logits',
    'actions',
    'discounts',
    'rewards',
    'values',
  )
  rho_bar, pg_rho_bar = (
    None if np.isnan(x) else float(x) for x in arrays[f'{case}_{thresholds}_thresholds']
  )
  inputs = {name: arrays[f'{case}_{name}'] for name in (*names, 'bootstrap_value')}
  returns = vtrace.from_logits(
    **inputs, clip_rho_threshold=rho_bar, clip_pg_rho_threshold=pg_rho_bar
  )
  for name, result in returns._asdict().items():
    expected = arrays[f'{case}_{thresholds}_{name}']
    np.testing.assert_allclose(
      result, expected, rtol=1e-5, atol=3e-6 * np.abs(expected).max(), err_msg=name
    )


@pytest.mark.parametrize('columns', [1, 2])
def test_log_probs_of_large_logits(columns):
  random = np.random.RandomState(1)
  logits = (random.randn(7, columns, 3) * 20 + 10).astype(np.float32)
  actions = random.randint(3, size=[7, columns])
  softmax = np.exp(logits - logits.max(-1, keepdims=True)).astype(np.float64)
  softmax /= softmax.sum(-1, keepdims=True)
  expected = np.log(np.take_along_axis(softmax, actions[..., np.newaxis], -1)[..., 0])
  result = vtrace.log_probs_from_logits_and_actions(logits, actions)
  np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('columns', [1, 2])
def test_from_logits_in_a_graph_of_unknown_shapes(columns):
  random = np.random.RandomState(2)
  behaviour, target = random.randn(2, 6, columns, 4).astype(np.float32)
  actions = random.randint(4, size=[6, columns]).astype(np.int32)
  inputs = random_inputs(6, columns)
  del inputs['log_rhos']
  unknown = tf.TensorSpec(None, tf.float32)
  spec = [
    tf.TensorSpec([None, None, None]),
    tf.TensorSpec([None, None, 4]),
    tf.TensorSpec(None, tf.int32),
  ]

  @tf.function(input_signature=[*spec, unknown, unknown, unknown, unknown])
  def unclipped(*arguments):
    return vtrace.from_logits(*arguments, clip_rho_threshold=None, clip_pg_rho_threshold=None)

  returns = unclipped(behaviour, target, actions, *inputs.values())
  np.testing.assert_allclose(
    returns.behaviour_action_log_probs,
    vtrace.log_probs_from_logits_and_actions(behaviour, actions),
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    returns.target_action_log_probs,
    vtrace.log_probs_from_logits_and_actions(target, actions),
    rtol=1e-6,
  )
  log_rhos = returns.target_action_log_probs - returns.behaviour_action_log_probs
  np.testing.assert_allclose(returns.log_rhos, log_rhos, rtol=1e-6)
  vs, pg_advantages = paper_sums(log_rhos, **inputs, rho_bar=None, pg_rho_bar=None)
  np.testing.assert_allclose(returns.vs, vs, rtol=2e-5, atol=2e-5)
  np.testing.assert_allclose(returns.pg_advantages, pg_advantages, rtol=2e-5, atol=2e-5)


def test_on_policy_targets_are_n_step_returns():
  inputs = random_inputs(6, 3)
  inputs['log_rhos'] = np.zeros_like(inputs['log_rhos'])
  returns = vtrace.from_importance_weights(**inputs)
  expected = inputs['bootstrap_value']
  for t in reversed(range(6)):
    expected = inputs['rewards'][t] + inputs['discounts'][t] * expected
    np.testing.assert_allclose(returns.vs[t], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
      returns.pg_advantages[t], expected - inputs['values'][t], rtol=1e-5, atol=1e-5
    )


def test_two_episodes_in_one_unroll_are_each_alone():
  inputs = random_inputs(9, 2)
  inputs['discounts'][3] = 0.0
  both = vtrace.from_importance_weights(**inputs, clip_rho_threshold=2.0)
  rows = ('log_rhos', 'discounts', 'rewards', 'values')
  first = {name: inputs[name][:4] for name in rows}
  second = {name: inputs[name][4:] for name in rows}
  # The first episode ended: whatever comes after it must not matter.
  alone = [
    vtrace.from_importance_weights(
      **first, bootstrap_value=np.full(2, 1e3, np.float32), clip_rho_threshold=2.0
    ),
    vtrace.from_importance_weights(
      **second, bootstrap_value=inputs['bootstrap_value'], clip_rho_threshold=2.0
    ),
  ]
  np.testing.assert_allclose(both.vs, tf.concat([r.vs for r in alone], 0), rtol=1e-6)
  np.testing.assert_allclose(
    both.pg_advantages, tf.concat([r.pg_advantages for r in alone], 0), rtol=1e-6
  )


def test_traces_are_cut_at_one_whatever_rho_bar():
  # Ratios of 5 all over; with values of zero only the first row sees how far the last reward
  # travels.
  rewards = np.array([[0.0], [0.0], [1.0]], np.float32)
  zeros, ones = np.zeros_like(rewards), np.ones_like(rewards)
  returns = vtrace.from_importance_weights(
    np.log(5 * ones), ones, rewards, zeros, np.zeros(1, np.float32), 3.0, 2.0
  )
  np.testing.assert_allclose(returns.vs, 3 * ones, rtol=1e-6)
  np.testing.assert_allclose(returns.pg_advantages, [[6.0], [6.0], [2.0]], rtol=1e-6)


def test_further_dimensions_broadcast():
  inputs = random_inputs(5, 3)
  random = np.random.RandomState(4)
  rewards, values = random.randn(2, 5, 3, 42).astype(np.float32)
  bootstrap_value = random.randn(3, 42).astype(np.float32)
  ratios, discounts = inputs['log_rhos'], inputs['discounts']
  wide = vtrace.from_importance_weights(
    ratios[..., None], discounts[..., None], rewards, values, bootstrap_value
  )
  assert wide.vs.shape == [5, 3, 42]
  for k in (0, 41):
    narrow = vtrace.from_importance_weights(
      ratios, discounts, rewards[..., k], values[..., k], bootstrap_value[..., k]
    )
    np.testing.assert_allclose(wide.vs[..., k], narrow.vs, rtol=1e-6)
    np.testing.assert_allclose(wide.pg_advantages[..., k], narrow.pg_advantages, rtol=1e-6)


@pytest.mark.parametrize(
  ('name', 'shape', 'rank'),
  [
    ('values', [None, None, 1], 2),
    ('rewards', [None], 2),
    ('discounts', [], 2),
    ('bootstrap_value', [None, None], 1),
  ],
)
def test_wrong_ranks_are_refused_while_tracing(name, shape, rank):
  specs = {n: tf.TensorSpec([None, None]) for n in ('log_rhos', 'discounts', 'rewards', 'values')}
  specs |= {'bootstrap_value': tf.TensorSpec([None]), name: tf.TensorSpec(shape)}
  with pytest.raises(ValueError, match=f'{name} .*rank {rank}'):
    tf.function(
      lambda arguments: vtrace.from_importance_weights(**arguments)
    ).get_concrete_function(specs)


def test_logits_and_actions_of_wrong_rank_are_refused():
  with pytest.raises(ValueError, match=r'policy_logits .*3'):
    vtrace.log_probs_from_logits_and_actions(np.zeros([2, 3], np.float32), np.zeros([2], np.int32))
  with pytest.raises(ValueError, match=r'actions .*2'):
    vtrace.log_probs_from_logits_and_actions(
      np.zeros([2, 3, 4], np.float32), np.zeros([2], np.int32)
    )


@pytest.mark.parametrize(
  'arguments',
  [
    {'clip_rho_threshold': 0.0},
    {'clip_c_threshold': 0.0},
    {'clip_pg_rho_threshold': -1.0},
    {'lambda_': 1.1},
    {'lambda_': -0.1},
  ],
)
def test_senseless_parameters_are_refused(arguments):
  (name,) = arguments
  with pytest.raises(ValueError, match=name):
    vtrace.from_importance_weights(**random_inputs(3, 2), **arguments)


def test_no_gradient_flows_through_the_results():
  inputs = {name: tf.constant(x) for name, x in random_inputs(4, 2).items()}
  with tf.GradientTape(persistent=True) as tape:
    tape.watch(inputs)
    returns = vtrace.from_importance_weights(**inputs)
  assert all(g is None for g in tape.gradient(returns.vs, list(inputs.values())))
  assert all(g is None for g in tape.gradient(returns.pg_advantages, list(inputs.values())))
