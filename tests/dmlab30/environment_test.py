"""Tests of the DeepMind Lab environment, on a stand-in for the engine that plays recordings of the
real one.
"""

import functools
import os
import sys

import numpy as np
import pytest

from dmlab30 import environment, level_cache
from dmlab30.environment import DMLabEnvironment
from impala_tf.config import ConfigurationError
from impala_tf.environments import base, py_process
from tests.support import deepmind_lab_stand_in as stand_in
from tests.support.processes import ROOT

TAPES = ROOT / 'tests' / 'golden' / 'dmlab_tapes'
TAPED_LEVELS = sorted(path.stem for path in TAPES.glob('*.npz'))


def tape(level):
  with np.load(TAPES / f'{level}.npz') as arrays:
    return dict(arrays)


def test_the_nine_actions_are_those_of_the_paper():
  assert [stand_in.NINE_ACTIONS[tuple(row)] for row in environment.ACTIONS.tolist()] == list(
    range(9)
  )


@pytest.mark.parametrize('level', TAPED_LEVELS)
@pytest.mark.parametrize('instruction_type', ['str', 'bytes'])
def test_a_recording_comes_out_value_by_value(install, level, instruction_type):
  install(tapes=TAPES, check_actions=True, instruction_type=instruction_type)
  recorded = tape(level)
  assert not recorded['running'].all()
  batch = base.EnvironmentBatch([lambda: DMLabEnvironment(level, 1)])
  batch.initial()
  total, steps = 0.0, 0
  for row, action in enumerate(recorded['actions']):
    output = batch.step(np.array([action], np.int32))
    total, steps = total + recorded['rewards'][row], steps + 1
    finished = not recorded['running'][row]
    np.testing.assert_array_equal(output.observation.frame[0], recorded['frames'][row])
    assert output.observation.instruction[0] == recorded['instructions'][row]
    assert output.reward[0] == np.float32(recorded['rewards'][row])
    assert (output.done[0], output.info.finished[0]) == (finished, finished)
    assert output.info.episode_return[0] == pytest.approx(total)
    assert output.info.episode_steps[0] == steps
    if finished:
      total, steps = 0.0, 0
  batch.close()


def test_recordings_come_out_of_a_process(install):
  install(tapes=TAPES, check_actions=True)
  level = 'language_select_located_object'
  recorded = tape(level)
  constructor = functools.partial(DMLabEnvironment, level, 1)
  with py_process.PyProcess(base.EnvironmentBatch, [constructor]) as process:
    process.call('initial')
    for row, action in enumerate(recorded['actions']):
      output = process.call('step', np.array([action], np.int32))
      np.testing.assert_array_equal(output.observation.frame[0], recorded['frames'][row])
      assert output.observation.instruction[0] == recorded['instructions'][row]
      assert output.reward[0] == np.float32(recorded['rewards'][row])
  assert b'Pick the red object in the cyan room' in recorded['instructions']


def test_every_action_arrives(install):
  install(episode_steps=100)
  lab = DMLabEnvironment('rooms_watermaze', 1)
  lab.reset()
  for n, action in enumerate(range(9), 1):
    assert lab.step(action).reward == pytest.approx(n + action / 10)
  for action in (-1, 9):
    with pytest.raises(ValueError, match=f' {action} '):
      lab.step(action)
  lab.close()


def test_an_episode_ends_without_a_frame_and_the_next_one_starts(install):
  install(episode_steps=3)
  lab = DMLabEnvironment('rooms_watermaze', 1, height=5, width=7)
  first = lab.reset()
  assert first.frame.shape == (5, 7, 3) == lab.observation_spec.frame.shape
  assert first.frame.dtype == np.uint8
  assert first.instruction == b''
  transitions = [lab.step(0) for _ in range(3)]
  assert [t.finished for t in transitions] == [t.done for t in transitions] == [False, False, True]
  assert (lab.reset().frame == 3).all()
  lab.close()


def test_its_picture_is_what_the_agent_saw(install):
  install()
  lab = DMLabEnvironment('rooms_watermaze', 1, height=5, width=8)
  frame = lab.reset().frame
  np.testing.assert_array_equal(lab.render(), frame[:4])
  frame = lab.step(0).observation.frame
  np.testing.assert_array_equal(lab.render(), frame[:4])
  lab.close()


def test_config_of_training_and_tests(install):
  install()
  training = DMLabEnvironment(
    'rooms_collect_good_objects_train', 1, height=5, width=7, dataset_path='dummy'
  )
  assert training._lab.config == {
    'width': '7',
    'height': '5',
    'logLevel': 'WARN',
    'datasetPath': 'dummy',
  }
  assert training._lab._name == 'rooms_collect_good_objects_train'
  test = DMLabEnvironment('rooms_collect_good_objects_train', 1, is_test=True)
  assert test._lab.config == {
    'width': '96',
    'height': '72',
    'logLevel': 'WARN',
    'allowHoldOutLevels': 'true',
    'mixerSeed': '1611489005',
  }
  assert test._lab._name == 'rooms_collect_good_objects_test'
  for lab in (training, test):
    lab.reset()
    lab.close()


@pytest.mark.parametrize('path', ['', 'nowhere'])
def test_a_level_without_its_images_fails_in_the_engine(install, path):
  install()
  lab = DMLabEnvironment('psychlab_continuous_recognition', 1, dataset_path=path)
  with pytest.raises(RuntimeError, match='datasetPath'):
    lab.reset()
  lab.close()


def test_images_are_found_from_wherever_the_engine_looks(install, tmp_path, monkeypatch):
  install()
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'images').mkdir()
  lab = DMLabEnvironment('psychlab_continuous_recognition', 1, dataset_path='images')
  assert lab._lab.config['datasetPath'] == str(tmp_path / 'images')
  lab.reset()
  lab.close()


def test_each_episode_has_a_seed_from_the_environments_own_generator(install):
  install()

  def seeds(seed):
    lab = DMLabEnvironment('rooms_watermaze', seed)
    for _ in range(50):
      lab.reset()
    used = lab._lab.seeds
    lab.close()
    return used

  first = seeds(7)
  assert len(set(first)) == 50
  assert max(first) > 2**30
  assert seeds(7) == first
  assert not set(seeds(8)) & set(first)


def test_files_go_when_it_is_closed_and_when_it_can_not_be_made(install, tmp_path):
  install()
  folder = tmp_path / 'temporary'
  folder.mkdir()
  lab = DMLabEnvironment('rooms_watermaze', 1, temp_folder=str(folder))
  lab.reset()
  assert list(folder.glob('environment_*/dmlab_temp_folder_*'))
  engine = lab._lab
  lab.close()
  lab.close()
  assert engine.closed
  assert not list(folder.iterdir())
  with pytest.raises(RuntimeError, match='Failed to set renderer'):
    DMLabEnvironment('rooms_watermaze', 1, renderer='neither', temp_folder=str(folder))
  assert not list(folder.iterdir())


def test_files_of_a_killed_process_go_with_the_next_environment(install, tmp_path):
  install()
  folder = tmp_path / 'temporary'
  folder.mkdir()
  constructor = functools.partial(DMLabEnvironment, 'rooms_watermaze', 1, temp_folder=str(folder))
  alive = constructor()
  with py_process.PyProcess(constructor) as process:
    assert len(list(folder.iterdir())) == 2
    process._process.kill()
    process._process.join()
  assert len(list(folder.iterdir())) == 2
  third = constructor()
  third.reset()
  alive.reset()
  assert len(list(folder.glob('environment_*/dmlab_temp_folder_*'))) == 2
  for lab in (alive, third):
    lab.close()
  assert not list(folder.iterdir())


def test_files_are_left_to_another_users_process(install, tmp_path, monkeypatch):
  install()
  (tmp_path / f'environment_{os.getppid()}_x').mkdir()

  def refuse(pid, number):
    raise PermissionError(pid, number)

  monkeypatch.setattr(os, 'kill', refuse)
  DMLabEnvironment('rooms_watermaze', 1, temp_folder=str(tmp_path)).close()
  assert len(list(tmp_path.glob('environment_*'))) == 1


def test_the_level_cache_is_used(install, tmp_path):
  install(num_maps=1)
  cache = level_cache.LevelCache(str(tmp_path / 'cache'), 1)
  for name, compiled in (('first', 2), ('second', 0)):
    lab = DMLabEnvironment('language_execute_random_task', 1, cache=cache)
    for _ in range(2):
      lab.reset()
      lab.step(0)
      lab.step(0)  # in language levels a map is compiled here too
    assert len(lab._lab.compiled) == compiled, name
    lab.close()
  assert lab.statistics() == {
    'level_cache/hits': 6,
    'level_cache/misses': 2,
    'level_cache/damaged': 0,
    'level_cache/evicted': 0,
    'level_cache/write_errors': 0,
  }
  assert DMLabEnvironment('rooms_watermaze', 1).statistics() == {}


def test_without_deepmind_lab_one_message_says_what_to_install():
  assert 'deepmind_lab' not in sys.modules
  for function in (environment.check_installed, lambda: DMLabEnvironment('rooms_watermaze', 1)):
    with pytest.raises(ConfigurationError, match='google-deepmind/lab'):
      function()


def test_a_broken_installation_says_why(tmp_path, monkeypatch):
  (tmp_path / 'deepmind_lab.py').write_text('import dm_env_that_is_missing')
  monkeypatch.syspath_prepend(tmp_path)
  environment.check_installed()
  with pytest.raises(
    ConfigurationError,
    match="'dm_env_that_is_missing'",
  ):
    DMLabEnvironment('rooms_watermaze', 1)
