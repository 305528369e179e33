"""The policy lag of real runs against the law by which the number of environments is chosen."""

import dataclasses

import numpy as np
import pytest

from impala_tf.training import loop
from tests.support import catch, updates


@pytest.mark.parametrize(('num_actors', 'envs_per_actor'), [(2, 4), (4, 8), (8, 16)])
def test_the_lag_of_a_run_is_that_of_the_law(num_actors, envs_per_actor):
  suite = catch.CatchSuite()
  config = dataclasses.replace(
    catch.CONFIG,
    num_actors=num_actors,
    envs_per_actor=envs_per_actor,
    total_environment_frames=10**9,
  )
  ratio = num_actors * envs_per_actor // config.batch_size
  learner = loop.make_learner(suite, config)
  with updates.source_of(suite, config, learner) as source:
    lags = [
      float(metrics.lag_mean) for _, metrics in updates.updates(source, learner, 6 * ratio + 20)
    ]
  # What was played before the first updates knows no lag.
  mean = np.mean(lags[2 * ratio + 5 :])
  # The batch that is staged adds up to one; where threads are held up, it is a little more or less.
  assert config.expected_lag - 1.5 <= mean <= config.expected_lag + 0.5 + 0.1 * ratio
