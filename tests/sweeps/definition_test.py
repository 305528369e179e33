"""The definition of a sweep in its folder: kept, compared, and refused."""

import dataclasses
import json

import pytest

from impala_tf.config import ConfigurationError
from impala_tf.sweeps import definition, search_space, worker
from impala_tf.sweeps.definition import Sweep
from tests.support.processes import ROOT

SWEEP = Sweep(
  given={'level_name': 'tests.support.catch:catch', 'num_actors': 2, 'decay': 0.9},
  space=search_space.parse(['learning_rate=uniform(0.1,0.2)']),
  num_trials=3,
  sweep_seed=1,
)


def changed(**changes):
  return dataclasses.replace(SWEEP, **changes)


@pytest.mark.parametrize(
  ('changes', 'name'),
  [
    (
      {'given': {'level_name': 'tests.support.catch:catch', 'num_actors': 2, 'decay': 0.8}},
      'given',
    ),
    ({'given': {'level_name': 'pong', 'num_actors': 2, 'decay': 0.9}}, 'given'),
    ({'space': search_space.parse(['learning_rate=uniform(0.1,0.3)'])}, 'space'),
    ({'space': search_space.parse(['learning_rate=log_uniform(0.1,0.2)'])}, 'space'),
    ({'num_trials': 2}, 'num_trials'),
    ({'sweep_seed': 2}, 'sweep_seed'),
  ],
)
def test_another_sweep_is_refused(tmp_path, changes, name):
  definition.check_or_save(str(tmp_path), SWEEP)
  with pytest.raises(ConfigurationError, match=f'  {name}: '):
    definition.check_or_save(str(tmp_path), changed(**changes))
  assert definition.load(str(tmp_path)) == SWEEP


def test_more_trials_and_other_speed_are_the_same_sweep(tmp_path):
  definition.check_or_save(str(tmp_path), SWEEP)
  grown = changed(num_trials=5, given=SWEEP.given | {'num_actors': 7})
  definition.check_or_save(str(tmp_path), grown)
  assert definition.load(str(tmp_path)) == grown


def test_more_seeds_may_be_added(tmp_path):
  def of(*seeds, num_trials=None):
    space = {'seed': search_space.Each(seeds)}
    return changed(space=space, num_trials=num_trials or len(seeds))

  definition.check_or_save(str(tmp_path), of(4, 5))
  definition.check_or_save(str(tmp_path), of(4, 5, 6))
  assert definition.load(str(tmp_path)) == of(4, 5, 6)
  # Others would give old trials another seed.
  for other in (of(5, 6, 7), of(3, 4, 5, 6), of(4, 5, num_trials=3)):
    with pytest.raises(ConfigurationError, match='  space: '):
      definition.check_or_save(str(tmp_path), other)
  definition.check_or_save(str(tmp_path), of(4, 5, 6, num_trials=4))  # The fourth has 4 again.
  with pytest.raises(ConfigurationError, match='  space: '):
    definition.check_or_save(str(tmp_path), of(4, 5, 6, 7))


def test_the_file_has_the_same_form_as_ever(tmp_path):
  definition.check_or_save(str(tmp_path), SWEEP)
  assert json.loads((tmp_path / 'sweep.json').read_text()) == {
    'given': {'level_name': 'tests.support.catch:catch', 'num_actors': 2, 'decay': 0.9},
    'space': {'learning_rate': 'uniform(0.1,0.2)'},
    'num_trials': 3,
    'sweep_seed': 1,
  }
  results = ROOT / 'results' / 'pong_sweep'
  kept = definition.load(str(results))
  assert (kept.space, kept.num_trials) == (search_space.TABLE_D1, 6)


@pytest.mark.parametrize(
  'contents',
  [
    '[',
    '{"given": {}}',
    '{"given": {}, "space": {"decay": "uniform(1)"}}',
    '{"given": {}, "space": {}, "n": 1}',
  ],
)
def test_a_file_that_is_none_is_refused(tmp_path, contents):
  (tmp_path / 'sweep.json').write_text(contents)
  with pytest.raises(ConfigurationError, match=str(tmp_path / 'sweep.json')):
    definition.load(str(tmp_path))


def test_trials_that_an_earlier_version_kept_in_a_database_are_refused(tmp_path):
  old = SWEEP.as_json() | {'storage': 'postgresql://me:secret@server/db'}
  (tmp_path / 'sweep.json').write_text(json.dumps(old))
  with pytest.raises(ConfigurationError, match=f'Remove {tmp_path / "sweep.json"}') as refused:
    worker.run(str(tmp_path), SWEEP)
  assert 'secret' not in str(refused.value)

  # Without a database server there was a file beside it.
  (tmp_path / 'sweep.json').write_text(json.dumps(old | {'storage': ''}))
  assert definition.load(str(tmp_path)) == SWEEP
  (tmp_path / 'study.db').touch()
  with pytest.raises(ConfigurationError, match=r'Remove study\.db'):
    worker.run(str(tmp_path), SWEEP)
  assert {path.name for path in tmp_path.iterdir()} == {'sweep.json', 'study.db', '.lock_check'}
  # What is refused binds no folder.
  (tmp_path / 'sweep.json').unlink()
  with pytest.raises(ConfigurationError, match=r'Remove study\.db'):
    worker.run(str(tmp_path), SWEEP)
  assert not (tmp_path / 'sweep.json').exists()


def test_a_field_both_given_and_drawn_is_refused():
  with pytest.raises(ConfigurationError, match='learning_rate'):
    changed(given={'level_name': 'tests.support.catch:catch', 'learning_rate': 0.1})
