"""Statistics over levels and seeds; those of reports are in the suites' tests."""

import numpy as np
import pytest

from impala_tf.reports import statistics


def test_levels_count_alike_in_the_interquartile_mean_whatever_their_numbers_of_seeds():
  scores = [np.array([1.0, 2.0]), np.array([5.0, 6.0, 10.0]), np.array([3.0])]
  # Six of each.
  every = np.sort(np.concatenate([np.repeat(s, 6 // len(s)) for s in scores]))
  assert statistics.interquartile_mean(*scores) == pytest.approx(np.mean(every[4:-4]))
  curves = [np.stack([s, 2 * s]) for s in scores]
  np.testing.assert_allclose(
    statistics.interquartile_mean(*curves), np.mean(every[4:-4]) * np.array([1, 2])
  )


def test_the_interquartile_mean_of_equal_numbers_of_seeds_drops_a_quarter_at_each_end():
  scores = [np.array([1.0, 2.0, 90.0, 4.0]), np.array([0.0, 6.0, 7.0, 8.0])]
  assert statistics.interquartile_mean(*scores) == pytest.approx(np.mean([2, 4, 6, 7]))
