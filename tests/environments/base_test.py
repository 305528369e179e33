"""Tests of environments."""

import dataclasses
import functools

import numpy as np
import pytest

from impala_tf import structs
from impala_tf.environments import base, process_group, py_process
from impala_tf.environments import suite as suite_lib
from impala_tf.system import timing
from tests.support import catch

LENGTH = 5  # steps of an episode


class Counting:
  """Its rewards tell time and action: 100 * (step of the episode) + action. A life is lost at step
  3 of 5.

  Frames are filled with 10 * episode + step, steps after the action; the instruction says the same.
  """

  num_actions = 4

  def __init__(
    self,
    first_episode=0,
    *,
    with_instruction=False,
    closed=None,
    error=None,
    finished_only=False,
    limit=None,
  ):
    if error:
      raise ValueError(error)
    self._episode = first_episode - 1
    self._with_instruction = with_instruction
    self._closed = closed
    self._finished_only = finished_only
    self._limit = limit
    text = structs.ArraySpec((), np.bytes_) if with_instruction else ()
    self.observation_spec = structs.Observation(structs.ArraySpec((2, 3, 1), np.uint8), text)

  def reset(self):
    self._episode += 1
    self._time = 0
    return self._observe()

  def step(self, action):
    assert self._time < LENGTH, 'stepped after the end'
    self._time += 1
    truncated = self._time == self._limit
    finished = self._time == LENGTH or truncated
    done = self._time == 3 or (finished and not self._finished_only)
    reward = float(100 * self._time + action)
    return base.Transition(self._observe(), reward, done, finished, truncated)

  def close(self):
    if self._closed is not None:
      self._closed.append(self._episode)

  def _observe(self):
    number = 10 * self._episode + self._time
    text = b'at %d' % number if self._with_instruction else ()
    return structs.Observation(np.full((2, 3, 1), number, np.uint8), text)


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
  rows = _rows(base.EnvironmentBatch([Counting]), [[3], [2], [1], [0], [3], [2], [1]])
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
  make = functools.partial(Counting, limit=2)
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
  batch = base.EnvironmentBatch([functools.partial(Counting, limit=2)])
  batch.initial()
  for _ in range(2):
    batch.step(np.array([1]))
  assert batch.initial().truncated.tolist() == [True]
  assert batch.step(np.array([1])).reward.tolist() == [101]


def test_environments_of_a_batch_are_apart():
  make = [functools.partial(Counting, first, with_instruction=True) for first in (0, 5)]
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
  batch = base.EnvironmentBatch([Counting])
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
  batch = base.EnvironmentBatch([functools.partial(Counting, with_instruction=True)] * 3)
  shapes = [(3,)] * 6 + [(3, 2, 3, 1), (3,)]
  for output in (batch.initial(), batch.step(np.zeros(3, np.int32))):
    assert [array.shape for array in _leaves(output)] == shapes
    types = [array.dtype for array in _leaves(output)]
    ends, info = [np.bool_, np.bool_], [np.float32, np.int32, np.bool_]
    assert types == [np.float32, *ends, *info, np.uint8, np.dtype('S1024')]


def test_return_of_a_long_episode_loses_nothing():
  class Rich(Counting):
    """Gives 2 ** 24 points, then single ones, which float32 can't add to it."""

    def step(self, action):
      transition = super().step(action)
      return transition._replace(reward=float(2**24 if self._time == 1 else 1))

  batch = base.EnvironmentBatch([Rich])
  batch.initial()
  for _ in range(LENGTH):
    output = batch.step(np.array([0]))
  assert output.info.episode_return.tolist() == [2**24 + 4]


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
  batch = base.EnvironmentBatch([Counting] * 2)
  batch.initial()
  with pytest.raises(ValueError, match=message):
    batch.step(actions)
  assert batch.step(np.array([0, 0])).info.episode_steps.tolist() == [1, 1]  # nothing was stepped


def test_step_before_initial_is_refused():
  with pytest.raises(RuntimeError, match='initial'):
    base.EnvironmentBatch([Counting]).step(np.array([0]))


def test_finished_without_done_is_refused():
  batch = base.EnvironmentBatch([functools.partial(Counting, finished_only=True)])
  batch.initial()
  for _ in range(LENGTH - 1):
    batch.step(np.array([0]))
  with pytest.raises(ValueError, match='finished without done'):
    batch.step(np.array([0]))


def test_observation_of_another_shape_is_refused():
  class Small(Counting):
    """Its frames would be broadcast."""

    def reset(self):
      return structs.Observation(np.zeros((2, 1, 1), np.uint8))

  with pytest.raises(ValueError, match=r'\(2, 1, 1\).*\(2, 3, 1\)'):
    base.EnvironmentBatch([Small]).initial()


class Given(Counting):
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
  make = [functools.partial(Counting, i, with_instruction=bool(i), closed=closed) for i in range(2)]
  with pytest.raises(ValueError, match='must be alike'):
    base.EnvironmentBatch(make)
  assert sorted(closed) == [-1, 0]
  with pytest.raises(ValueError, match='at least one'):
    base.EnvironmentBatch([])


def test_failing_constructor_closes_those_made():
  closed = []
  make = [
    functools.partial(Counting, 3, closed=closed),
    functools.partial(Counting, error='no display'),
  ]
  with pytest.raises(ValueError, match='no display'):
    base.EnvironmentBatch(make)
  assert closed == [2]


def test_close_closes_all_although_one_raises():
  closed = []

  class Bad(Counting):
    """Can't be closed."""

    def close(self):
      raise OSError('stuck')

  make = [
    functools.partial(Counting, 1, closed=closed),
    Bad,
    functools.partial(Counting, 2, closed=closed),
  ]
  with pytest.raises(OSError, match='stuck'):
    base.EnvironmentBatch(make).close()
  assert sorted(closed) == [0, 1]


def test_statistics_are_added_up_by_name():
  class Careful(Counting):
    """Keeps counters."""

    def statistics(self):
      return {'hits': self._time, 'misses': 0, **({'errors': 0.5} if self._episode > 5 else {})}

  batch = base.EnvironmentBatch([Careful, Counting, functools.partial(Careful, 7)])
  batch.initial()
  batch.step(np.zeros(3, np.int32))
  batch.step(np.zeros(3, np.int32))
  assert batch.statistics() == {'hits': 4, 'misses': 0, 'errors': 0.5}
  assert base.EnvironmentBatch([Counting]).statistics() == {}


class Suite(suite_lib.Suite):
  """A suite of one counting environment with instructions."""

  def make_environment(self, level, seed, is_test, config):
    return functools.partial(Counting, 2, with_instruction=True)


def test_unrolls_of_a_process_are_tensors_with_its_rows():
  import tensorflow as tf

  group = process_group.make_environments(
    Suite(), catch.CONFIG, [['any'] * 2] * 2, False, [1], timing.StageTimer()
  )
  with group:
    assert group[1].call('num_actions') == 4

    @tf.function
    def begin(index):
      return group.initial(index)

    @tf.function
    def play(index, actions):
      outputs = [group.step(index, t + 1, actions[t]) for t in range(2)]
      with tf.control_dependencies([outputs[-1].reward]):
        return outputs, group.take(index, 3)

    first = begin(1)
    assert first.observation.frame.shape == (2, 2, 3, 1)
    assert first.observation.instruction.numpy().tolist() == [b'at 20'] * 2
    assert first.done.numpy().tolist() == [True] * 2
    (second, third), unrolls = play(1, tf.constant([[3, 1], [2, 0]]))
    assert second.reward.numpy().tolist() == [103, 101]
    assert third.observation.instruction.numpy().tolist() == [b'at 22'] * 2
    assert unrolls.info.episode_steps.dtype == tf.int32
    assert unrolls.reward.numpy().tolist() == [[0, 103, 202], [0, 101, 200]]
    assert unrolls.observation.instruction.numpy().tolist() == [[b'at 20', b'at 21', b'at 22']] * 2
    assert unrolls.observation.frame[:, :, 0, 0, 0].numpy().tolist() == [[20, 21, 22]] * 2

    # The next one begins with the last row, and leaves what was taken alone.
    _, following = play(1, tf.constant([[0, 0], [0, 0]]))
    assert following.info.episode_steps.numpy().tolist() == [[2, 3, 4]] * 2
    assert unrolls.info.episode_steps.numpy().tolist() == [[0, 1, 2]] * 2


def test_environments_of_a_run_are_alike_over_all_processes():
  class Mixed(Suite):
    """Has a level with other actions."""

    def make_environment(self, level, seed, is_test, config):
      return functools.partial(Counting, with_instruction=level == 'read')

  levels = [['read'], ['look']]
  config = dataclasses.replace(catch.CONFIG, level_name='read')
  with pytest.raises(py_process.ProcessError, match='must be alike'):
    process_group.make_environments(
      Mixed(), config, levels, False, [1], timing.StageTimer()
    ).start()


@pytest.mark.parametrize('text', ['é' * 512, b'x' * 1024])
def test_a_text_arrives_whole_or_not_at_all(text):
  class Talking(Counting):
    """Says the text."""

    def reset(self):
      return super().reset()._replace(instruction=text)

  batch = base.EnvironmentBatch([functools.partial(Talking, with_instruction=True)])
  encoded = text.encode() if isinstance(text, str) else text
  assert batch.initial().observation.instruction.tolist() == [encoded]
  text += text[:1]
  with pytest.raises(ValueError, match='1024'):
    batch.initial()
