"""The paper's experiments as data: what is defined can be run, and the numbers are the paper's."""

import dataclasses
import os

import pytest

from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.paper import experiments
from impala_tf.paper.experiments import EXPERIMENTS
from impala_tf.training import loop


@pytest.mark.parametrize('name', list(EXPERIMENTS))
def test_every_method_is_a_valid_configuration(name):
  experiment = EXPERIMENTS[name]
  level = 'pong' if getattr(experiment, 'suite', '') == 'atari57' else 'rooms_watermaze'
  assert experiment.methods
  for method in experiment.methods:
    values = method.hyper_parameters({'discounting': 0.95})
    suite, config = suites.resolve(level, **values)
    loop.check(suite, config)
    assert config.discounting == 0.95
    assert config.batch_size == (1 if config.architecture == 'a3c' else 32)


def test_a3c_has_the_papers_workers():
  workers = {
    (name, method.folder): method.hyper_parameters({})['num_actors']
    for name, experiment in EXPERIMENTS.items()
    for method in experiment.methods
    if method.given.get('architecture') == 'a3c'
  }
  assert workers == {
    # Figure 4 and Table 1: 32 workers on a single machine.
    ('figure4', 'a3c'): 32,
    ('table1', 'a3c'): 32,
    # Section 5.3.1: 210 workers, 7 for each of the 30 tasks.
    ('table3', 'a3c_deep'): 210,
    ('figure5', 'a3c_deep'): 210,
    ('figure6', 'a3c_deep'): 210,
    ('table4', 'a3c_shallow'): 32,
    ('table4', 'a3c_deep'): 32,
  }


def test_table_2_has_the_papers_numbers():
  # Table 2 of the paper, a column for each task.
  printed = """
    46.8 32.9 31.3 229.2 43.8
    51.8 35.9 25.4 215.8 43.7
    44.2 27.3  4.3 107.7 41.5
    40.3 29.1  5.0  94.9 16.1
    47.1 35.8 34.5 250.8 46.9
    54.7 34.4 26.4 204.8 41.6
    30.4 30.2  3.9 101.5 37.6
    35.0 21.1  2.8  85.0 11.2
  """
  rows = [list(map(float, line.split())) for line in printed.strip().splitlines()]
  methods = EXPERIMENTS['table2'].methods
  assert [[method.paper[task] for task in experiments.TASKS] for method in methods] == rows
  assert [(method.label, method.group) for method in methods] == [
    (label, group)
    for group in ('without replay', 'with replay')
    for label in ('V-trace', '1-step IS', 'epsilon-correction', 'No correction')
  ]
  assert experiments.TASKS == (
    'rooms_watermaze',
    'rooms_keys_doors_puzzle',
    'lasertag_three_opponents_small',
    'explore_goal_locations_small',
    'seekavoid_arena_01',
  )


def test_table_1_has_the_papers_numbers():
  # CPUs, GPUs, and frames per second on seekavoid_arena_01 and rooms_keys_doors_puzzle.
  printed = {
    'A3C, 32 workers': (64, 0, 6500, 9000),
    'Batched A2C (sync step)': [(48, 0, 9000, 5000), (48, 1, 13000, 5500)],
    'Batched A2C (sync traj.)': (48, 0, 16000, 17500),
    'Batched A2C (dyn. batch)': (48, 1, 16000, 13000),
    'IMPALA, 48 actors': (48, 0, 17000, 20500),
    'IMPALA (dyn. batch), 48 actors': (48, 1, 21000, 24000),
  }
  methods = EXPERIMENTS['table1'].methods
  found = {}
  for method in methods:
    found.setdefault(method.label, []).append(tuple(method.paper.values()))
  assert found == {k: v if isinstance(v, list) else [v] for k, v in printed.items()}
  columns = ['CPUs', 'GPUs', 'seekavoid_arena_01', 'rooms_keys_doors_puzzle']
  assert all(list(method.paper) == columns for method in methods)
  elsewhere = [tuple(method.paper.values()) for method in experiments.TABLE_1_ELSEWHERE]
  assert elsewhere == [
    (200, 0, 46000, 50000),
    (150, 1, 80000),
    (375, 1, 200000),
    (500, 1, 250000),
  ]


def test_methods_share_a_folder_only_if_they_are_the_same():
  for kind in (experiments.Throughput, experiments.Sweeps):
    seen = {}
    for experiment in EXPERIMENTS.values():
      for method in experiment.methods if type(experiment) is kind else ():
        values = method.hyper_parameters({})
        assert seen.setdefault(method.folder, values) == values
  assert experiments.sweep_folder('runs', 'pong', EXPERIMENTS['table2'].methods[0]) == os.path.join(
    'runs', 'sweeps', 'pong', 'impala'
  )


def test_what_the_user_gives_does_not_undo_a_method():
  none = EXPERIMENTS['table2'].methods[3]
  values = none.hyper_parameters({'correction': 'vtrace', 'batch_size': 16})
  assert (values['correction'], values['batch_size']) == ('none', 16)
  lagging = [
    m
    for m in EXPERIMENTS['figureE1'].methods
    if m.given['policy_lag'] == 10 and 'replay_fraction' in m.given
  ]
  assert len(lagging) == 4
  values = lagging[0].hyper_parameters({'batch_size': 16})
  assert values['num_actors'] * values['envs_per_actor'] == 8
  values = lagging[0].hyper_parameters({'batch_size': 16, 'num_actors': 1})
  assert (values['num_actors'], values['envs_per_actor']) == (1, 8)
  values = lagging[0].hyper_parameters({'batch_size': 16, 'num_learners': 2})
  assert values['num_actors'] * values['envs_per_actor'] == 16


def test_rows_that_two_experiments_show_are_the_same():
  assert EXPERIMENTS['figureE2'].methods == EXPERIMENTS['table2'].methods[4:]
  of_all = [method for method in EXPERIMENTS['table3'].methods if method.folder != 'experts_deep']
  assert list(EXPERIMENTS['figure5'].methods) == of_all
  deep = [method for method in of_all if method.folder != 'impala_shallow']
  assert list(EXPERIMENTS['figure6'].methods) == deep
  # Experts learn from the suite's reward clipping, which an agent of one level otherwise has not
  # (Table D.3).
  experts = EXPERIMENTS['table3'].methods[2]
  expert = suites.presets()['dmlab_expert_deep']
  suite, config = suites.resolve('rooms_watermaze', **experts.given)
  assert config == suite.with_sizes(dataclasses.replace(expert, level_name='rooms_watermaze'))


def test_methods_that_are_compared_have_equal_environments_hosted_alike():
  for experiment in EXPERIMENTS.values():
    if experiment.name in ('table3', 'figure5', 'figure6'):  # The paper's differ: 210 and 150.
      continue
    for method in experiment.methods:
      values = method.hyper_parameters({})
      assert values['envs_per_actor'] == 1
      assert (values['num_actors'], experiment.name) in {
        (32, 'table1'),
        (48, 'table1'),
        (200, 'table2'),
        (57, 'table4'),  # One of each game, for the agent of all.
        (32, 'table4'),
        (32, 'figure4'),
        (200, 'figure4'),
        (32, 'figureE1'),
        (16, 'figureE1'),
        (200, 'figureE2'),
        (200, 'figureE3'),
      }
  of = {method.folder: method.hyper_parameters({}) for method in EXPERIMENTS['table3'].methods}
  assert {name: (each['num_actors'], each['envs_per_actor']) for name, each in of.items()} == {
    'a3c_deep': (210, 1),
    'impala_shallow': (210, 1),
    'experts_deep': (150, 1),
    'impala_deep': (150, 1),
    'impala_deep_pbt': (150, 1),
    'impala_deep_pbt_8': (150, 1),
  }
  of = {method.folder: method.hyper_parameters({}) for method in EXPERIMENTS['figure4'].methods}
  assert {of[name]['num_actors'] for name in ('impala_32', 'a2c', 'a3c')} == {32}


def test_environments_come_in_fewer_actors_or_other_numbers_if_asked_for():
  forty_eight, a2c = EXPERIMENTS['table1'].methods[5], EXPERIMENTS['figure4'].methods[2]

  def asked(method, **given):
    values = method.hyper_parameters(given)
    return values['num_actors'], values['envs_per_actor']

  assert forty_eight.label == 'IMPALA, 48 actors'
  assert asked(forty_eight) == (48, 1)
  assert asked(forty_eight, num_actors=4) == (4, 12)
  assert asked(forty_eight, num_actors=4, envs_per_actor=5) == (4, 5)
  assert asked(a2c, num_actors=4, envs_per_actor=8) == (4, 8)
  with pytest.raises(ConfigurationError, match='envs_per_actor'):
    asked(a2c, num_actors=4, envs_per_actor=5)
  beside = {'replay_fraction': 0.5, 'replay_beside': True}
  values = a2c.hyper_parameters(beside)
  assert values['num_actors'] * values['envs_per_actor'] == 32


def test_rows_say_whether_inference_is_shared():
  # With a graphics card the default would share it.
  shared = {
    method.folder: suites.resolve('pong', **method.hyper_parameters({}))[1].inference
    for method in EXPERIMENTS['table1'].methods
    if method.given.get('architecture') not in ('a3c', 'a2c_sync_step')
  }
  assert shared == {
    'a2c': 'own',
    'a2c_dynamic': 'shared',
    'impala_48': 'own',
    'impala_48_dynamic': 'shared',
  }


def test_other_lags_take_the_place_of_the_own_ones():
  methods = experiments.with_lags(EXPERIMENTS['figureE1'], [0, 7]).methods
  assert {method.given['policy_lag'] for method in methods} == {0, 7}
  assert len(methods) == 4 * 2 * 2


@pytest.mark.parametrize('name', ['figure5', 'figure6'])
def test_what_is_trained_for_curves_has_a_score_of_all_levels_while_it_learns(name):
  assert {method.trainer for method in EXPERIMENTS[name].methods} == {'sweep', 'population'}


def test_some_methods_only():
  chosen = experiments.with_methods(EXPERIMENTS['figure4'], ['a3c', 'impala'])
  assert [method.folder for method in chosen.methods] == ['impala', 'a3c']
  assert experiments.with_methods(EXPERIMENTS['figure4'], []) == EXPERIMENTS['figure4']
