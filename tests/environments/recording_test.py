"""Videos of episodes."""

import functools

import cv2
import numpy as np
import pytest

from impala_tf.environments import recording
from tests.support import timed
from tests.support.timed import Screen


def read(path):
  video = cv2.VideoCapture(str(path))
  frames = []
  while (read := video.read())[0]:
    frames.append(read[1])
  return np.array(frames), video.get(cv2.CAP_PROP_FPS)


def play(environment, steps):
  environment.reset()
  for _ in range(steps):
    if environment.step(1).finished:
      environment.reset()


def test_the_first_episodes_are_recorded_whole(tmp_path):
  paths = [str(tmp_path / f'{i}.mp4') for i in range(2)]
  environment = recording.RecordingEnvironment(functools.partial(Screen, 5, 3.0), paths, 15)
  assert environment.num_actions == 3
  assert environment.observation_spec == timed.Timed.observation_spec
  play(environment, 23)
  environment.close()
  assert sorted(path.name for path in tmp_path.iterdir()) == ['0.mp4', '1.mp4']
  for path in paths:
    frames, rate = read(path)
    assert rate == 15
    assert frames.shape == (6, 20, 30, 3)  # the first observation's, and one for each step
    np.testing.assert_allclose(frames.mean(axis=(1, 2, 3)), 10 * np.arange(6), atol=3)


@pytest.mark.parametrize('end', ['close', 'reset'])
def test_an_episode_that_does_not_end_leaves_nothing(tmp_path, end):
  environment = recording.RecordingEnvironment(
    functools.partial(Screen, 5, 3.0), [str(tmp_path / 'a.mp4')], 15
  )
  play(environment, 3)
  if end == 'close':
    environment.close()
    assert list(tmp_path.iterdir()) == []
  else:
    play(environment, 5)
    environment.close()
    assert len(read(tmp_path / 'a.mp4')[0]) == 6


def test_what_the_environment_answers_is_passed_on(tmp_path):
  environment = recording.RecordingEnvironment(functools.partial(Screen, 2, 3.0), [], 15)
  plain = Screen(2, 3.0)
  np.testing.assert_array_equal(environment.reset().frame, plain.reset().frame)
  for _ in range(2):
    ours, theirs = environment.step(1), plain.step(1)
    np.testing.assert_array_equal(ours.observation.frame, theirs.observation.frame)
    assert ours[1:] == theirs[1:]
  assert list(tmp_path.iterdir()) == []
