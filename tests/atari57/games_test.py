"""Tests of the list of games."""

import statistics

import ale_py.roms
import gymnasium
import pytest

from atari57 import games
from tests.support import columns


def gymnasium_id(game):
  return f'ALE/{"".join(word.capitalize() for word in game.name.split("_"))}-v5'


def test_there_are_57_games_and_each_has_a_rom_and_a_gymnasium_id():
  gymnasium.register_envs(ale_py)
  names = [game.name for game in games.all_games()]
  assert len(set(names)) == 57
  assert names == sorted(names)
  assert set(names) <= set(ale_py.roms.get_all_rom_ids())
  for game in games.all_games():
    assert gymnasium.spec(gymnasium_id(game)).kwargs['game'] == game.name


@pytest.mark.parametrize(
  ('spelling', 'name'),
  [
    ('pong', 'pong'),
    ('Pong', 'pong'),
    ('ALE/Pong-v5', 'pong'),
    ('PongNoFrameskip-v4', 'pong'),
    ('PongDeterministic-v0', 'pong'),
    ('ms_pacman', 'ms_pacman'),
    ('MsPacman', 'ms_pacman'),
    ('ms-pacman', 'ms_pacman'),
    (' Ms Pacman ', 'ms_pacman'),
    ('ALE/UpNDown-v5', 'up_n_down'),
    ('JamesBond', 'jamesbond'),
    ('RiverRaid', 'riverraid'),
    ('wizard_of_wor', 'wizard_of_wor'),
  ],
)
def test_find_knows_usual_spellings(spelling, name):
  assert games.find(spelling).name == name


def test_find_knows_each_name_and_id():
  for game in games.all_games():
    assert games.find(game.name) is game
    assert games.find(gymnasium_id(game)) is game


def test_unknown_game_is_refused_with_a_suggestion():
  with pytest.raises(ValueError, match=r"'brakeout'.* breakout"):
    games.find('brakeout')
  with pytest.raises(ValueError, match=r"'xyzzy'.* alien, .*zaxxon"):
    games.find('xyzzy')
  with pytest.raises(ValueError, match="''"):
    games.find('')


# How many numbers, their sum, and a hash of them by game; see `columns.pin`.
@pytest.mark.parametrize(
  ('field', 'pinned'),
  [
    # The references of the DQN and dueling papers.
    ('random', (57, 50864.9, '317633c44298')),
    ('human', (57, 606494.2, '1b9d70cc4c34')),
    # The same but for two, which the means of the paper's Table 4 imply.
    ('random_paper_implied', (57, 34608.0, '885ceae5aa1d')),
    ('human_paper_implied', (57, 606488.9, 'f9c772718291')),
    # Table C.1 of Espeholt et al. (2018), column by column; ACKTR has 13 blank cells.
    ('acktr', (44, 5104926.82, '35668861084c')),
    ('reactor', (57, 2041975.9, 'c40ea7e50bb0')),
    ('impala_deep_multitask', (57, 895199.61, '428be45c0751')),
    ('impala_shallow_experts', (57, 2003828.72, '7fe3fef1bc87')),
    ('impala_deep_experts', (57, 3999251.08, 'd86d662acbc3')),
  ],
)
def test_scores_are_those_of_the_papers(field, pinned):
  assert columns.pin({game.name: getattr(game, field) for game in games.all_games()}) == pinned


def test_a_pin_sees_each_cell_and_its_row():
  column = {'a': 1.0, 'b': 2.0, 'c': None}
  others = [column | {'a': 1.1}, column | {'a': 2.0, 'b': 1.0}, column | {'c': 0.0}]
  assert columns.pin(column)[:2] == (2, 3.0)
  assert columns.pin(column) not in [columns.pin(other) for other in others]


def test_human_normalised_score():
  pong = games.find('pong')  # random -20.7, human 14.6; the paper's means imply 9.3
  assert pong.human_normalised(-20.7) == 0
  assert pong.human_normalised(14.6) == 100
  assert pong.human_normalised(21.0) == pytest.approx(100 * 41.7 / 35.3)
  assert pong.human_normalised(9.3, paper_implied=True) == 100
  pinball = games.find('video_pinball')
  assert pinball.human_normalised(0, paper_implied=True) == 0
  assert pinball.human_normalised(16256.9) == 0


# Table 4, percent: median by either convention, mean only by the one named for it.
@pytest.mark.parametrize(
  ('column', 'median', 'mean'),
  [
    ('impala_shallow_experts', 93.2, 466.4),
    ('impala_deep_experts', 191.8, 957.6),
    ('impala_deep_multitask', 59.7, 176.9),
  ],
)
def test_normalised_scores_give_the_numbers_of_table_4(column, median, mean):
  implied, standard = (
    [
      game.human_normalised(getattr(game, column), paper_implied=paper_implied)
      for game in games.all_games()
    ]
    for paper_implied in (True, False)
  )
  assert statistics.mean(implied) == pytest.approx(mean, abs=0.05)
  assert statistics.median(implied) == pytest.approx(median, abs=0.05)
  assert statistics.median(standard) == pytest.approx(median, abs=0.05)
  assert statistics.mean(standard) > mean + 1
