"""What an agent sees of Atari's games, against recordings, Gymnasium's wrappers and the emulator.

`python tests/atari57/frames_test.py` in the repository's root writes
tests/golden/atari_frames.json anew.
"""

import collections
import hashlib
import json

import ale_py
import cv2
import gymnasium
import numpy as np
import pytest

from atari57.environment import AtariEnvironment
from tests.support.atari import emulator, random_actions
from tests.support.processes import ROOT

GOLDEN = ROOT / 'tests' / 'golden' / 'atari_frames.json'


GOLDEN_GAMES = ('pong', 'breakout', 'seaquest')


def record(game):
  """What 300 random steps of a training environment give: a hash of all frames, rewards and ends by
  step.
  """
  atari = AtariEnvironment(game, seed=3)
  digest = hashlib.sha256(atari.reset().frame.tobytes())
  result = {'rewards': {}, 'lives_lost': [], 'finished': []}
  for step, action in enumerate(random_actions(atari, 300)):
    observation, reward, done, finished, _ = atari.step(action)
    if finished:
      result['finished'].append(step)
      observation = atari.reset()
    elif done:
      result['lives_lost'].append(step)
    if reward:
      result['rewards'][str(step)] = reward
    digest.update(observation.frame.tobytes())
  return {'frames_sha256': digest.hexdigest(), **result}


@pytest.mark.parametrize('game', GOLDEN_GAMES)
def test_frames_rewards_and_ends_are_the_recorded_ones(game):
  assert record(game) == json.loads(GOLDEN.read_text())[game]


@pytest.mark.parametrize(
  ('game', 'steps'),
  [
    ('pong', 250),
    ('breakout', 400),
    ('seaquest', 400),
    ('space_invaders', 500),
    ('ms_pacman', 500),
    ('beam_rider', 500),
  ],
)
def test_frames_rewards_and_ends_equal_those_of_gymnasiums_wrappers(game, steps):
  gymnasium.register_envs(ale_py)
  name = f'ALE/{"".join(word.capitalize() for word in game.split("_"))}-v5'
  theirs = gymnasium.make(name, frameskip=1, repeat_action_probability=0.0, full_action_space=False)
  theirs = gymnasium.wrappers.AtariPreprocessing(theirs, noop_max=0, frame_skip=4, screen_size=84)
  theirs = gymnasium.wrappers.FrameStackObservation(theirs, 4, padding_type='zero')
  ours = AtariEnvironment(game, seed=1, max_noops=0)
  assert ours.num_actions == theirs.action_space.n
  frames, info = theirs.reset(seed=1)
  np.testing.assert_array_equal(ours.reset().frame, np.moveaxis(frames, 0, -1))
  rewards, lives_lost, lives = 0, 0, info['lives']
  for action in random_actions(ours, steps):
    frames, reward, terminated, truncated, info = theirs.step(action)
    transition = ours.step(action)
    assert transition.reward == reward
    assert transition.finished == (terminated or truncated)
    assert transition.done == (transition.finished or info['lives'] < lives)
    rewards += reward != 0
    lives_lost += info['lives'] < lives
    lives = info['lives']
    frame = transition.observation.frame
    if terminated:  # the frame before the reset is seen by no agent
      frames, info = theirs.reset()
      lives = info['lives']
      frame = ours.reset().frame
    np.testing.assert_array_equal(frame, np.moveaxis(frames, 0, -1))
  assert rewards > 0
  assert game == 'pong' or lives_lost > 0


def test_frame_is_the_maximum_of_the_last_two_scaled_with_the_newest_last():
  ale = emulator('seaquest')
  action_set = ale.getMinimalActionSet()
  atari = AtariEnvironment('seaquest', seed=1, max_noops=0)
  scale = lambda screen: cv2.resize(screen, (84, 84), interpolation=cv2.INTER_AREA)
  expected = collections.deque(
    [np.zeros((84, 84), np.uint8)] * 3 + [scale(ale.getScreenGrayscale())], maxlen=4
  )
  np.testing.assert_array_equal(atari.reset().frame, np.stack(expected, axis=-1))
  flickers = False
  for action in random_actions(atari, 60):
    screens = []
    for _ in range(4):
      ale.act(action_set[action])
      screens.append(ale.getScreenGrayscale())
    expected.append(scale(np.maximum(screens[2], screens[3])))
    np.testing.assert_array_equal(atari.step(action).observation.frame, np.stack(expected, axis=-1))
    flickers |= (screens[2] > screens[3]).any()
  assert flickers, 'the maximum was never needed'


def test_one_repeat_is_one_frame_without_maximum():
  ale = emulator('seaquest')
  action_set = ale.getMinimalActionSet()
  atari = AtariEnvironment(
    'seaquest', seed=1, max_noops=0, num_action_repeats=1, frame_stack=1, height=210, width=160
  )
  atari.reset()
  for action in random_actions(atari, 60):
    ale.act(action_set[action])
    frame = atari.step(action).observation.frame
    assert frame.shape == (210, 160, 1)
    np.testing.assert_array_equal(frame[..., 0], ale.getScreenGrayscale())


def test_screen_can_be_seen():
  atari = AtariEnvironment('pong', seed=1)
  atari.reset()
  assert atari.render().shape == (210, 160, 3)


if __name__ == '__main__':
  GOLDEN.write_text(json.dumps({game: record(game) for game in GOLDEN_GAMES}, indent=1) + '\n')
