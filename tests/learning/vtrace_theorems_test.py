"""Theorems 1 and 2 of the paper, checked on small random Markov decision processes.

The expectation over trajectories of the behaviour policy is taken exactly, by going through all of
them.
"""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.learning import vtrace

STATES, ACTIONS, ROWS, GAMMA = 3, 2, 3, 0.8
BARS = [(1.0, 1.0), (1.6, 0.7), (0.5, 0.5), (None, 1.0)]


class Process:
  """A Markov decision process with a behaviour policy mu and another policy pi, both [STATES,
  ACTIONS].
  """

  def __init__(self, seed):
    random = np.random.default_rng(seed)
    self.transitions = random.dirichlet(np.full(STATES, 0.5), [STATES, ACTIONS])
    self.rewards = random.normal(size=[STATES, ACTIONS]) * 2
    self.mu, self.pi = random.dirichlet(np.ones(ACTIONS), [2, STATES]) * 0.9 + 0.1 / ACTIONS

  def value_of(self, policy):
    """V of a policy, by linear algebra."""
    rewards = np.sum(policy * self.rewards, 1)
    transitions = np.einsum('xa,xay->xy', policy, self.transitions)
    return np.linalg.solve(np.eye(STATES) - GAMMA * transitions, rewards)

  def fixed_point(self, rho_bar):
    """V of pi_rho_bar, the policy between mu and pi to which the paper's Section 4.1 says V-trace
    leads.
    """
    weights = self.pi if rho_bar is None else np.minimum(rho_bar * self.mu, self.pi)
    return self.value_of(weights / weights.sum(1, keepdims=True))

  def smallest_rho(self, rho_bar):
    """beta of Theorem 1: the smallest expectation of a clipped ratio over states."""
    ratios = self.pi / self.mu
    return np.sum(self.mu * (ratios if rho_bar is None else np.minimum(rho_bar, ratios)), 1).min()

  def trajectories(self):
    """All of ROWS steps: states [ROWS + 1, N], actions [ROWS, N], and their probabilities given the
    first state.
    """
    choices = [range(STATES), *[range(ACTIONS), range(STATES)] * ROWS]
    path = np.array(list(itertools.product(*choices))).T
    states, actions = path[::2], path[1::2]
    steps = self.mu[states[:-1], actions] * self.transitions[states[:-1], actions, states[1:]]
    return states, actions, np.prod(steps, axis=0)

  def targets(self, values, states, actions, rho_bar, c_bar):
    """The targets of the first states of trajectories by `vtrace`, float64 [N]."""
    ratios = (self.pi / self.mu)[states[:-1], actions]
    as_float = lambda array: array.astype(np.float32)
    returns = _vtrace(rho_bar, c_bar)(
      as_float(np.log(ratios)),
      np.full(actions.shape, GAMMA, np.float32),
      as_float(self.rewards[states[:-1], actions]),
      as_float(values[states[:-1]]),
      as_float(values[states[-1]]),
    )
    return returns.vs[0].numpy().astype(np.float64)


@functools.cache
def _vtrace(rho_bar, c_bar):
  return tf.function(
    lambda *inputs: vtrace.from_importance_weights(
      *inputs, clip_rho_threshold=rho_bar, clip_c_threshold=c_bar
    )
  )


def make_operator(process, rho_bar, c_bar):
  """The V-trace operator R of Theorem 1, for trajectories of ROWS steps."""
  states, actions, probabilities = process.trajectories()

  def operator(values):
    targets = process.targets(values, states, actions, rho_bar, c_bar)
    return np.bincount(states[0], probabilities * targets, STATES)

  return operator


@pytest.mark.parametrize(('rho_bar', 'c_bar'), BARS)
@pytest.mark.parametrize('seed', range(3))
def test_the_operator_is_a_contraction(seed, rho_bar, c_bar):
  process, random = Process(seed), np.random.default_rng(seed)
  operator = make_operator(process, rho_bar, c_bar)
  bound = 1 - (1 - GAMMA) * process.smallest_rho(rho_bar)
  for _ in range(20):
    one, other = random.normal(size=[2, STATES]) * 10
    before, after = np.abs(one - other).max(), np.abs(operator(one) - operator(other)).max()
    assert after <= bound * before + 1e-4


@pytest.mark.parametrize(('rho_bar', 'c_bar'), BARS)
@pytest.mark.parametrize('seed', range(3))
def test_its_fixed_point_is_the_value_of_the_clipped_policy(seed, rho_bar, c_bar):
  process = Process(seed)
  operator = make_operator(process, rho_bar, c_bar)
  expected = process.fixed_point(rho_bar)
  np.testing.assert_allclose(operator(expected), expected, atol=1e-4)
  values = np.zeros(STATES)
  for _ in range(100):
    values = operator(values)
  np.testing.assert_allclose(values, expected, atol=1e-3)


def test_rho_bar_leads_from_the_behaviour_to_the_target_policy():
  process = Process(0)
  of_mu, of_pi = process.value_of(process.mu), process.value_of(process.pi)
  assert np.abs(of_mu - of_pi).max() > 0.5
  np.testing.assert_allclose(process.fixed_point(None), of_pi)
  np.testing.assert_allclose(process.fixed_point(0.05), of_mu)
  operator = make_operator(process, 0.05, 0.05)
  np.testing.assert_allclose(operator(of_mu), of_mu, atol=1e-5)
  assert np.abs(operator(of_pi) - of_pi).max() > 1e-3


@pytest.mark.parametrize(('rho_bar', 'c_bar'), [(1.0, 1.0), (None, 1.0)])
def test_the_online_algorithm_converges(rho_bar, c_bar):
  # Theorem 2, with steps 1/k**0.8: they add up to infinity, their squares do not.
  process, random = Process(1), np.random.default_rng(5)
  all_states, all_actions, probabilities = process.trajectories()
  of_state = [np.flatnonzero(all_states[0] == x) for x in range(STATES)]
  drawn = np.stack(
    [random.choice(n, 2000, p=probabilities[n] / probabilities[n].sum()) for n in of_state], 1
  )
  expected = process.fixed_point(rho_bar)
  assert np.abs(expected - process.value_of(process.mu)).max() > 0.3
  values = np.zeros(STATES)
  for k, numbers in enumerate(drawn, start=1):
    targets = process.targets(
      values, all_states[:, numbers], all_actions[:, numbers], rho_bar, c_bar
    )
    values += k**-0.8 * (targets - values)
  np.testing.assert_allclose(values, expected, atol=0.15)
