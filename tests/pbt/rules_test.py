"""The rules of population-based training, worked out by hand."""

import collections

import numpy as np
import pytest

from impala_tf.config import ConfigurationError
from impala_tf.pbt import rules
from impala_tf.pbt.rules import Rules


class Scripted:
  """A random generator that gives what it was told to."""

  def __init__(self, *numbers):
    self.numbers = list(numbers)

  def random(self):
    return self.numbers.pop(0)


def test_defaults_are_the_papers():
  rules = Rules()
  assert (rules.burn_in_frames, rules.episodes, rules.threshold) == (20_000_000, 5_000, 5.0)
  assert (rules.probability, rules.factor) == (pytest.approx(1 / 3), 1.2)


@pytest.mark.parametrize(
  ('frames', 'returns', 'due'),
  [
    (99, {'a': [0.0] * 9, 'b': [0.0]}, False),  # still in the burn-in
    (100, {'a': [0.0] * 9, 'b': [0.0]}, True),  # ten in total, over all levels
    (100, {'a': [0.0] * 9, 'b': []}, False),
    (100, {'a': [0.0] * 20, 'b': []}, False),  # no score without a return of each level
    (100, {'a': [0.0] * 8, 'b': [0.0]}, False),
  ],
)
def test_evaluation_is_due_after_burn_in_with_enough_returns_of_all_levels(frames, returns, due):
  assert rules.is_due(Rules(burn_in_frames=100, episodes=10), frames, returns) == due


@pytest.mark.parametrize(
  ('mine', 'theirs', 'copies'),
  [
    (40.0, 45.5, True),
    (40.0, 45.0, False),  # just 5 % better is not more than 5 %
    (40.0, 40.0, False),
    (45.5, 40.0, False),
    (90.0, 94.6, False),  # absolute, not relative
    (1.0, 1.06, False),
    (-10.0, -4.0, True),
    (40.0, float('nan'), False),
  ],
)
def test_only_who_is_clearly_worse_copies(mine, theirs, copies):
  assert rules.should_copy(Rules(), mine, theirs) == copies


def test_opponents_are_the_others_each_equally_likely():
  fitnesses = {'a': 1.0, 'b': 2.0, 'c': 3.0, 'd': 4.0}
  assert [rules.choose_opponent('b', fitnesses, Scripted(x)) for x in (0.0, 0.34, 0.99)] == [
    'a',
    'c',
    'd',
  ]
  random = np.random.default_rng(0)
  counts = collections.Counter(rules.choose_opponent('b', fitnesses, random) for _ in range(3000))
  assert set(counts) == {'a', 'c', 'd'}
  assert all(abs(n - 1000) < 130 for n in counts.values())


@pytest.mark.parametrize('fitnesses', [{}, {'b': 2.0}])
def test_there_may_be_no_opponent(fitnesses):
  assert rules.choose_opponent('b', fitnesses, Scripted()) is None


def test_one_of_three_parameters_grows_and_one_shrinks():
  before = {'learning_rate': 0.6, 'entropy_cost': 0.012, 'epsilon': 0.1}
  after = rules.explore(Rules(), before, Scripted(0.32, 0.49, 0.34, 0.0, 0.0, 0.5))
  assert after == {
    'learning_rate': pytest.approx(0.72),
    'entropy_cost': 0.012,
    'epsilon': pytest.approx(0.1 / 1.2),
  }
  assert before == {'learning_rate': 0.6, 'entropy_cost': 0.012, 'epsilon': 0.1}


def test_exploring_has_no_drift():
  # Growing and shrinking cancel; with 1.2 and 0.8 the product would sink.
  random, value, changes = np.random.default_rng(0), {'a': 1.0}, 0
  logs = []
  for _ in range(6000):
    new = rules.explore(Rules(), value, random)
    changes += new != value
    logs.append(np.log(new['a'] / value['a']))
    value = new
  assert abs(changes - 2000) < 5 * np.sqrt(6000 * 2 / 9)
  assert abs(np.sum(logs)) < 5 * np.log(1.2) * np.sqrt(2000)


@pytest.mark.parametrize(
  'wrong',
  [
    {'episodes': 0},
    {'factor': 1.0},
    {'probability': 1.5},
    {'threshold': -1.0},
    {'burn_in_frames': -1},
  ],
)
def test_senseless_numbers_are_refused(wrong):
  (name,) = wrong
  with pytest.raises(ConfigurationError, match=f'{name}='):
    Rules(**wrong)
