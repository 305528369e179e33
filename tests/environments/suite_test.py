"""The defaults of a suite."""

import functools
import os

import numpy as np

from impala_tf import structs
from impala_tf.environments import suite
from tests.support import catch


class Elsewhere:
  """An environment that one process can't have."""

  num_actions = 3
  observation_spec = structs.Observation(structs.ArraySpec((2,), np.float32))

  def __init__(self, not_in):
    assert os.getpid() != not_in

  def close(self):
    """There is nothing to close."""


class ElsewhereSuite(suite.Suite):
  def make_environment(self, level, seed, is_test, config):
    return functools.partial(Elsewhere, os.getpid())


def test_an_environment_is_asked_for_its_actions_and_observations_in_another_process():
  mine = ElsewhereSuite()
  assert mine.num_actions(catch.CONFIG) == 3
  assert mine.observation_spec(catch.CONFIG) == Elsewhere.observation_spec
