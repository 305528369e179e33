"""A batch of environments refuses wrong actions, and values that do not fit or are not those that
the environment promised.
"""

import functools

import numpy as np
import pytest

from impala_tf import structs
from impala_tf.environments import base
from tests.support.five_steps import LENGTH, FiveSteps


@pytest.mark.parametrize(
  ('actions', 'message'),
  [
    (np.array([0, 4]), r'Action 4 of environment 1 is not in 0\.\.3'),
    (np.array([-1, 0]), r'Action -1 of environment 0'),
    (np.array([0]), r'2 integers, not int64 of shape \(1,\)'),
    (np.array([0.0, 1.0]), r'2 integers, not float64'),
  ],
)
def test_wrong_actions_are_refused(actions, message):
  batch = base.EnvironmentBatch([FiveSteps] * 2)
  batch.initial()
  with pytest.raises(ValueError, match=message):
    batch.step(actions)
  assert batch.step(np.array([0, 0])).info.episode_steps.tolist() == [1, 1]  # nothing was stepped


def test_step_before_initial_is_refused():
  with pytest.raises(RuntimeError, match='initial'):
    base.EnvironmentBatch([FiveSteps]).step(np.array([0]))


def test_finished_without_done_is_refused():
  batch = base.EnvironmentBatch([functools.partial(FiveSteps, finished_only=True)])
  batch.initial()
  for _ in range(LENGTH - 1):
    batch.step(np.array([0]))
  with pytest.raises(ValueError, match='finished without done'):
    batch.step(np.array([0]))


def test_observation_of_another_shape_is_refused():
  class Small(FiveSteps):
    """Its frames would be broadcast."""

    def reset(self):
      return structs.Observation(np.zeros((2, 1, 1), np.uint8))

  with pytest.raises(ValueError, match=r'\(2, 1, 1\).*\(2, 3, 1\)'):
    base.EnvironmentBatch([Small]).initial()


class Given(FiveSteps):
  """Gives an observation and a reward as they are."""

  def __init__(self, observation, reward=1.0, dtype=np.float32):
    super().__init__()
    self.observation_spec = structs.Observation(structs.ArraySpec((2,), dtype))
    self._given, self._reward = structs.Observation(observation), reward

  def reset(self):
    return self._given

  def step(self, action):
    return base.Transition(self._given, self._reward, False, False)


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'observation': np.array([0.1, 0.9]), 'dtype': np.uint8}, 'float64 from 0.1 to 0.9.*uint8'),
    ({'observation': [300, 2], 'dtype': np.uint8}, 'int64 from 2 to 300.*uint8'),
    ({'observation': np.array([0.0, np.nan], np.float32)}, 'Environment 1 .*not finite'),
    ({'observation': [0.0, 1.0], 'reward': np.nan}, 'Environment 1 .*reward nan at step 1'),
    ({'observation': [0.0, 1.0], 'reward': np.float32(np.inf)}, 'reward inf'),
    ({'observation': [0.0, 1.0], 'reward': 1e39}, r'reward 1e\+39'),
  ],
)
def test_values_that_would_become_others_or_are_not_finite_are_refused(given, message):
  dtype = given.get('dtype', np.float32)
  sound = functools.partial(Given, np.zeros(2, dtype), dtype=dtype)
  batch = base.EnvironmentBatch([sound, functools.partial(Given, **given)])

  def play():
    batch.initial()
    batch.step(np.array([0, 0]))

  with pytest.raises(ValueError, match=message):
    play()


def test_values_of_other_types_that_say_the_same_are_taken():
  batch = base.EnvironmentBatch([functools.partial(Given, [3, 250], np.int32(2), np.uint8)])
  assert batch.initial().observation.frame.tolist() == [[3, 250]]
  assert batch.step(np.array([0])).reward.tolist() == [2.0]


def test_unlike_environments_are_refused_and_closed():
  closed = []
  make = [
    functools.partial(FiveSteps, index, with_instruction=bool(index), closed=closed)
    for index in range(2)
  ]
  with pytest.raises(ValueError, match='must be alike'):
    base.EnvironmentBatch(make)
  assert sorted(closed) == [-1, 0]
  with pytest.raises(ValueError, match='at least one'):
    base.EnvironmentBatch([])


def test_failing_constructor_closes_those_made():
  closed = []
  make = [
    functools.partial(FiveSteps, 3, closed=closed),
    functools.partial(FiveSteps, error='no display'),
  ]
  with pytest.raises(ValueError, match='no display'):
    base.EnvironmentBatch(make)
  assert closed == [2]


@pytest.mark.parametrize('text', ['é' * 512, b'x' * 1024])
def test_a_text_arrives_whole_or_not_at_all(text):
  class Talking(FiveSteps):
    """Says the text."""

    def reset(self):
      return super().reset()._replace(instruction=text)

  batch = base.EnvironmentBatch([functools.partial(Talking, with_instruction=True)])
  encoded = text.encode() if isinstance(text, str) else text
  assert batch.initial().observation.instruction.tolist() == [encoded]
  text += text[:1]
  with pytest.raises(ValueError, match='1024'):
    batch.initial()
