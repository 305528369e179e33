"""The suite's parts fit each other, and the presets the paper."""

import dataclasses
import importlib.util
import os
import types

import numpy as np
import pytest

from dmlab30 import levels, suite
from impala_tf.agent import agents
from impala_tf.config import ConfigurationError
from impala_tf.environments.base import EnvironmentBatch
from impala_tf.system import scratch
from impala_tf.training import loop


def settings(level='rooms_watermaze', agent='shallow', **changes):
  return dataclasses.replace(
    suite.SUITE.configure(level, agent=agent), **{'level_cache_dir': '', **changes}
  )


def test_a_single_level_has_the_values_of_the_paper():
  expected = {
    'level_name': 'rooms_collect_good_objects_train',
    'agent': 'deep',
    'total_environment_frames': 1_000_000_000,
    'batch_size': 32,
    'unroll_length': 100,
    'num_action_repeats': 4,
    'baseline_cost': 0.5,
    'discounting': 0.99,
    'reward_clipping': 'abs_one',
    'momentum': 0.0,
    'decay': 0.99,
    'width': 96,
    'height': 72,
    'clip_global_norm': None,
    'envs_per_actor': 1,
    'dataset_path': '',
    'renderer': 'software',
  }
  values = dataclasses.asdict(
    suite.SUITE.configure('rooms_collect_good_objects_test', agent='deep')
  )
  assert {name: values[name] for name in expected} == expected
  # The paper searched them (Table D.1). For one level these are the defaults of the authors' code,
  # for all levels those of their reference run.
  for preset, searched in (
    (suite.SINGLE_LEVEL, (0.00025, 0.00048, 0.1)),
    (suite.MULTI_TASK, (0.0033391318945337044, 0.00031866995608948655, 0.1)),
  ):
    assert (preset.entropy_cost, preset.learning_rate, preset.epsilon) == searched
    assert 5e-5 <= preset.entropy_cost <= 1e-2
    assert 5e-6 <= preset.learning_rate <= 5e-3


def test_what_one_agent_for_all_levels_does_otherwise():
  single, multi = (
    dataclasses.asdict(suite.SUITE.configure(name, agent='shallow'))
    for name in ('rooms_watermaze', 'dmlab30')
  )
  different = {name for name in single if single[name] != multi[name]}
  assert different - {'num_actors'} == {
    'level_name', 'total_environment_frames', 'entropy_cost', 'learning_rate', 'reward_clipping'
  }  # fmt: skip
  assert (multi['total_environment_frames'], multi['reward_clipping']) == (
    10_000_000_000,
    'optimistic_asymmetric',
  )
  assert multi['envs_per_actor'] == 1
  assert multi['num_actors'] % 30 == 0
  assert multi['num_actors'] >= 30


def test_the_level_cache_is_on_and_in_the_users_cache_folder(monkeypatch):
  assert suite.SINGLE_LEVEL.level_cache_dir.endswith('impala_tf/dmlab30')
  monkeypatch.setenv('XDG_CACHE_HOME', '/somewhere')
  assert suite._cache_folder() == '/somewhere/impala_tf/dmlab30'
  monkeypatch.delenv('XDG_CACHE_HOME')
  assert suite._cache_folder() == '~/.cache/impala_tf/dmlab30'


def test_unknown_levels_are_refused():
  with pytest.raises(ConfigurationError, match=' rooms_watermaze'):
    suite.SUITE.configure('room_watermaze', agent='shallow')


@pytest.mark.parametrize(('agent', 'parameters'), [('shallow', 1_230_426), ('deep', 1_628_010)])
def test_agent_has_the_papers_size_and_acts_in_the_environment(install, agent, parameters):
  install()
  dmlab = suite.DMLabSuite()
  chosen = settings('language_execute_random_task', agent)
  agent = agents.for_suite(dmlab, chosen)
  assert sum(int(np.prod(v.shape)) for v in agent.trainable_variables) == parameters
  assert agent.num_actions == dmlab.num_actions(chosen) == 9
  batch = EnvironmentBatch(
    [
      dmlab.make_environment('language_execute_random_task', seed, False, chosen)
      for seed in range(2)
    ]
  )
  batch.initial()
  step_outputs = batch.step(np.array([1, 2], np.int32))
  assert step_outputs.observation.instruction.tolist() == [b'word1 go'] * 2
  assert step_outputs.observation.frame.shape == (2, *dmlab.observation_spec(chosen).frame.shape)
  instructions = np.array(step_outputs.observation.instruction, 'S')
  step_outputs = step_outputs._replace(
    observation=step_outputs.observation._replace(instruction=instructions)
  )
  output, _ = agent.step(np.zeros(2, np.int32), step_outputs, agent.initial_state(2))
  assert batch.step(output.action.numpy()).reward.shape == (2,)
  batch.close()


def test_xla_can_not_compile_what_reads_instructions(install):
  install()
  with pytest.raises(ConfigurationError, match=r'jit_compile: .* rooms_watermaze '):
    loop.make_learner(suite.DMLabSuite(), settings('rooms_watermaze', jit_compile=True))


def test_levels():
  dmlab = suite.DMLabSuite()
  assert dmlab.levels(settings('dmlab30')) == tuple(level.name for level in levels.all_levels())
  assert dmlab.levels(settings('seekavoid_arena_01')) == ('seekavoid_arena_01',)


def test_hyper_parameters_reach_the_environment(install, tmp_path):
  install()
  dmlab = suite.DMLabSuite()
  chosen = settings(
    'rooms_exploit_deferred_effects_train',
    width=20,
    height=10,
    dataset_path='dummy',
    renderer='hardware',
    level_cache_dir=str(tmp_path / 'cache'),
    level_cache_max_gigabytes=0.5,
  )
  lab = dmlab.make_environment('rooms_exploit_deferred_effects_train', 5, True, chosen)()
  assert lab.observation_spec == dmlab.observation_spec(chosen)
  assert lab._lab._name == 'rooms_exploit_deferred_effects_test'
  assert lab._lab.config['datasetPath'] == 'dummy'
  assert lab._lab.renderer == 'hardware'
  assert lab.reset().frame.shape == (10, 20, 3)
  assert lab.statistics()['level_cache/misses'] == 1
  assert len(list((tmp_path / 'cache').iterdir())) == 1
  lab.close()
  # The stand-in refuses other repeats than 4 and unknown renderers.
  other = dmlab.make_environment('rooms_watermaze', 5, False, settings(num_action_repeats=3))()
  other.reset()
  with pytest.raises(RuntimeError, match='3 frames'):
    other.step(0)
  assert other.statistics() == {}
  other.close()


def test_files_of_the_engine_are_in_the_folder_that_goes_with_the_process(install):
  install()
  lab = suite.DMLabSuite().make_environment('rooms_watermaze', 5, True, settings())()
  assert any(name.startswith('environment_') for name in os.listdir(scratch.folder()))
  lab.close()


def test_a_level_script_that_does_not_exist_is_named(install, tmp_path, monkeypatch):
  install()
  dmlab = suite.DMLabSuite()
  config = dmlab.configure('contributed/psychlab/nothing')
  dmlab.check_installed(config)  # It is not known where this build has its scripts.
  scripts = tmp_path / 'deepmind_lab' / 'baselab' / 'game_scripts' / 'levels'
  (scripts / 'contributed' / 'psychlab').mkdir(parents=True)
  origin = types.SimpleNamespace(origin=str(tmp_path / 'deepmind_lab' / '__init__.py'))
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: origin)
  with pytest.raises(ConfigurationError, match='contributed/psychlab/nothing'):
    dmlab.check_installed(config)
  (scripts / 'contributed' / 'psychlab' / 'nothing.lua').touch()
  dmlab.check_installed(config)
  # The engine puts its folder before names, with a leading slash too.
  dmlab.check_installed(dmlab.configure('/contributed/psychlab/nothing'))


def test_a_level_script_outside_of_the_installation_is_a_path_with_its_ending(
  install, tmp_path, monkeypatch
):
  install()
  dmlab = suite.DMLabSuite()
  (tmp_path / 'deepmind_lab' / 'baselab' / 'game_scripts' / 'levels').mkdir(parents=True)
  (tmp_path / 'mine.lua').touch()
  dmlab.check_installed(dmlab.configure(f'{tmp_path}/mine.lua'))
  missing = dmlab.configure(f'{tmp_path}/nothing.lua')
  with pytest.raises(ConfigurationError, match=f'{tmp_path}/nothing.lua does not exist'):
    dmlab.check_installed(missing)  # Wherever this build has its scripts.
  origin = types.SimpleNamespace(origin=str(tmp_path / 'deepmind_lab' / '__init__.py'))
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: origin)
  dmlab.check_installed(dmlab.configure(f'{tmp_path}/mine.lua'))
  for name in (f'{tmp_path}/nothing.lua', f'{tmp_path}/mine'):
    with pytest.raises(ConfigurationError, match=name):
      dmlab.check_installed(dmlab.configure(name))


def test_check_says_what_is_missing(install, tmp_path):
  dmlab = suite.DMLabSuite()
  with pytest.raises(ConfigurationError, match='google-deepmind/lab'):
    dmlab.check_installed(settings())
  install()
  dmlab.check_installed(settings())
  with pytest.raises(ConfigurationError, match=rf'--dataset_path={tmp_path} .*0001\.png'):
    dmlab.check_installed(settings('dmlab30', num_actors=30, dataset_path=str(tmp_path)))
  (tmp_path / '0001.png').touch()
  dmlab.check_installed(settings('dmlab30', num_actors=30, dataset_path=str(tmp_path)))
  dmlab.check_installed(settings('dmlab30', num_actors=30, dataset_path='dummy'))
  with pytest.raises(ConfigurationError) as refused:
    dmlab.check_installed(settings('dmlab30'))
  for part in (
    'psychlab_arbitrary_visuomotor_mapping and psychlab_continuous_recognition',
    'bradylab',
    '--dataset_path',
  ):
    assert part in str(refused.value)
  with pytest.raises(ConfigurationError, match='psychlab_continuous_recognition'):
    dmlab.check_installed(settings('psychlab_continuous_recognition'))
  with pytest.raises(ConfigurationError, match='--dataset_path=/no/where '):
    dmlab.check_installed(settings(dataset_path='/no/where'))


@pytest.mark.parametrize(
  'changes',
  [
    {'frame_stack': 4},
    {'max_noops': 30},
    {'full_action_space': True},
    {'repeat_action_probability': 0.25},
  ],
)
def test_fields_of_atari_are_refused(changes):
  ((name, value),) = changes.items()
  with pytest.raises(ConfigurationError, match=f'--{name} .*dmlab30'):
    suite.SUITE.configure('rooms_watermaze', **{name: value})


def test_scores_are_the_suites_only():
  dmlab = suite.DMLabSuite()
  returns = {
    level.name: [level.human_paper, 3 * level.human_paper] for level in levels.all_levels()
  }
  scores = dmlab.scores(returns)
  assert list(scores) == ['dmlab30/training_cap_100', 'dmlab30/training_no_cap']
  assert scores['dmlab30/training_cap_100'] == pytest.approx(100)
  assert 200 < scores['dmlab30/training_no_cap'] < 205
  assert dmlab.scores({'rooms_watermaze': [1.0]}) == {}
  assert dmlab.scores({'seekavoid_arena_01': [1.0]}) == {}


def test_fitness_is_capped_for_each_level_and_a_mean_return_without_references():
  dmlab = suite.DMLabSuite()
  level, other = levels.get('rooms_watermaze'), levels.get('explore_goal_locations_small')
  half = (level.human_paper + level.random_paper) / 2
  assert dmlab.fitness({'rooms_watermaze': [half - 1, half + 1]}) == pytest.approx(50)
  both = {'rooms_watermaze': [half], 'explore_goal_locations_small': [10 * other.human_paper]}
  assert dmlab.fitness(both) == pytest.approx(75)
  assert dmlab.fitness({'seekavoid_arena_01': [3.0, 5.0]}) == pytest.approx(4)
  twice = 2 * level.human_paper - level.random_paper
  assert dmlab.fitness({'rooms_watermaze': [twice]}) == pytest.approx(200)


def test_presets_by_name():
  for name, values in suite.SUITE.presets.items():
    _, kind, agent = name.split('_')
    expected = suite.SUITE.configure(
      'dmlab30' if kind == 'multitask' else 'explore_goal_locations_small', agent=agent
    )
    if kind == 'expert':
      expected = dataclasses.replace(expected, reward_clipping='optimistic_asymmetric')
    assert suite.SUITE.with_sizes(values) == expected
  assert len(suite.SUITE.presets) == 6
