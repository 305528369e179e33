"""Tests of the Atari environment: episodes, lives, starts and actions."""

import functools
import re

import ale_py
import numpy as np
import pytest

from atari57 import environment
from atari57.environment import AtariEnvironment
from impala_tf.environments import base, py_process
from tests.support.atari import emulator, random_actions


@pytest.mark.parametrize('is_test', [False, True])
def test_lost_life_is_done_in_training_and_never_ends_the_game(is_test):
  atari = AtariEnvironment('breakout', seed=1, is_test=is_test)
  ale = atari._ale
  atari.reset()
  lost = ends = 0
  reloaded = []
  for action in random_actions(atari, 1200):
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
  ale = emulator('skiing')
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
    frames.append([atari.step(action).observation.frame for action in random_actions(atari, 100)])
  np.testing.assert_array_equal(*frames)


def test_actions_stick_if_asked():
  # With probability 1/4 a frame, four repeats of another action are hardly ever all that action.
  screens = []
  for seed in (1, 2):
    atari = AtariEnvironment('breakout', seed=seed, max_noops=0, repeat_action_probability=0.25)
    assert atari._ale.getFloat('repeat_action_probability') == 0.25
    atari.reset()
    screens.append([atari.step(action).observation.frame for action in random_actions(atari, 100)])
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
      with pytest.raises(ValueError, match=f' {wrong} '):
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
    ({'seed': -1}, 'seed '),
    ({'num_action_repeats': 0}, 'num_action_repeats '),
    ({'max_noops': -1}, 'max_noops '),
    ({'frame_stack': 0}, 'frame_stack '),
    ({'height': 0}, 'height '),
    ({'width': 0}, 'width '),
    ({'max_episode_frames': 30}, 'max_episode_frames '),
    ({'game': 'pongg'}, "'pongg'"),
  ],
)
def test_wrong_arguments_are_refused(arguments, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    AtariEnvironment(**({'game': 'pong', 'seed': 1} | arguments))


def test_all_games_have_actions_of_their_own():
  # With all actions of the console they are played in all_games_test.py.
  for game in environment.games.all_games():
    atari = AtariEnvironment(game.name, seed=1, max_noops=1)
    assert atari.num_actions == environment.num_actions(game.name, False)
    atari.reset()
    assert atari.step(atari.num_actions - 1).observation.frame.shape == (84, 84, 4)


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
