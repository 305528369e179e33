"""Tests of the list of levels and of the suite's score."""

import csv

import numpy as np
import pytest

from dmlab30 import levels
from impala_tf.config import ConfigurationError
from tests.support import columns
from tests.support.processes import ROOT

CSV = ROOT / 'dmlab30' / 'data' / 'dmlab30.csv'


def rows():
  with CSV.open() as file:
    return {row['train_level']: row for row in csv.DictReader(file)}


def test_thirty_levels_of_which_two_have_a_version_for_tests():
  names = [(level.name, level.test_name) for level in levels.all_levels()]
  assert len(set(names)) == 30
  assert [pair for pair in names if pair[0] != pair[1]] == [
    ('rooms_collect_good_objects_train', 'rooms_collect_good_objects_test'),
    ('rooms_exploit_deferred_effects_train', 'rooms_exploit_deferred_effects_test'),
  ]
  assert [name for name, _ in names] == list(rows())


# How many numbers, their sum, and a hash of them by level; see `columns.pin`.
@pytest.mark.parametrize(
  ('field', 'pinned'),
  [
    # The authors' code, dmlab30.py.
    ('human_code', (30, 3110.15, '183b4711898f')),
    ('random_code', (30, 72.617, '3fd9ee636b61')),
    # The same, as Table B.1 of Espeholt et al. (2018) pairs them with the lasertag levels.
    ('human_paper', (30, 3110.15, 'd3e0a8c61d70')),
    ('random_paper', (30, 72.617, '04945ded4c56')),
    # Table B.1, column by column.
    ('paper_experts', (30, 1645.6, 'cc8e0812150e')),
    ('paper_impala', (30, 2384.1, '18500467f81e')),
  ],
)
def test_scores_are_those_of_the_papers(field, pinned):
  assert columns.pin({level.name: getattr(level, field) for level in levels.all_levels()}) == pinned


@pytest.mark.parametrize(
  ('column', 'pinned'),
  [
    # Table B.1 as it is printed, with one decimal.
    ('human_paper_tableB1', (30, 3110.5, '65d99ba27c7d')),
    ('random_paper_tableB1', (30, 72.7, '76d0c328b203')),
    # Kapturowski et al. (2019), who trained IMPALA again.
    ('r2d2paper_impala_shallow_rerun', (30, 4112.6, 'ce0e816324ff')),
    ('r2d2paper_impala_deep_rerun', (30, 4671.4, 'af99313415b7')),
    # Of DeepMind Lab.
    ('episode_seconds_dmlab', (30, 4002.0, 'fa0ada0f8a82')),
  ],
)
def test_other_columns_of_the_file(column, pinned):
  assert columns.pin({name: float(row[column]) for name, row in rows().items()}) == pinned


def test_the_papers_pairing_is_that_of_the_printed_table():
  for level in levels.all_levels():
    row = rows()[level.name]
    assert level.human_paper == pytest.approx(float(row['human_paper_tableB1']), abs=0.0501)
    assert level.random_paper == pytest.approx(float(row['random_paper_tableB1']), abs=0.0501)
    same = (level.human_paper, level.random_paper) == (level.human_code, level.random_code)
    assert same == (not level.name.startswith('lasertag'))


@pytest.mark.parametrize(
  ('spelling', 'name'),
  [
    ('dmlab30', 'dmlab30'),
    ('rooms_watermaze', 'rooms_watermaze'),
    (' rooms_watermaze ', 'rooms_watermaze'),
    ('contributed/dmlab30/rooms_watermaze', 'rooms_watermaze'),
    ('/contributed/dmlab30/rooms_watermaze', 'rooms_watermaze'),
    ('rooms_collect_good_objects_train', 'rooms_collect_good_objects_train'),
    ('rooms_collect_good_objects_test', 'rooms_collect_good_objects_train'),
    ('rooms_collect_good_objects', 'rooms_collect_good_objects_train'),
    ('seekavoid_arena_01', 'seekavoid_arena_01'),
    ('nav_maze_static_02', 'nav_maze_static_02'),
    ('contributed/psychlab/harlow', 'contributed/psychlab/harlow'),
    ('/home/me/levels/mine.lua', '/home/me/levels/mine.lua'),
  ],
)
def test_find(spelling, name):
  assert levels.find(spelling) == name


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('room_watermaze', "'room_watermaze' .* rooms_watermaze"),
    ('contributed/dmlab30/room_watermaze', ' rooms_watermaze'),
    ('/contributed/dmlab30/room_watermaze', ' rooms_watermaze'),
    ('dmlab_30', ' dmlab30'),
    ('xyzzy', 'dmlab30, rooms_collect_good_objects_train.*seekavoid_arena_01'),
    ('', "''"),
  ],
)
def test_unknown_level_is_refused_with_suggestions(name, message):
  with pytest.raises(ConfigurationError, match=message):
    levels.find(name)


def test_scripts():
  assert levels.script('rooms_watermaze') == 'contributed/dmlab30/rooms_watermaze'
  assert (
    levels.script('rooms_collect_good_objects_train')
    == 'contributed/dmlab30/rooms_collect_good_objects_train'
  )
  assert (
    levels.script('rooms_collect_good_objects_train', True)
    == 'contributed/dmlab30/rooms_collect_good_objects_test'
  )
  assert levels.script('seekavoid_arena_01', True) == 'seekavoid_arena_01'
  assert levels.script('contributed/psychlab/harlow') == 'contributed/psychlab/harlow'


def test_levels_that_need_images():
  names = [level.name for level in levels.all_levels()]
  assert levels.needing_dataset(names) == [
    'psychlab_arbitrary_visuomotor_mapping',
    'psychlab_continuous_recognition',
  ]
  assert levels.needing_dataset(['rooms_watermaze', 'seekavoid_arena_01']) == []


def test_human_normalised():
  small = levels.get('lasertag_one_opponent_small')
  assert small.human_normalised(18.6) == pytest.approx(100)
  assert small.human_normalised(-0.083) == pytest.approx(0)
  assert small.human_normalised(12.65, 'code') == pytest.approx(100)
  assert small.human_normalised(-0.224, 'code') == pytest.approx(0)
  with pytest.raises(ValueError, match='both'):
    small.human_normalised(1.0, 'both')


@pytest.mark.parametrize('references', levels.REFERENCES)
def test_humans_score_100_and_random_agents_0(references):
  for which, score in (('human', 100), ('random', 0)):
    returns = {
      level.test_name: [getattr(level, f'{which}_{references}')] for level in levels.all_levels()
    }
    for cap in (None, 100):
      assert levels.mean_score(returns, cap, references) == pytest.approx(score)


# Table 3: 44.5 for the experts, 49.4 for the agent with population-based training. The other
# pairing gives 45.8 and 50.1.
@pytest.mark.parametrize(
  ('column', 'paper', 'code'), [('paper_experts', 44.5, 45.75), ('paper_impala', 49.4, 50.06)]
)
def test_the_papers_columns_give_the_papers_scores(column, paper, code):
  returns = {level.test_name: [getattr(level, column)] for level in levels.all_levels()}
  assert levels.mean_score(returns, cap=100) == pytest.approx(paper, abs=0.1)
  assert levels.mean_score(returns, cap=100, references='code') == pytest.approx(code, abs=0.1)


def made_up_returns(names=None):
  """Returns from far below random to far above human, of differing numbers of episodes."""
  random = np.random.default_rng(3)
  names = names or [level.test_name for level in levels.all_levels()]
  returns = {}
  for i, name in enumerate(names):
    level = levels.all_levels()[i]
    share = random.uniform(-0.5, 3.0, size=1 + i % 4)
    returns[name] = list(level.random_code + share * (level.human_code - level.random_code))
  return returns


@pytest.mark.parametrize('cap', [None, 100, 50.0])
def test_score_is_the_mean_of_capped_normalised_means(cap):
  returns = made_up_returns()
  expected = 0.0
  for row in rows().values():
    human, random = float(row['human_code']), float(row['random_code'])
    episodes = returns[row['test_level']]
    score = 100 * (sum(episodes) / len(episodes) - random) / (human - random)
    expected += (score if cap is None else min(cap, score)) / 30
  assert levels.mean_score(returns, cap, 'code') == pytest.approx(expected, rel=1e-12)


def test_training_names_count_as_test_names_and_foreign_levels_not_at_all():
  returns = made_up_returns()
  renamed = {levels.get(name).name: episodes for name, episodes in returns.items()}
  assert renamed.keys() != returns.keys()
  assert levels.mean_score(renamed, 100) == levels.mean_score(returns, 100)
  assert levels.mean_score(returns | {'seekavoid_arena_01': [1e9]}, 100) == levels.mean_score(
    returns, 100
  )


def test_missing_empty_and_doubled_levels_are_errors_that_name_them():
  returns = made_up_returns()
  del returns['rooms_collect_good_objects_test'], returns['natlab_fixed_large_map']
  returns['rooms_watermaze'] = []
  message = (
    r'missing: rooms_collect_good_objects_test, natlab_fixed_large_map; '
    r'without episodes: rooms_watermaze'
  )
  with pytest.raises(ValueError, match=message):
    levels.mean_score(returns)
  with pytest.raises(ValueError, match='rooms_collect_good_objects_train'):
    levels.mean_score(made_up_returns() | {'rooms_collect_good_objects_train': [1.0]})
