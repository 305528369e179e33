"""Distributions of hyper-parameters: how they are written, and what is drawn from them."""

import numpy as np
import pytest

from impala_tf.config import ConfigurationError
from impala_tf.sweeps import search_space
from impala_tf.sweeps.search_space import Categorical, LogUniform, Uniform


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
    'learning_rate': LogUniform(5e-6, 5e-3),
    'discounting': Uniform(0.9, 1.0),
    'batch_size': Uniform(8, 64),
    'epsilon': Categorical((0.1, 1e-3, 1e-5, 1e-7)),
    'clip_global_norm': Categorical((None, 40.0)),
    'reward_clipping': Categorical(('abs_one', 'soft_asymmetric')),
    'full_action_space': Categorical((True, False)),
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
  assert str(search_space.parse_one(name, forms[name])) == forms[name]


def test_a_yaml_file_and_flags_together(tmp_path):
  path = tmp_path / 'space.yaml'
  path.write_text('learning_rate: log_uniform(5e-6, 5e-3)\nepsilon: categorical(0.1, 0.001)\n')
  space = search_space.parse([str(path), 'seed=categorical(1,2)'])
  assert space == {
    'learning_rate': LogUniform(5e-6, 5e-3),
    'epsilon': Categorical((0.1, 0.001)),
    'seed': Categorical((1, 2)),
  }


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('learning_rte=uniform(0,1)', r"'learning_rte' is no field .*did you mean learning_rate\?"),
    ('level_name=categorical(pong,breakout)', 'a sweep of each level'),
    ('learning_rate=log_unifrm(1,2)', "'log_unifrm' .* Did you mean log_uniform"),
    ('learning_rate=0.1', 'is no distribution'),
    ('learning_rate', 'neither field=distribution nor a file'),
    ('learning_rate=uniform(1)', 'must have two numbers'),
    ('learning_rate=uniform(1,2,3)', 'must have two numbers'),
    ('clip_global_norm=uniform(none,3)', 'must have two numbers'),
    ('agent=uniform(shallow,deep)', 'must have two numbers'),
    ('full_action_space=uniform(false,true)', 'must have two numbers'),
    ('learning_rate=uniform(2,1)', '2.0 is not below 1.0'),
    ('learning_rate=uniform(1,1)', '1.0 is not below 1.0'),
    ('learning_rate=log_uniform(0,1)', 'above 0'),
    ('learning_rate=uniform(-1,1)', 'learning_rate=-1.0 .* at least 0'),
    ('discounting=uniform(0.5,1.5)', 'discounting=1.5 .* at most 1'),
    ('batch_size=uniform(1,2.5)', '--batch_size=2.5 is not a whole number'),
    ('learning_rate=categorical(0.1,much)', '--learning_rate=much is not a number'),
    ('agent=categorical(shallow,depe)', r'did you mean deep\?'),
    ('learning_rate=categorical()', 'no choices'),
    ('missing.yaml', "Can't read the search space missing.yaml"),
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
  with pytest.raises(ConfigurationError, match='two distributions'):
    search_space.parse(['seed=uniform(1,2)', 'seed=uniform(1,3)'])


def test_quantiles_by_hand():
  assert [Uniform(1.0, 3.0).at(q) for q in (0.0, 0.25, 0.5)] == [1.0, 1.5, 2.0]
  # Five whole numbers share the line in equal parts.
  assert [Uniform(2, 6).at(q) for q in (0.0, 0.19, 0.21, 0.5, 0.99)] == [2, 2, 3, 4, 6]
  np.testing.assert_allclose(
    [LogUniform(1e-4, 1.0).at(q) for q in (0.0, 0.25, 0.5)], [1e-4, 1e-3, 1e-2]
  )
  assert [LogUniform(1, 100).at(q) for q in (0.0, 0.5, 0.999)] == [1, 10, 100]
  assert [Categorical(('a', 'b', None)).at(q) for q in (0.0, 0.34, 0.99)] == ['a', 'b', None]


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
    {'learning_rate': space['learning_rate'], 'seed': Uniform(1, 9)}, 24, seed=1
  )
  assert [sample['learning_rate'] for sample in only] == [
    sample['learning_rate'] for sample in samples
  ]
