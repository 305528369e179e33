"""Each of the 57 games through the path of a training: the suite's environments as one agent for
all games has them.
"""

import functools

import numpy as np
import pytest

from atari57 import games, suite
from impala_tf import structs
from impala_tf.environments.base import EnvironmentBatch

SETTINGS = suite.SUITE.configure('atari57', agent='deep')
CAP = 203
# Where the emulator counts no lives, the end of the game is the only end.
WITHOUT_LIVES = {
  'bowling',
  'boxing',
  'double_dunk',
  'enduro',
  'fishing_derby',
  'freeway',
  'ice_hockey',
  'pong',
  'private_eye',
  'skiing',
  'tennis',
}
# Whose frames before the first one that can be played count, too.
COUNT_THEIR_START = {'berzerk', 'name_this_game'}
# Seeds of random actions that lose a life soon, where that takes long with the first.
SEEDS = {'atlantis': 0, 'name_this_game': 2, 'pitfall': 0, 'solaris': 0, 'video_pinball': 2}
MOST_STEPS = 1500


def make(game, **settings):
  atari = suite.AtariSuite()
  constructor = atari.make_environment(game, 1, False, SETTINGS)
  return functools.partial(constructor, **settings)


@pytest.mark.parametrize('game', [game.name for game in games.all_games()])
def test_game_plays_loses_a_life_and_ends(game):
  batch = EnvironmentBatch([make(game, max_episode_frames=CAP)])
  assert batch.num_actions == suite.AtariSuite().num_actions(SETTINGS) == 18
  spec = suite.AtariSuite().observation_spec(SETTINGS)
  output = batch.initial()
  frame = output.observation.frame
  assert structs.ArraySpec(frame.shape[1:], frame.dtype) == spec.frame
  assert output.done.all()
  frames = [output.observation.frame.copy()]
  random = np.random.default_rng(1)
  ends = []
  for _ in range(110):
    output = batch.step(random.integers(18, size=1, dtype=np.int32))
    frames.append(output.observation.frame.copy())
    if output.info.finished[0]:
      assert output.done[0]
      ends.append(int(output.info.episode_steps[0]))
  # 1 to 30 frames without action, then four for each step until the cap.
  assert len(ends) >= 2
  if game not in COUNT_THEIR_START:
    assert all((CAP - 30) / 4 <= steps <= CAP / 4 for steps in ends)
  assert frames[-1][..., -1].any()

  environment = make(game, max_noops=1)()
  environment.reset()
  lives = environment._ale.lives()
  assert (lives == 0) == (game in WITHOUT_LIVES)
  if lives < 2:
    return
  random = np.random.default_rng(SEEDS.get(game, 1))
  for _ in range(MOST_STEPS):
    transition = environment.step(int(random.integers(18)))
    if transition.done:
      break
  assert transition.done
  assert not transition.finished
  assert environment._ale.lives() == lives - 1
  assert not environment.step(0).done
