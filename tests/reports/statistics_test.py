"""Statistics over levels and seeds; those of reports are in the suites' tests."""

import numpy as np
import pytest

from impala_tf.reports import statistics


def test_levels_count_alike_in_the_interquartile_mean_whatever_their_numbers_of_seeds():
  scores = [np.array([2.0, 1.0]), np.array([10.0, 5.0, 6.0]), np.array([3.0]), np.array([4.0])]
  # As if each had twelve seeds, of which a quarter at each end are left out.
  every = np.sort(np.concatenate([np.repeat(s, 12 // len(s)) for s in scores]))
  expected = np.mean(every[12:-12])
  assert statistics.interquartile_mean(*scores) == pytest.approx(expected)
  curves = [np.stack([s, 2 * s]) for s in scores]
  np.testing.assert_allclose(statistics.interquartile_mean(*curves), expected * np.array([1, 2]))
  first_axis = [curve.T for curve in curves]
  np.testing.assert_allclose(
    statistics.interquartile_mean(*first_axis, axis=0), expected * np.array([1, 2])
  )


def test_the_interquartile_mean_of_equal_numbers_of_seeds_drops_a_quarter_at_each_end():
  scores = [np.array([1.0, 2.0, 90.0, 4.0]), np.array([0.0, 6.0, 7.0, 8.0])]
  assert statistics.interquartile_mean(*scores) == pytest.approx(np.mean([2, 4, 6, 7]))
