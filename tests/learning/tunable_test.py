"""What a callback may change while a learner learns."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support.small_learner import make_small, small_unroll, values_of


def second_step(change=None, **arguments):
  """What the second update adds to each variable, and its metrics; `change` is done to the tunables
  before it.
  """
  subject = make_small(**arguments)
  subject.update(small_unroll(0))
  if change is not None:
    change(subject.tunable)
  before = values_of(subject.agent.trainable_variables)
  metrics = subject.update(small_unroll(1))
  return [
    v - b for v, b in zip(values_of(subject.agent.trainable_variables), before, strict=True)
  ], metrics


@pytest.mark.parametrize('decay', ['linear', 'none'])
def test_a_learning_rate_that_changes_scales_the_next_step(decay):
  unchanged, as_it_was = second_step(learning_rate=0.1, learning_rate_decay=decay)
  changed, metrics = second_step(
    lambda tunable: tunable.learning_rate.assign(0.02), learning_rate_decay=decay
  )
  factor = (
    1 - 40 / 10_000 if decay == 'linear' else 1
  )  # 40 frames were consumed by the first update.
  np.testing.assert_allclose(
    [as_it_was.learning_rate, metrics.learning_rate], [0.1 * factor, 0.02 * factor], rtol=1e-6
  )
  for step, old in zip(changed, unchanged, strict=True):
    np.testing.assert_allclose(step, old * 0.2, rtol=1e-3, atol=1e-6)


def test_a_clipping_that_changes_scales_the_next_gradient():
  open_, wide = second_step(clip_global_norm=1e6)
  narrow, metrics = second_step(
    lambda tunable: tunable.clip_global_norm.assign(wide.gradient_norm / 4), clip_global_norm=1e6
  )
  np.testing.assert_allclose(metrics.gradient_norm, wide.gradient_norm, rtol=1e-5)
  # A quarter of the gradient, and the mean square, which starts at one, hardly differs.
  ratios = [np.linalg.norm(n) / np.linalg.norm(o) for n, o in zip(narrow, open_, strict=True)]
  assert 0.24 < min(ratios) < max(ratios) < 0.5


def test_an_epsilon_that_changes_makes_the_next_step_smaller():
  unchanged, _ = second_step(epsilon=0.01)
  changed, _ = second_step(lambda tunable: tunable.epsilon.assign(1e6), epsilon=0.01)
  largest = lambda steps: max(np.abs(step).max() for step in steps)
  assert 0 < largest(changed) < 0.01 * largest(unchanged)


def test_an_entropy_cost_that_changes_weighs_the_entropy():
  _, metrics = second_step(lambda tunable: tunable.entropy_cost.assign(7.0))
  np.testing.assert_allclose(
    metrics.total_loss,
    metrics.pg_loss + 0.5 * metrics.baseline_loss + 7.0 * metrics.entropy_loss,
    rtol=1e-5,
  )


def test_tunables_are_not_in_checkpoints_and_are_listed_by_name(tmp_path):
  subject = make_small()
  path = tf.train.Checkpoint(learner=subject).write(str(tmp_path / 'checkpoint'))
  stored = [name for name, _ in tf.train.list_variables(path)]
  assert not [
    name
    for name in stored
    if any(word in name for word in ('tunable', 'epsilon', 'learning_rate', 'entropy'))
  ]
  assert list(subject.tunable.variables()) == ['learning_rate', 'entropy_cost', 'epsilon']
  assert 'clip_global_norm' in make_small(clip_global_norm=40.0).tunable.variables()
