"""A batch of environments: its rows, and its ends."""

import functools
import json

import numpy as np
import pytest

from impala_tf import structs
from impala_tf.environments import base
from tests.support.five_steps import LENGTH, FiveSteps


def _rows(batch, actions):
  """Runs a batch and stacks copies of its outputs: a StepOutput of [T + 1, n, ...]."""
  outputs = [batch.initial()]
  rows = [_leaves(outputs[0])]
  rows += [_leaves(batch.step(np.array(row, np.int32))) for row in actions]
  reward, done, truncated, episode_return, steps, finished, frame, *text = (
    np.array(column) for column in zip(*rows, strict=True)
  )
  info = structs.EpisodeInfo(episode_return, steps, finished)
  return structs.StepOutput(reward, done, truncated, info, structs.Observation(frame, *text))


def _leaves(output):
  texts = (
    ()
    if isinstance(output.observation.instruction, tuple)
    else (output.observation.instruction.copy(),)
  )
  frame = output.observation.frame.copy()
  ends = (output.done.copy(), output.truncated.copy())
  return (output.reward.copy(), *ends, *(x.copy() for x in output.info), frame, *texts)


def test_rows_follow_the_time_convention():
  # One environment, seven steps, actions 3 2 1 0 3 2 1; the episode ends with the fifth.
  rows = _rows(base.EnvironmentBatch([FiveSteps]), [[3], [2], [1], [0], [3], [2], [1]])
  column = lambda array: array[:, 0].tolist()
  assert column(rows.reward) == [0, 103, 202, 301, 400, 503, 102, 201]
  assert column(rows.done) == [True, False, False, True, False, True, False, False]
  assert column(rows.info.finished) == [False, False, False, False, False, True, False, False]
  # The lost life at the third step does not end the game's return; the end does, on the row after
  # it.
  assert column(rows.info.episode_return) == [0, 103, 305, 606, 1006, 1509, 102, 303]
  assert column(rows.info.episode_steps) == [0, 1, 2, 3, 4, 5, 1, 2]
  # The end's row has the first observation of the next episode, and no step is inserted for it.
  assert rows.observation.frame[:, 0, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 10, 11, 12]
  assert rows.observation.frame.shape == (8, 1, 2, 3, 1)


def test_a_time_limit_keeps_the_last_observation_and_ends_the_episode_a_row_later():
  # The limit is at the second step; the third action is not taken.
  make = functools.partial(FiveSteps, limit=2)
  rows = _rows(base.EnvironmentBatch([make]), [[3], [2], [1], [0], [3], [2], [1]])
  column = lambda array: array[:, 0].tolist()
  assert column(rows.reward) == [0, 103, 202, 0, 100, 203, 0, 101]
  assert column(rows.done) == [True, False, False, True, False, False, True, False]
  assert column(rows.truncated) == column(rows.done)
  assert column(rows.info.finished) == [False, *column(rows.done)[1:]]
  assert column(rows.info.episode_return) == [0, 103, 305, 305, 100, 303, 303, 101]
  assert column(rows.info.episode_steps) == [0, 1, 2, 2, 1, 2, 2, 1]
  assert rows.observation.frame[:, 0, 0, 0, 0].tolist() == [0, 1, 2, 10, 11, 12, 20, 21]


def test_a_reset_forgets_a_time_limit_that_was_reached():
  batch = base.EnvironmentBatch([functools.partial(FiveSteps, limit=2)])
  batch.initial()
  for _ in range(2):
    batch.step(np.array([1]))
  assert batch.initial().truncated.tolist() == [True]
  assert batch.step(np.array([1])).reward.tolist() == [101]


def test_environments_of_a_batch_are_apart():
  make = [functools.partial(FiveSteps, first, with_instruction=True) for first in (0, 5)]
  actions = np.random.default_rng(1).integers(4, size=(12, 2))
  both = _rows(base.EnvironmentBatch(make), actions)
  for index in range(2):
    alone = _rows(base.EnvironmentBatch(make[index : index + 1]), actions[:, index : index + 1])
    for array, expected in zip(_leaves(both), _leaves(alone), strict=True):
      np.testing.assert_array_equal(array[:, index], expected[:, 0])
  assert both.observation.instruction[:3].tolist() == [
    [b'at 0', b'at 50'],
    [b'at 1', b'at 51'],
    [b'at 2', b'at 52'],
  ]


def test_initial_starts_afresh():
  batch = base.EnvironmentBatch([FiveSteps])
  batch.initial()
  batch.step(np.array([1]))
  output = batch.initial()
  assert output.reward.tolist() == [0]
  assert output.done.tolist() == [True]
  assert output.info.episode_return.tolist() == [0]
  assert output.info.episode_steps.tolist() == [0]
  assert output.observation.frame[0, 0, 0, 0] == 10
  assert batch.step(np.array([1])).info.episode_return.tolist() == [101]
  assert batch.step(np.array([1])).info.episode_steps.tolist() == [2]


def test_arrays_are_as_the_specs():
  batch = base.EnvironmentBatch([functools.partial(FiveSteps, with_instruction=True)] * 3)
  shapes = [(3,)] * 6 + [(3, 2, 3, 1), (3,)]
  for output in (batch.initial(), batch.step(np.zeros(3, np.int32))):
    assert [array.shape for array in _leaves(output)] == shapes
    types = [array.dtype for array in _leaves(output)]
    ends, info = [np.bool_, np.bool_], [np.float32, np.int32, np.bool_]
    assert types == [np.float32, *ends, *info, np.uint8, np.dtype('S1024')]


def test_return_of_a_long_episode_loses_nothing():
  class Rich(FiveSteps):
    """Gives 2 ** 24 points, then single ones, which float32 can't add to it."""

    def step(self, action):
      transition = super().step(action)
      return transition._replace(reward=float(2**24 if self._time == 1 else 1))

  batch = base.EnvironmentBatch([Rich])
  batch.initial()
  for _ in range(LENGTH):
    output = batch.step(np.array([0]))
  assert output.info.episode_return.tolist() == [2**24 + 4]


def test_close_closes_all_although_one_raises():
  closed = []

  class Bad(FiveSteps):
    """Can't be closed."""

    def close(self):
      raise OSError('stuck')

  make = [
    functools.partial(FiveSteps, 1, closed=closed),
    Bad,
    functools.partial(FiveSteps, 2, closed=closed),
  ]
  with pytest.raises(OSError, match='stuck'):
    base.EnvironmentBatch(make).close()
  assert sorted(closed) == [0, 1]


def test_statistics_are_added_up_by_name():
  class Careful(FiveSteps):
    """Keeps counters."""

    def statistics(self):
      return {'hits': self._time, 'misses': 0, **({'errors': 0.5} if self._episode > 5 else {})}

  batch = base.EnvironmentBatch([Careful, FiveSteps, functools.partial(Careful, 7)])
  batch.initial()
  batch.step(np.zeros(3, np.int32))
  batch.step(np.zeros(3, np.int32))
  assert batch.statistics() == {'hits': 4, 'misses': 0, 'errors': 0.5}
  assert base.EnvironmentBatch([FiveSteps]).statistics() == {}


@pytest.mark.parametrize('type_', [np.int64, np.float32])
def test_statistics_of_numpy_become_numbers_that_json_has(type_):
  class Counting(FiveSteps):
    """Keeps counters of NumPy."""

    def statistics(self):
      return {'hits': type_(3)}

  assert json.loads(json.dumps(base.EnvironmentBatch([Counting] * 2).statistics())) == {'hits': 6}
