"""Distributions of hyper-parameters: how they are written, and what is drawn from them."""

import hashlib

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.sweeps import search_space

suites.registered()  # Their options may be searched.


def test_all_kinds_and_types_of_field():
  texts = [
    'learning_rate=log_uniform(5e-6,5e-3)',
    ' discounting = uniform( 0.9 , 1 )',
    'batch_size=uniform(8,64)',
    'epsilon=categorical(0.1,1e-3,1e-5,1e-7)',
    'clip_global_norm=categorical(none,40)',
    'reward_clipping=categorical(abs_one,soft_asymmetric)',
    'full_action_space=categorical(true,false)',
  ]
  assert search_space.parse(texts) == {
    'learning_rate': FloatDistribution(5e-6, 5e-3, log=True),
    'discounting': FloatDistribution(0.9, 1.0),
    'batch_size': IntDistribution(8, 64),
    'epsilon': CategoricalDistribution((0.1, 1e-3, 1e-5, 1e-7)),
    'clip_global_norm': CategoricalDistribution((None, 40.0)),
    'reward_clipping': CategoricalDistribution(('abs_one', 'soft_asymmetric')),
    'full_action_space': CategoricalDistribution((True, False)),
  }


@pytest.mark.parametrize(
  'name', ['learning_rate', 'batch_size', 'clip_global_norm', 'full_action_space']
)
def test_distributions_print_as_they_are_written(name):
  forms = {
    'learning_rate': 'log_uniform(5e-06,0.005)',
    'batch_size': 'uniform(8,64)',
    'clip_global_norm': 'categorical(none,40.0)',
    'full_action_space': 'categorical(True,False)',
  }
  assert search_space.as_text(search_space.parse_one(name, forms[name])) == forms[name]


def test_a_yaml_file_and_flags_together(tmp_path):
  path = tmp_path / 'space.yaml'
  path.write_text('learning_rate: log_uniform(5e-6, 5e-3)\nepsilon: categorical(0.1, 0.001)\n')
  space = search_space.parse([str(path), 'seed=categorical(1,2)'])
  assert space == {
    'learning_rate': FloatDistribution(5e-6, 5e-3, log=True),
    'epsilon': CategoricalDistribution((0.1, 0.001)),
    'seed': CategoricalDistribution((1, 2)),
  }


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('learning_rte=uniform(0,1)', ' learning_rate'),
    ('level_name=categorical(pong,breakout)', 'level_name'),
    ('learning_rate=log_unifrm(1,2)', "'log_unifrm' .* log_uniform"),
    ('learning_rate=0.1', "'0.1'|=0.1"),
    ('learning_rate', 'field=distribution'),
    ('learning_rate=uniform(1)', r'uniform\(1\)'),
    ('learning_rate=uniform(1,2,3)', r'uniform\(1,2,3\)'),
    ('clip_global_norm=uniform(none,3)', 'clip_global_norm='),
    ('agent=uniform(shallow,deep)', 'agent='),
    ('full_action_space=uniform(false,true)', 'full_action_space='),
    ('learning_rate=uniform(2,1)', r'2\.0 .* 1\.0'),
    ('learning_rate=uniform(1,1)', r'1\.0 .* 1\.0'),
    ('learning_rate=log_uniform(0,1)', 'above 0'),
    ('learning_rate=uniform(-1,1)', 'learning_rate=-1.0 .* at least 0'),
    ('discounting=uniform(0.5,1.5)', 'discounting=1.5 .* at most 1'),
    ('batch_size=uniform(1,2.5)', '--batch_size=2.5 '),
    ('learning_rate=categorical(0.1,much)', '--learning_rate=much '),
    ('agent=categorical(shallow,depe)', ' deep'),
    ('learning_rate=categorical()', r'categorical\(\)'),
    ('missing.yaml', r'missing\.yaml'),
  ],
)
def test_what_is_wrong_is_named(text, message):
  with pytest.raises(ConfigurationError, match=message):
    search_space.parse([text])


@pytest.mark.parametrize('contents', ['- learning_rate', 'learning_rate: 3', 'learning_rate: ['])
def test_files_of_another_form_are_refused(tmp_path, contents):
  path = tmp_path / 'space.yaml'
  path.write_text(contents)
  with pytest.raises(ConfigurationError, match=r'space\.yaml'):
    search_space.parse([str(path)])


def test_a_field_given_twice_is_refused():
  with pytest.raises(ConfigurationError, match='seed'):
    search_space.parse(['seed=uniform(1,2)', 'seed=uniform(1,3)'])


def at(form, *quantiles):
  distribution = search_space.parse_one('seed' if 'whole' in form else 'decay', form.split()[-1])
  return [search_space.value_at(distribution, quantile) for quantile in quantiles]


def test_quantiles_by_hand():
  assert at('uniform(0.1,0.3)', 0.0, 0.5) == pytest.approx([0.1, 0.2])
  # Five whole numbers share the line in equal parts.
  assert at('whole uniform(2,6)', 0.0, 0.19, 0.21, 0.5, 0.99) == [2, 2, 3, 4, 6]
  assert at('log_uniform(1e-4,1.0)', 0.0, 0.25, 0.5) == pytest.approx([1e-4, 1e-3, 1e-2])
  assert at('whole log_uniform(1,100)', 0.0, 0.5, 0.999) == [1, 10, 100]
  assert at('categorical(0.1,0.2,0.5)', 0.0, 0.34, 0.99) == [0.1, 0.2, 0.5]


def test_samples_of_a_seed_are_those_of_all_versions():
  """Pins values of the version that had distributions of its own: sweeps can always be resumed."""
  samples = search_space.draw(search_space.TABLE_D1, 24, seed=1)
  assert samples[:2] == [
    {
      'entropy_cost': 0.00033599079057947535,
      'learning_rate': 0.00102671554757758,
      'epsilon': 0.001,
    },
    {
      'entropy_cost': 0.0008259209365620433,
      'learning_rate': 0.00011961556518459483,
      'epsilon': 0.1,
    },
  ]
  assert samples[23] == {
    'entropy_cost': 0.0002475958064889222,
    'learning_rate': 9.79814396586591e-06,
    'epsilon': 0.1,
  }
  texts = [
    'learning_rate=log_uniform(5e-6,5e-3)',
    'discounting=uniform(0.9,1)',
    'batch_size=uniform(8,64)',
    'unroll_length=log_uniform(5,100)',
    'clip_global_norm=categorical(none,40)',
    'agent=categorical(shallow,deep)',
    'full_action_space=categorical(true,false)',
    'seed=uniform(1,1000000)',
  ]
  space = search_space.parse(texts)
  assert search_space.draw(space, 2, seed=7) == [
    {
      'learning_rate': 8.728605610724485e-06,
      'discounting': 0.9121658917453432,
      'batch_size': 59,
      'unroll_length': 48,
      'clip_global_norm': None,
      'agent': 'deep',
      'full_action_space': True,
      'seed': 692020,
    },
    {
      'learning_rate': 8.118885570636161e-05,
      'discounting': 0.9006708068831859,
      'batch_size': 9,
      'unroll_length': 21,
      'clip_global_norm': 40.0,
      'agent': 'deep',
      'full_action_space': True,
      'seed': 841894,
    },
  ]
  all_samples = [search_space.draw(space, 200, seed) for seed in range(5)]
  digest = hashlib.sha256(repr(all_samples).encode()).hexdigest()
  assert digest == '5e1e945c3f13c1e98556da864e78c02f06982fda30ebb5fb968dbbbb1efc151c'


def test_samples_have_the_distributions_of_table_d1():
  samples = search_space.draw(search_space.TABLE_D1, 4000, seed=3)
  column = lambda name: np.array([sample[name] for sample in samples])
  for name, low, high in (('entropy_cost', 5e-5, 1e-2), ('learning_rate', 5e-6, 5e-3)):
    assert low <= column(name).min() < 1.01 * low
    assert 0.99 * high < column(name).max() <= high
    # A third of the samples in each third of the range of the logarithm, five standard deviations
    # allowed.
    counts, _ = np.histogram(np.log(column(name)), bins=3, range=(np.log(low), np.log(high)))
    assert np.abs(counts - 4000 / 3).max() < 5 * np.sqrt(4000 * 2 / 9)
  values, counts = np.unique(column('epsilon'), return_counts=True)
  np.testing.assert_allclose(values, [1e-7, 1e-5, 1e-3, 1e-1])
  assert np.abs(counts - 1000).max() < 5 * np.sqrt(4000 * 3 / 16)
  correlation = np.corrcoef(np.log(column('entropy_cost')), np.log(column('learning_rate')))[0, 1]
  assert abs(correlation) < 0.08


def test_samples_depend_on_the_seed_alone():
  space = search_space.TABLE_D1
  samples = search_space.draw(space, 24, seed=1)
  assert search_space.draw(space, 30, seed=1)[:24] == samples
  assert search_space.draw(space, 24, seed=2) != samples
  only = search_space.draw(
    {'learning_rate': space['learning_rate'], 'seed': IntDistribution(1, 9)}, 24, seed=1
  )
  assert [sample['learning_rate'] for sample in only] == [
    sample['learning_rate'] for sample in samples
  ]


def test_each_is_taken_in_turn_whatever_the_seed():
  space = search_space.parse(['seed=each(5,6,7)', 'learning_rate=uniform(0.1,0.2)'])
  assert search_space.from_texts(search_space.as_texts(space)) == space
  drawn = search_space.draw(space, 4, seed=1)
  assert [sample['seed'] for sample in drawn] == [5, 6, 7, 5]
  assert len({sample['learning_rate'] for sample in drawn}) == 4
  known = search_space.of_optuna(space)
  assert [type(form) for form in known.values()] == [CategoricalDistribution, FloatDistribution]
