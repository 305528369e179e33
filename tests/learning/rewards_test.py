import numpy as np
import pytest
import tensorflow as tf

from impala_tf.learning import rewards

_REWARDS = np.array([-30.0, -2.0, -0.5, 0.0, 0.5, 2.0, 30.0], np.float32)


def test_abs_one():
  np.testing.assert_array_equal(rewards.get('abs_one')(_REWARDS), [-1, -1, -0.5, 0, 0.5, 1, 1])


def test_optimistic_asymmetric_is_the_papers():
  expected = [0.3 * min(np.tanh(r), 0) + 5.0 * max(np.tanh(r), 0) for r in _REWARDS]
  np.testing.assert_allclose(rewards.get('optimistic_asymmetric')(_REWARDS), expected, rtol=1e-6)


def test_soft_asymmetric_is_the_released_codes():
  expected = [(1.5 if r < 0 else 5.0) * np.tanh(r / 5.0) for r in _REWARDS]
  np.testing.assert_allclose(
    rewards.get('soft_asymmetric')(tf.constant(_REWARDS)), expected, rtol=1e-6
  )


def test_unknown_names_are_refused_with_the_choices():
  with pytest.raises(
    ValueError, match=r"'abs_two'.*abs_one, optimistic_asymmetric, soft_asymmetric"
  ):
    rewards.get('abs_two')
