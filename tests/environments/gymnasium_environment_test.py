"""Gymnasium's environments, step by step: what of them reaches the agent."""

import io
import sys

import cv2
import gymnasium
import numpy as np
import pytest

from impala_tf.environments import py_process, suites, worker
from impala_tf.environments.base import EnvironmentBatch
from impala_tf.environments.gymnasium_environment import GymnasiumEnvironment, WrongOutputError
from tests.support.gymnasium_tasks import MODULE, TASKS


def test_vectors_rewards_and_ends_are_gymnasiums_own():
  theirs = gymnasium.make('CartPole-v1')
  ours = GymnasiumEnvironment('CartPole-v1', seed=3)
  assert (
    ours.num_actions,
    ours.observation_spec.frame.shape,
    ours.observation_spec.frame.dtype,
  ) == (2, (4,), np.float32)
  expected, _ = theirs.reset(seed=3)
  np.testing.assert_array_equal(ours.reset().frame, expected)
  ends = 0
  for action in np.random.default_rng(0).integers(2, size=200).tolist():
    expected, reward, terminated, truncated, _ = theirs.step(action)
    transition = ours.step(action)
    assert (transition.reward, transition.done, transition.finished) == (
      reward,
      terminated,
      terminated,
    )
    assert not truncated
    np.testing.assert_array_equal(transition.observation.frame, expected)
    if terminated:
      ends += 1
      expected, _ = theirs.reset()
      np.testing.assert_array_equal(ours.reset().frame, expected)
  assert ends > 3


def test_other_observations_become_vectors():
  ours = GymnasiumEnvironment('FrozenLake-v1', seed=1)
  frame = ours.reset().frame
  assert frame.dtype == np.float32
  assert frame.tolist() == [1.0] + [0.0] * 15


@pytest.mark.parametrize(('given', 'length'), [({}, 200), ({'max_episode_steps': 7}, 7)])
def test_time_limit_cuts_an_episode_and_does_not_end_the_task(given, length):
  ours = GymnasiumEnvironment('MountainCar-v0', seed=1, **given)
  ours.reset()
  transitions = [ours.step(1) for _ in range(length)]
  assert [t.finished for t in transitions] == [False] * (length - 1) + [True]
  assert [t.truncated for t in transitions] == [t.finished for t in transitions]
  assert ours.max_episode_steps == length


def test_an_end_of_the_task_at_the_time_limit_is_an_end():
  ours = GymnasiumEnvironment('Echo-v0', seed=1, max_episode_steps=4)
  ours.reset()
  last = [ours.step(0) for _ in range(4)][-1]
  assert last.finished
  assert not last.truncated


@pytest.mark.parametrize(('name', 'channels'), [('Echo-v0', 3), ('GreyEcho-v0', 1)])
def test_images_are_scaled_and_stacked_with_the_newest_last(name, channels):
  theirs, ours = (
    gymnasium.make(name),
    GymnasiumEnvironment(name, seed=1, frame_stack=2, height=10, width=15),
  )
  assert ours.observation_spec.frame.shape == (10, 15, 2 * channels)
  scale = lambda image: cv2.resize(image, (15, 10), interpolation=cv2.INTER_AREA).reshape(
    10, 15, channels
  )
  first = scale(theirs.reset(seed=1)[0])
  np.testing.assert_array_equal(
    ours.reset().frame, np.concatenate([np.zeros_like(first), first], axis=-1)
  )
  second = scale(theirs.step(5)[0])
  np.testing.assert_array_equal(
    ours.step(0).observation.frame, np.concatenate([first, second], axis=-1)
  )
  assert first.std() > 10
  after_reset = ours.reset().frame
  assert not after_reset[..., :channels].any()
  assert after_reset[..., channels:].any()


def test_actions_begin_where_the_space_does_and_are_repeated_until_the_end():
  ours = GymnasiumEnvironment('Echo-v0', seed=1, num_action_repeats=3)
  assert ours.num_actions == 3
  ours.reset()
  first, second = ours.step(0), ours.step(2)
  assert (first.reward, first.finished) == (15.0, False)
  assert (second.reward, second.finished) == (7.0, True)  # the fourth step was the last


def test_actions_stick_if_asked():
  ours = GymnasiumEnvironment('Echo-v0', seed=1, repeat_action_probability=0.5)
  stuck = 0
  for _ in range(50):
    ours.reset()
    ours.step(0)
    stuck += ours.step(2).reward == 5
  assert 10 < stuck < 40


def test_environments_of_a_batch_differ_and_follow_from_the_seed():
  suite, config = suites.resolve('gymnasium:CartPole-v1')
  make = lambda *seeds: EnvironmentBatch(
    [suite.make_environment(config.level_name, s, False, config) for s in seeds]
  )
  frames = make(1, 2, 1).initial().observation.frame
  assert (frames[0] != frames[1]).any()
  np.testing.assert_array_equal(frames[0], frames[2])


@pytest.mark.parametrize('reward', [2, 2.0, np.float32(2), np.array([2.0]), np.array([[2]]), True])
def test_rewards_may_be_of_any_type_of_number(reward):
  ours = GymnasiumEnvironment(f'{MODULE}:Odd-v0', seed=1, env_kwargs={'reward': reward})
  ours.reset()
  assert ours.step(0).reward == float(np.sum(reward))


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'trouble': 'observation'}, 'Odd-v0, at step 3 of episode 2, .*nan'),
    ({'trouble': 'reward'}, 'Odd-v0, at step 3 of episode 2, .*inf'),
    ({'reward': 'much'}, "Odd-v0, at step 1 of episode 2, .*'much'"),
    ({'reward': np.ones(2)}, 'Odd-v0, at step 1 of episode 2, '),
    ({'trouble': 'old step'}, 'Odd-v0: `step` returned 4 values'),
  ],
)
def test_wrong_observations_and_rewards_are_named_with_their_step(given, message):
  ours = GymnasiumEnvironment(f'{MODULE}:Odd-v0', seed=1, env_kwargs=given)
  ours.reset()
  ours.reset()
  with pytest.raises(WrongOutputError, match=message):
    _play(ours, 3)


def _play(environment, steps):
  for _ in range(steps):
    environment.step(0)


class Printing:
  """Says through which kind of stream its prints go."""

  def stream(self):
    return type(sys.stdout).__name__


def test_an_environment_that_prints_leaves_the_output_alone(capfd):
  suite, config = suites.resolve(f'{TASKS}:Odd-v0', env_kwargs='{"trouble": "prints"}')
  suite.check(config)
  assert capfd.readouterr().out == ''
  with py_process.PyProcess(Printing) as process:
    assert process.call('stream') == 'FewLines'

  stream = io.StringIO()
  few = worker.FewLines(stream)
  for number in range(5):
    print('line', number, file=few)
  first, *_, last = stream.getvalue().splitlines()
  assert (first, 'line 2\n' in stream.getvalue()) == ('line 0', True)
  assert 'prints more' in last
