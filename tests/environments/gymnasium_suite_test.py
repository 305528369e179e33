"""Gymnasium's environments as levels: how they are named, what is refused, and their presets."""

import dataclasses
import json
import sys

import gymnasium
import numpy as np
import pytest
import tensorflow as tf

from impala_tf.agent import agents
from impala_tf.config import ConfigurationError
from impala_tf.environments import gymnasium_suite, suites
from impala_tf.environments.base import EnvironmentBatch
from tests.support.gymnasium_tasks import TASKS

MINE = """
class Mine(gymnasium.Env):
  action_space = gymnasium.spaces.Discrete(2)
  observation_space = gymnasium.spaces.Box(0.0, 9.0, (1,))

  def reset(self, *, seed=None, options=None):
    return self.observation_space.low + 4, {}

  def step(self, action):
    return self.observation_space.low + 4, 1.0, True, False, {}
"""


@pytest.mark.parametrize(
  ('level_name', 'given', 'message'),
  [
    ('gymnasium:CartPoel-v1', {}, 'CartPoel-v1'),
    ('gymnasium:nowhere:Thing-v0', {}, "No module named 'nowhere'"),
    ('gymnasium:.relative:Thing-v0', {}, 'Thing-v0'),
    ('gymnasium:ALE/Pnog-v5', {}, 'Pnog-v5'),
    (f'{TASKS}:Sentences-v0', {}, 'mission '),
    ('gymnasium:Sentences-v0', {}, 'gymnasium:my_module:Sentences-v0'),
    ('gymnasium:CartPole-v1+Acrobot-v1', {}, '4 numbers(.|\n)*6 numbers'),
    ('gymnasium:CartPole-v1', {'env_kwargs': "{'size': 8}"}, 'env_kwargs'),
    ('gymnasium:CartPole-v1', {'env_kwargs': '[8]'}, 'env_kwargs'),
    ('gymnasium:CartPole-v1', {'env_kwargs': '{"size": 8}'}, 'size'),
    ('gymnasium:CartPole-v1', {'max_episode_steps': -1}, 'max_episode_steps'),
    (f'{TASKS}:Odd-v0', {'env_kwargs': '{"trouble": "constructor"}'}, 'No such map'),
    (f'{TASKS}:Odd-v0', {'env_kwargs': '{"trouble": "old reset"}'}, 'old Gym'),
    (f'{TASKS}:Odd-v0', {'env_kwargs': '{"trouble": "old step", "at": 1}'}, 'old Gym'),
    ('gymnasium:Pendulum-v1', {}, 'Pendulum-v1 .*Box'),
    ('gymnasium:CartPole-v1', {'agent': 'deep'}, '--agent=shallow'),
    ('gymnasium:CartPole-v1', {'frame_stack': 4}, '--frame_stack=1'),
    ('gymnasium:CartPole-v1', {'precision': 'bfloat16'}, '--precision=float32'),
    ('gymnasium:CartPole-v1', {'max_noops': 30}, '--max_noops '),
  ],
)
def test_bad_input_is_refused(level_name, given, message):
  def check():
    suite, config = suites.resolve(level_name, **given)
    suite.check(config)

  with pytest.raises(ConfigurationError, match=message):
    check()


def test_an_environment_is_looked_at_in_another_process(monkeypatch):
  # What it imports, TensorFlow perhaps, must not be in use here before the training sets it up.
  monkeypatch.setattr(gymnasium, 'make', lambda *unused, **unused_too: pytest.fail('It is here.'))
  suite, config = suites.resolve('gymnasium:CartPole-v1', seed=2024)
  suite.check(config)
  suite.check_pictures(config)
  assert suite.num_actions(config) == 2


@pytest.fixture
def _in_a_folder_of_my_own(tmp_path, monkeypatch):
  """The working directory, which is not on the path, as `python /elsewhere/run_experiment.py` has
  it.
  """
  monkeypatch.setattr(sys, 'path', [folder for folder in sys.path if folder])
  monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures('_in_a_folder_of_my_own')
def test_an_environment_of_another_package_is_found_by_its_module(tmp_path):
  (tmp_path / 'of_my_own.py').write_text(
    "import gymnasium\ngymnasium.register('Mine-v0', 'of_my_own:Mine')\n" + MINE
  )
  suite, config = suites.resolve('gymnasium:of_my_own:Mine-v0')
  suite.check(config)
  environment = suite.make_environment(config.level_name, 1, False, config)()
  assert environment.reset().frame.tolist() == [4.0]
  del gymnasium.registry['Mine-v0']


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('import no_such_module', 'of_mine .*pip install no_such_module'),
    ('import no_such_module.inner', 'pip install no_such_module`'),
    ('1 / 0', 'of_mine .*ZeroDivisionError'),
    ('import of_mine.inner', "No module named 'of_mine.inner'"),
  ],
)
@pytest.mark.usefixtures('_in_a_folder_of_my_own')
def test_a_module_that_can_not_be_loaded_says_why(tmp_path, text, message):
  (tmp_path / 'of_mine.py').write_text(text)
  with pytest.raises(ConfigurationError, match=message):
    suites.resolve('gymnasium:of_mine:Mine-v0')


def test_hyper_parameters_reach_the_environment():
  def make(name, **given):
    suite, config = suites.resolve(f'{TASKS}:{name}', **given)
    return suite.make_environment(config.level_name, 1, False, config)()

  environment = make('OneState-v0', num_action_repeats=3, max_episode_steps=6)
  environment.reset()
  first, second = environment.step(0), environment.step(0)
  assert (first.reward, first.finished, second.truncated) == (3.0, False, True)

  environment = make('Echo-v0', height=10, width=15, repeat_action_probability=0.5)
  assert environment.observation_spec.frame.shape == (10, 15, 3)
  repeated = 0
  for _ in range(50):
    environment.reset()
    environment.step(0)
    repeated += environment.step(2).reward == 5
  assert 10 < repeated < 40


def test_names_of_other_suites_are_not_ours():
  with pytest.raises(ConfigurationError, match='gymnasium:'):
    gymnasium_suite.SUITE.configure('pong')
  assert suites.resolve('pong')[1].num_action_repeats == 4
  ours = suites.resolve('gymnasium:CartPole-v1', agent='deep')[1]
  assert (ours.level_name, ours.agent) == ('gymnasium:CartPole-v1', 'deep')


def test_atari_by_gymnasium_is_seen_as_the_experts_see_it_and_points_to_the_papers_protocol():
  suite, config = suites.resolve('gymnasium:ALE/Pong-v5')
  assert config.level_name == 'gymnasium:ale_py:ALE/Pong-v5'
  assert suite.observation_spec(config).frame.shape == (84, 84, 4)
  assert (config.reward_clipping, config.batch_size) == ('abs_one', 32)
  assert '--level_name=pong' in suite.introduction(config)
  assert 'four emulator frames' in suite.introduction(config)


@pytest.mark.parametrize('agent', ['shallow', 'deep'])
def test_grids_of_codes_and_missions_of_minigrid_are_seen_by_name_alone(agent):
  name = 'BabyAI-GoToRedBallGrey-v0'
  suite, config = suites.resolve(f'gymnasium:{name}', agent=agent)
  assert config.level_name == f'gymnasium:minigrid:{name}'
  suite.check(config)
  batch = EnvironmentBatch([suite.make_environment(config.level_name, 1, False, config)])
  seen = batch.initial().observation
  assert seen.instruction.tolist() == [b'go to the red ball']
  assert (seen.frame.shape, seen.numbers.shape) == ((1, 7, 7, 3), (1, 4))
  theirs, _ = gymnasium.make(f'minigrid:{name}').reset(seed=1)
  np.testing.assert_array_equal(seen.frame[0], theirs['image'])

  # A code's meaning is not its size: each has weights of its own.
  torso = agents.for_suite(suite, config).torso
  frames = np.stack([np.full((7, 7, 3), code, np.uint8) for code in range(4)])
  features = torso(tf.constant(frames)).numpy()
  assert np.abs(np.diff(features, n=2, axis=0)).max() > 1e-3
  pixels = suites.resolve(f'gymnasium:{name}', agent=agent, image_values='pixels')[1]
  assert suite.observation_spec(pixels).frame.shape == (84, 84, 3)


def test_numbers_reach_the_network_between_minus_one_and_one():
  suite, config = suites.resolve('gymnasium:CartPole-v1')
  torso = suite.make_agent(config).torso
  seen = []
  torso.layers = lambda scaled: seen.append(scaled.numpy()) or scaled
  torso(tf.constant([[4.8, -3.0, -0.41887903, 0.0], [-2.4, 0.0, 0.0, 99.0]]))
  expected = [[1, -np.log(4), -1, 0], [-0.5, 0, 0, np.log(100)]]
  np.testing.assert_allclose(seen[0], expected, rtol=1e-5, atol=1e-6)


def test_runs_of_an_older_version_keep_their_numbers_as_they_were():
  _, config = suites.resolve('gymnasium:CartPole-v1')
  fields = json.loads(config.to_json())
  for name in ('scale_numbers', 'use_lstm', 'image_values', 'env_kwargs', 'max_episode_steps'):
    del fields[name]
  older = type(config).from_values(fields)
  assert older == dataclasses.replace(config, scale_numbers=False)
  torso = gymnasium_suite.SUITE.make_agent(older).torso
  torso.layers = lambda given: given
  np.testing.assert_array_equal(torso(tf.constant([[3.0] * 4])), [[3.0] * 4])


def test_fitness_is_the_mean_return_and_there_is_no_score():
  suite, config = suites.resolve('gymnasium:CartPole-v1')
  returns = {config.level_name: [1.0, 6.0]}
  assert suite.fitness(returns) == 3.5
  assert suite.scores(returns) == {}
