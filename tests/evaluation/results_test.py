"""Files of an evaluation's results."""

import csv
import dataclasses
import json
import os

import pytest

from impala_tf import files
from impala_tf.config import ConfigurationError
from impala_tf.evaluation import results
from tests.support import evaluations


def made_up(level, *returns):
  return results.Evaluation({'seed': 1}, {level: evaluations.result(level, returns)})


def test_a_single_episode_has_no_standard_error(tmp_path):
  made_up('maze', 2.5).save(str(tmp_path), {'double': lambda name, mean: 2 * mean})
  with open(tmp_path / 'results.csv', newline='') as file:
    (row,) = csv.DictReader(file)
  assert (row['standard_error'], row['standard_deviation']) == ('', '0.0')
  assert (row['mean_return'], row['double']) == ('2.5', '5.0')


def test_files_are_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
  before = made_up('maze', 1.0)
  before.save(str(tmp_path), {})

  def fail(*_):
    raise OSError('disk full')

  with monkeypatch.context() as patched:
    patched.setattr(os, 'replace', fail)
    with pytest.raises(files.StorageError, match='disk full'):
      made_up('maze', 2.0).save(str(tmp_path), {})
  assert results.load(str(tmp_path)) == results.load(str(tmp_path / 'results.json')) == before
  assert sorted(path.name for path in tmp_path.iterdir()) == ['results.csv', 'results.json']


def test_damage_to_one_evaluation_of_many_costs_that_one_only(tmp_path, caplog):
  for name in ('a', 'b'):
    made_up('maze', 1.0).save(str(tmp_path / name), {})
  (tmp_path / 'a' / 'results.json').write_text('[]')
  assert list(results.load_labelled([f'{tmp_path}/a', f'{tmp_path}/b'])) == ['b']
  assert f'{tmp_path}/a/results.json' in caplog.text
  with pytest.raises(ConfigurationError, match=r'a/results\.json'):
    results.load_labelled([f'{tmp_path}/a'])


def test_a_label_of_unequal_agents_says_so(tmp_path):
  for name, method, frames in (
    ('a', 'IMPALA', 1_000),
    ('b', 'IMPALA', 9_000),
    ('c', 'A3C', 5_000),
  ):
    result = evaluations.result(name, [1.0], method=method, frames=frames)
    results.Evaluation({'seed': 1}, {name: result}).save(str(tmp_path / name), {})
  labelled = results.load_labelled([f'experts={tmp_path}/{name}' for name in 'abc'])['experts']
  assert labelled.description() == {
    'agents': 'A3C deep, IMPALA deep',
    'frames of a training': '1_000 to 9_000',
    'seed': 1,
  }


def test_damaged_files_are_refused(tmp_path):
  assert results.load(str(tmp_path)) is None
  whole = json.dumps(dataclasses.asdict(made_up('a', 1.0)))
  without_episodes = dataclasses.asdict(made_up('a', 1.0))
  without_episodes['levels']['a'] |= {'returns': [], 'episode_frames': []}
  for text in (
    '',
    '[]',
    whole[: len(whole) // 2],
    whole.replace('"returns"', '"return"'),
    '{"protocol": {}}',
    json.dumps(without_episodes),
  ):
    (tmp_path / 'results.json').write_text(text)
    with pytest.raises(ConfigurationError, match=r'results\.json'):
      results.load(str(tmp_path))
