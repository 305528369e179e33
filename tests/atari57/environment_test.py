"""Tests of the Atari environment.

`python tests/atari57/environment_test.py` in the repository's root writes
tests/golden/atari_frames.json anew.
"""

import collections
import functools
import hashlib
import json
import pathlib
import re

import ale_py
import cv2
import gymnasium
import numpy as np
import pytest

from atari57 import environment
from atari57.environment import AtariEnvironment
from impala_tf.environments import base, py_process

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / 'golden' / 'atari_frames.json'
GOLDEN_GAMES = ('pong', 'breakout', 'seaquest')


def _actions(atari, steps, seed=7):
  return np.random.default_rng(seed).integers(atari.num_actions, size=steps).tolist()


def _emulator(game, **settings):
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
  ale = ale_py.ALEInterface()
  ale.setFloat('repeat_action_probability', 0.0)
  for name, value in settings.items():
    ale.setInt(name, value)
  ale.loadROM(ale_py.roms.get_rom_path(game))
  ale.reset_game()
  return ale


def record(game):
  """What 300 random steps of a training environment give: a hash of all frames, rewards and ends by
  step.
  """
  atari = AtariEnvironment(game, seed=3)
  digest = hashlib.sha256(atari.reset().frame.tobytes())
  result = {'rewards': {}, 'lives_lost': [], 'finished': []}
  for step, action in enumerate(_actions(atari, 300)):
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
  for action in _actions(ours, steps):
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
  ale = _emulator('seaquest')
  action_set = ale.getMinimalActionSet()
  atari = AtariEnvironment('seaquest', seed=1, max_noops=0)
  scale = lambda screen: cv2.resize(screen, (84, 84), interpolation=cv2.INTER_AREA)
  expected = collections.deque(
    [np.zeros((84, 84), np.uint8)] * 3 + [scale(ale.getScreenGrayscale())], maxlen=4
  )
  np.testing.assert_array_equal(atari.reset().frame, np.stack(expected, axis=-1))
  flickers = False
  for action in _actions(atari, 60):
    screens = []
    for _ in range(4):
      ale.act(action_set[action])
      screens.append(ale.getScreenGrayscale())
    expected.append(scale(np.maximum(screens[2], screens[3])))
    np.testing.assert_array_equal(atari.step(action).observation.frame, np.stack(expected, axis=-1))
    flickers |= (screens[2] > screens[3]).any()
  assert flickers, 'the maximum was never needed'


def test_one_repeat_is_one_frame_without_maximum():
  ale = _emulator('seaquest')
  action_set = ale.getMinimalActionSet()
  atari = AtariEnvironment(
    'seaquest', seed=1, max_noops=0, num_action_repeats=1, frame_stack=1, height=210, width=160
  )
  atari.reset()
  for action in _actions(atari, 60):
    ale.act(action_set[action])
    frame = atari.step(action).observation.frame
    assert frame.shape == (210, 160, 1)
    np.testing.assert_array_equal(frame[..., 0], ale.getScreenGrayscale())


@pytest.mark.parametrize('is_test', [False, True])
def test_lost_life_is_done_in_training_and_never_ends_the_game(is_test):
  atari = AtariEnvironment('breakout', seed=1, is_test=is_test)
  ale = atari._ale
  atari.reset()
  lost = ends = 0
  reloaded = []
  for action in _actions(atari, 1200):
    before = ale.lives()
    frames_before = ale.getEpisodeFrameNumber()
    _, _, done, finished, _ = atari.step(action)
    life_lost = ale.lives() < before
    assert finished == ale.game_over()
    assert done == (finished or (life_lost and not is_test))
    lost += life_lost
    if finished:
      assert ale.lives() == 0
      ends += 1
      atari.reset()
      reloaded.append(ale.lives())
    else:
      assert (
        ale.getEpisodeFrameNumber() == frames_before + 4
      )  # a lost life does not cut the repeats short
  assert lost == 5 * ends + (5 - ale.lives())
  assert ends >= 2
  assert reloaded == [5] * ends


def test_episode_return_is_the_sum_of_raw_rewards_over_all_lives():
  batch = base.EnvironmentBatch(
    [functools.partial(AtariEnvironment, 'seaquest', seed) for seed in range(2)]
  )
  batch.initial()
  sums = np.zeros(2)
  games = lives = 0
  largest = 0
  for actions in np.random.default_rng(5).integers(18, size=(900, 2)):
    output = batch.step(actions)
    sums += output.reward
    np.testing.assert_array_equal(output.info.episode_return, sums)
    largest = max(largest, output.reward.max())
    lives += np.sum(output.done & ~output.info.finished)
    games += output.info.finished.sum()
    sums[output.info.finished] = 0
  assert largest > 1  # not clipped
  assert games >= 1
  assert lives >= 3


def test_episodes_start_with_various_numbers_of_noops():
  atari = AtariEnvironment('pong', seed=1, max_noops=6)
  starts = []
  for _ in range(60):
    atari.reset()
    starts.append(atari._ale.getEpisodeFrameNumber())
  assert set(starts) == {1, 2, 3, 4, 5, 6}
  again = AtariEnvironment('pong', seed=1, max_noops=6)
  other = AtariEnvironment('pong', seed=2, max_noops=6)
  for environment_, same in ((again, True), (other, False)):
    frames = []
    for _ in range(60):
      environment_.reset()
      frames.append(environment_._ale.getEpisodeFrameNumber())
    assert (frames == starts) == same


def test_noops_take_no_action():
  atari = AtariEnvironment('skiing', seed=1, max_noops=20)
  ale = _emulator('skiing')
  frame = atari.reset().frame
  for _ in range(atari._ale.getEpisodeFrameNumber()):
    ale.act(ale_py.Action.NOOP)
  np.testing.assert_array_equal(atari._ale.getRAM(), ale.getRAM())
  assert frame[..., -1].any()


def test_life_lost_in_the_first_step_is_done():
  atari = AtariEnvironment('breakout', seed=1, num_action_repeats=300)
  for _ in range(2):
    atari.reset()
    _, _, done, finished, _ = atari.step(1)  # serves, and the ball is lost
    assert done
    assert not finished


def test_an_extra_life_is_not_a_loss_of_life():
  class Counting:
    """An emulator whose lives are those given."""

    def __init__(self, ale, lives):
      self._ale = ale
      self.lives = iter(lives).__next__

    def __getattr__(self, name):
      return getattr(self._ale, name)

  atari = AtariEnvironment('breakout', seed=1)
  atari._ale = Counting(atari._ale, [5, 6, 6, 5, 4, 5])
  atari.reset()
  assert [atari.step(0).done for _ in range(5)] == [False, False, True, True, False]


def test_game_that_ends_during_noops_starts_again():
  # Without action the game of Pong is lost after some 3,100 frames; one of three draws up to 9,000
  # is beyond that.
  atari = AtariEnvironment('pong', seed=1, max_noops=9000)
  frames_before = atari._ale.getFrameNumber()
  for _ in range(3):
    atari.reset()
    assert not atari._ale.game_over()
    assert 0 < atari._ale.getEpisodeFrameNumber() < 4000
  assert atari._ale.getFrameNumber() - frames_before > 4000


def test_no_noops():
  atari = AtariEnvironment('pong', seed=1, max_noops=0)
  atari.reset()
  assert atari._ale.getEpisodeFrameNumber() == 0


def test_game_ends_at_the_cap_which_counts_noops():
  atari = AtariEnvironment('pong', seed=1, max_episode_frames=103, max_noops=30)
  for _ in range(3):
    atari.reset()
    noops = atari._ale.getEpisodeFrameNumber()
    steps = 0
    finished = False
    while not finished:
      observation, _, done, finished, _ = atari.step(0)
      assert done == finished
      steps += 1
    assert steps == -(-(103 - noops) // 4)
    assert atari._ale.getEpisodeFrameNumber() == 103
    assert observation.frame[..., -1].any()


def test_defaults_are_the_papers_protocol():
  ale = AtariEnvironment('pong', seed=1)._ale
  assert ale.getInt('max_num_frames_per_episode') == 108_000
  assert ale.getInt('frame_skip') == 1
  assert ale.getFloat('repeat_action_probability') == 0
  assert not ale.getBool('color_averaging')
  assert not ale.getBool('truncate_on_loss_of_life')


def test_actions_do_not_stick():
  # The same actions give the same game whatever the emulator's seed.
  frames = []
  for seed in (1, 2):
    atari = AtariEnvironment('breakout', seed=seed, max_noops=0)
    atari.reset()
    frames.append([atari.step(action).observation.frame for action in _actions(atari, 100)])
  np.testing.assert_array_equal(*frames)


def test_actions_stick_if_asked():
  # With probability 1/4 a frame, four repeats of another action are hardly ever all that action.
  screens = []
  for seed in (1, 2):
    atari = AtariEnvironment('breakout', seed=seed, max_noops=0, repeat_action_probability=0.25)
    assert atari._ale.getFloat('repeat_action_probability') == 0.25
    atari.reset()
    screens.append([atari.step(action).observation.frame for action in _actions(atari, 100)])
  assert (np.array(screens[0]) != screens[1]).any()


def test_number_of_actions_of_a_game_that_must_be_played_to_be_started():
  # With a cap of few frames the emulator never leaves this game's menu.
  assert environment.num_actions('double_dunk', False) == 18


@pytest.mark.parametrize(
  ('game', 'minimal'), [('pong', 6), ('breakout', 4), ('seaquest', 18), ('skiing', 3)]
)
def test_action_sets(game, minimal):
  for full, number in ((False, minimal), (True, 18)):
    atari = AtariEnvironment(game, seed=1, full_action_space=full)
    assert atari.num_actions == environment.num_actions(game, full) == number
    atari.reset()
    for action in range(number):
      atari.step(action)
    for wrong in (-1, number):
      with pytest.raises(ValueError, match=f'Action {wrong} is not in 0..{number - 1}'):
        atari.step(wrong)


def test_full_actions_of_a_game_are_the_consoles():
  atari = AtariEnvironment('pong', seed=1, full_action_space=True)
  assert [action.value for action in atari._actions] == list(range(18))


def test_skiing_moves_with_the_stick_whether_or_not_fire_is_pressed():
  def ram(name):
    atari = AtariEnvironment('skiing', seed=1, max_noops=0, full_action_space=True)
    atari.reset()
    for _ in range(30):
      atari.step(ale_py.Action.__members__[name].value)
    return atari._ale.getRAM().tobytes()

  assert ram('NOOP') == ram('FIRE')
  assert ram('LEFT') == ram('LEFTFIRE')
  assert ram('RIGHT') == ram('RIGHTFIRE')
  assert ram('DOWNRIGHT') == ram('DOWNRIGHTFIRE')
  assert len({ram('NOOP'), ram('LEFT'), ram('RIGHT')}) == 3


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ({'seed': -1}, 'seed must be at least 0, not -1'),
    ({'num_action_repeats': 0}, 'num_action_repeats must be at least 1, not 0'),
    ({'max_noops': -1}, 'max_noops must be at least 0, not -1'),
    ({'frame_stack': 0}, 'frame_stack must be at least 1'),
    ({'height': 0}, 'height must be at least 1'),
    ({'width': 0}, 'width must be at least 1'),
    ({'max_episode_frames': 30}, 'max_episode_frames must be at least 31, not 30'),
    ({'game': 'pongg'}, 'Did you mean pong'),
  ],
)
def test_wrong_arguments_are_refused(arguments, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    AtariEnvironment(**({'game': 'pong', 'seed': 1} | arguments))


def test_screen_can_be_seen():
  atari = AtariEnvironment('pong', seed=1)
  atari.reset()
  assert atari.render().shape == (210, 160, 3)


def test_all_games_load_and_step():
  for game in environment.games.all_games():
    atari = AtariEnvironment(game.name, seed=1, full_action_space=True, max_noops=1)
    assert atari.reset().frame.shape == (84, 84, 4)
    assert atari.step(17).observation.frame.dtype == np.uint8


def test_process_of_atari_environments_has_no_tensorflow():
  with py_process.PyProcess(Spy, functools.partial(AtariEnvironment, 'pong', 1)) as process:
    modules = process.call('modules')
    assert 'ale_py' in modules
    assert 'tensorflow' not in modules


class Spy(base.EnvironmentBatch):
  """Tells what its process has imported."""

  def __init__(self, make):
    super().__init__([make])

  def modules(self):
    import sys

    return list(sys.modules)


if __name__ == '__main__':
  GOLDEN.write_text(json.dumps({game: record(game) for game in GOLDEN_GAMES}, indent=1) + '\n')
