"""Gymnasium's environments as levels: what reaches the agent, and training on one."""

import dataclasses
import io
import json
import sys

import cv2
import gymnasium
import imageio
import numpy as np
import pytest
import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.acting.group import ActorError
from impala_tf.agent import agents
from impala_tf.config import ConfigurationError
from impala_tf.environments import gymnasium_suite, py_process, suites, worker
from impala_tf.environments.base import EnvironmentBatch
from impala_tf.environments.gymnasium_environment import GymnasiumEnvironment, WrongOutputError
from impala_tf.evaluation import evaluate, play
from impala_tf.training import checkpoints, loop


class Echo(gymnasium.Env):
  """Actions 5, 6 and 7; the reward is the action. Pictures of random noise. Ends with the fourth
  step.
  """

  action_space = gymnasium.spaces.Discrete(3, start=5)

  def __init__(self, shape=(20, 30, 3)):
    self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)

  def reset(self, *, seed=None, options=None):
    super().reset(seed=seed)
    self._steps = 0
    return self._picture(), {}

  def step(self, action):
    self._steps += 1
    return self._picture(), action, self._steps == 4, False, {}

  def _picture(self):
    return self.np_random.integers(0, 256, self.observation_space.shape, np.uint8)


class Sentences(gymnasium.Env):
  """Observations of a space that nobody knows."""

  action_space = gymnasium.spaces.Discrete(2)
  observation_space = gymnasium.spaces.Dict({'mission': gymnasium.Space()})


@pytest.fixture(autouse=True, scope='module')
def _registered():
  gymnasium.register('Echo-v0', Echo)
  gymnasium.register('GreyEcho-v0', Echo, kwargs={'shape': (20, 30)})
  gymnasium.register('Sentences-v0', Sentences)
  yield
  for name in ('Echo-v0', 'GreyEcho-v0', 'Sentences-v0'):
    del gymnasium.registry[name]


TASKS = 'gymnasium:tests.support.gymnasium_tasks'
MODULE = TASKS.removeprefix('gymnasium:')

MINE = """
class Mine(gymnasium.Env):
  action_space = gymnasium.spaces.Discrete(2)
  observation_space = gymnasium.spaces.Box(0.0, 9.0, (1,))

  def reset(self, *, seed=None, options=None):
    return self.observation_space.low + 4, {}

  def step(self, action):
    return self.observation_space.low + 4, 1.0, True, False, {}
"""


def test_vectors_rewards_and_ends_are_gymnasiums_own():
  theirs = gymnasium.make('CartPole-v1')
  ours = GymnasiumEnvironment('CartPole-v1', seed=3)
  assert (
    ours.num_actions,
    ours.observation_spec.frame.shape,
    ours.observation_spec.frame.dtype,
  ) == (2, (4,), np.float32)
  expected, _ = theirs.reset(seed=3)
  np.testing.assert_array_equal(ours.reset().frame, expected)
  ends = 0
  for action in np.random.default_rng(0).integers(2, size=200).tolist():
    expected, reward, terminated, truncated, _ = theirs.step(action)
    transition = ours.step(action)
    assert (transition.reward, transition.done, transition.finished) == (
      reward,
      terminated,
      terminated,
    )
    assert not truncated
    np.testing.assert_array_equal(transition.observation.frame, expected)
    if terminated:
      ends += 1
      expected, _ = theirs.reset()
      np.testing.assert_array_equal(ours.reset().frame, expected)
  assert ends > 3


def test_other_observations_become_vectors():
  ours = GymnasiumEnvironment('FrozenLake-v1', seed=1)
  frame = ours.reset().frame
  assert frame.dtype == np.float32
  assert frame.tolist() == [1.0] + [0.0] * 15


@pytest.mark.parametrize(('given', 'length'), [({}, 200), ({'max_episode_steps': 7}, 7)])
def test_time_limit_cuts_an_episode_and_does_not_end_the_task(given, length):
  ours = GymnasiumEnvironment('MountainCar-v0', seed=1, **given)
  ours.reset()
  transitions = [ours.step(1) for _ in range(length)]
  assert [t.finished for t in transitions] == [False] * (length - 1) + [True]
  assert [t.truncated for t in transitions] == [t.finished for t in transitions]
  assert ours.max_episode_steps == length


def test_an_end_of_the_task_at_the_time_limit_is_an_end():
  ours = GymnasiumEnvironment('Echo-v0', seed=1, max_episode_steps=4)
  ours.reset()
  last = [ours.step(0) for _ in range(4)][-1]
  assert last.finished
  assert not last.truncated


@pytest.mark.parametrize(('name', 'channels'), [('Echo-v0', 3), ('GreyEcho-v0', 1)])
def test_images_are_scaled_and_stacked_with_the_newest_last(name, channels):
  theirs, ours = (
    gymnasium.make(name),
    GymnasiumEnvironment(name, seed=1, frame_stack=2, height=10, width=15),
  )
  assert ours.observation_spec.frame.shape == (10, 15, 2 * channels)
  scale = lambda image: cv2.resize(image, (15, 10), interpolation=cv2.INTER_AREA).reshape(
    10, 15, channels
  )
  first = scale(theirs.reset(seed=1)[0])
  np.testing.assert_array_equal(
    ours.reset().frame, np.concatenate([np.zeros_like(first), first], axis=-1)
  )
  second = scale(theirs.step(5)[0])
  np.testing.assert_array_equal(
    ours.step(0).observation.frame, np.concatenate([first, second], axis=-1)
  )
  assert first.std() > 10
  after_reset = ours.reset().frame
  assert not after_reset[..., :channels].any()
  assert after_reset[..., channels:].any()


def test_actions_begin_where_the_space_does_and_are_repeated_until_the_end():
  ours = GymnasiumEnvironment('Echo-v0', seed=1, num_action_repeats=3)
  assert ours.num_actions == 3
  ours.reset()
  first, second = ours.step(0), ours.step(2)
  assert (first.reward, first.finished) == (15.0, False)
  assert (second.reward, second.finished) == (7.0, True)  # the fourth step was the last


def test_actions_stick_if_asked():
  ours = GymnasiumEnvironment('Echo-v0', seed=1, repeat_action_probability=0.5)
  stuck = 0
  for _ in range(50):
    ours.reset()
    ours.step(0)
    stuck += ours.step(2).reward == 5
  assert 10 < stuck < 40


def test_environments_of_a_batch_differ_and_follow_from_the_seed():
  suite, config = suites.resolve('gymnasium:CartPole-v1')
  make = lambda *seeds: EnvironmentBatch(
    [suite.make_environment(config.level_name, s, False, config) for s in seeds]
  )
  frames = make(1, 2, 1).initial().observation.frame
  assert (frames[0] != frames[1]).any()
  np.testing.assert_array_equal(frames[0], frames[2])


@pytest.mark.parametrize(
  ('level_name', 'given', 'message'),
  [
    ('gymnasium:CartPoel-v1', {}, 'has no environment'),
    ('gymnasium:nowhere:Thing-v0', {}, "No module named 'nowhere'"),
    ('gymnasium:.relative:Thing-v0', {}, 'has no environment'),
    ('gymnasium:ALE/Pnog-v5', {}, 'has no environment'),
    ('gymnasium:Sentences-v0', {}, 'mission is of the space'),
    ('gymnasium:CartPole-v1+Acrobot-v1', {}, '4 numbers(.|\n)*6 numbers'),
    ('gymnasium:CartPole-v1', {'env_kwargs': "{'size': 8}"}, 'env_kwargs'),
    ('gymnasium:CartPole-v1', {'env_kwargs': '[8]'}, 'env_kwargs'),
    ('gymnasium:CartPole-v1', {'env_kwargs': '{"size": 8}'}, 'size'),
    ('gymnasium:CartPole-v1', {'max_episode_steps': -1}, 'max_episode_steps'),
    (f'{TASKS}:Odd-v0', {'env_kwargs': '{"trouble": "constructor"}'}, 'No such map'),
    (f'{TASKS}:Odd-v0', {'env_kwargs': '{"trouble": "old reset"}'}, 'old Gym'),
    (f'{TASKS}:Odd-v0', {'env_kwargs': '{"trouble": "old step", "at": 1}'}, 'old Gym'),
    ('gymnasium:Pendulum-v1', {}, 'chooses among discrete ones'),
    ('gymnasium:CartPole-v1', {'agent': 'deep'}, 'Take --agent=shallow'),
    ('gymnasium:CartPole-v1', {'frame_stack': 4}, '--frame_stack=1'),
    ('gymnasium:CartPole-v1', {'precision': 'bfloat16'}, '--precision=float32'),
    ('gymnasium:CartPole-v1', {'max_noops': 30}, '--max_noops is not an option of gymnasium'),
  ],
)
def test_bad_input_is_refused(level_name, given, message):
  def check():
    suite, config = suites.resolve(level_name, **given)
    suite.check(config)

  with pytest.raises(ConfigurationError, match=message):
    check()


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
    ('import no_such_module', 'of_mine needs no_such_module.*pip install no_such_module'),
    ('import no_such_module.inner', 'pip install no_such_module`'),
    ('1 / 0', 'of_mine can not be imported: ZeroDivisionError'),
    ('import of_mine.inner', "No module named 'of_mine.inner'"),
  ],
)
@pytest.mark.usefixtures('_in_a_folder_of_my_own')
def test_a_module_that_can_not_be_loaded_says_why(tmp_path, text, message):
  (tmp_path / 'of_mine.py').write_text(text)
  with pytest.raises(ConfigurationError, match=message):
    suites.resolve('gymnasium:of_mine:Mine-v0')


def test_names_of_other_suites_are_not_ours():
  with pytest.raises(ConfigurationError, match='gymnasium:'):
    gymnasium_suite.SUITE.configure('pong')
  assert suites.resolve('pong')[1].num_action_repeats == 4
  ours = suites.resolve('gymnasium:CartPole-v1', agent='deep')[1]
  assert (ours.level_name, ours.agent) == ('gymnasium:CartPole-v1', 'deep')


@pytest.mark.parametrize('agent', ['shallow', 'deep'])
def test_agents_take_the_images(agent):
  suite, config = suites.resolve('gymnasium:Echo-v0', agent=agent)
  suite.check(config)
  batch = EnvironmentBatch([suite.make_environment(config.level_name, 1, False, config)])
  agent = suite.make_agent(config)
  agent.build(suite.observation_spec(config))
  output, _ = agent.step(np.zeros(1, np.int32), batch.initial(), ())
  assert output.policy_logits.shape == (1, 3)


@pytest.mark.parametrize('reward', [2, 2.0, np.float32(2), np.array([2.0]), np.array([[2]]), True])
def test_rewards_may_be_of_any_type_of_number(reward):
  ours = GymnasiumEnvironment(f'{MODULE}:Odd-v0', seed=1, env_kwargs={'reward': reward})
  ours.reset()
  assert ours.step(0).reward == float(np.sum(reward))


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'trouble': 'observation'}, 'Odd-v0, at step 3 of episode 2, .*nan'),
    ({'trouble': 'reward'}, 'Odd-v0, at step 3 of episode 2, .*inf'),
    ({'reward': 'much'}, "Odd-v0, at step 1 of episode 2, .*'much'"),
    ({'reward': np.ones(2)}, 'Odd-v0, at step 1 of episode 2, '),
    ({'trouble': 'old step'}, 'Odd-v0: `step` returned 4 values'),
  ],
)
def test_wrong_observations_and_rewards_are_named_with_their_step(given, message):
  ours = GymnasiumEnvironment(f'{MODULE}:Odd-v0', seed=1, env_kwargs=given)
  ours.reset()
  ours.reset()
  with pytest.raises(WrongOutputError, match=message):
    _play(ours, 3)


def _play(environment, steps):
  for _ in range(steps):
    environment.step(0)


def test_a_wrong_observation_in_training_ends_it_with_its_name_and_no_traceback(tmp_path):
  kwargs = '{"trouble": "observation", "at": 6}'
  suite, config = small(f'{TASKS}:Odd-v0', env_kwargs=kwargs, total_environment_frames=800)
  with pytest.raises(ActorError, match='Odd-v0, at step 6 of episode 1') as raised:
    loop.train(suite, config, str(tmp_path))
  assert 'Traceback' not in str(raised.value)


class Printing:
  """Says through which kind of stream its prints go."""

  def stream(self):
    return type(sys.stdout).__name__


def test_an_environment_that_prints_leaves_the_output_alone(capsys):
  suite, config = suites.resolve(f'{TASKS}:Odd-v0', env_kwargs='{"trouble": "prints"}')
  suite.check(config)
  assert capsys.readouterr() == ('', 'step 1\n')
  with py_process.PyProcess(Printing) as process:
    assert process.call('stream') == 'FewLines'

  stream = io.StringIO()
  few = worker.FewLines(stream)
  for number in range(5):
    print('line', number, file=few)
  first, *_, last = stream.getvalue().splitlines()
  assert (first, 'line 2\n' in stream.getvalue()) == ('line 0', True)
  assert 'prints more' in last


def small(level_name, **changes):
  """A suite and a configuration of a run of seconds."""
  given = {'num_actors': 1, 'envs_per_actor': 4, 'batch_size': 4, 'total_environment_frames': 8_000}
  return suites.resolve(level_name, **given | changes)


def judged(suite, config, logdir):
  """Trains; returns the agent's policy and value of the one observation."""
  loop.train(suite, config, logdir)
  agent = agents.for_suite(suite, config)
  checkpoints.load_weights(logdir, agent)
  observation = structs.Observation(tf.ones([1, 1, 1]))
  rows = structs.StepOutput(tf.zeros([1, 1]), tf.zeros([1, 1], tf.bool), (), (), observation)
  output, _ = agent.unroll(tf.zeros([1, 1], tf.int32), rows, ())
  return tf.nn.softmax(output.policy_logits)[0, 0].numpy(), output.baseline.numpy().item()


def test_the_value_of_a_task_does_not_depend_on_its_time_limit(tmp_path):
  suite, config = small(f'{TASKS}:OneState-v0', discounting=0.9, learning_rate=0.1)
  _, value = judged(suite, config, str(tmp_path))
  np.testing.assert_allclose(value, 1 / (1 - 0.9), rtol=0.05)


def test_a_large_reward_that_is_rare_is_worth_more_than_a_small_one(tmp_path):
  suite, config = small(f'{TASKS}:TwoArms-v0', learning_rate=0.02)
  policy, value = judged(suite, config, str(tmp_path))
  assert policy[1] > 0.9
  assert 4 < value < 6


@pytest.mark.parametrize('use_lstm', [False, True])
def test_an_agent_sees_image_numbers_and_text_together(use_lstm):
  suite, config = suites.resolve(f'{TASKS}:Seeing-v0', use_lstm=use_lstm)
  suite.check(config)
  assert 'instruction encoder' in suite.introduction(config)
  batch = EnvironmentBatch([suite.make_environment(config.level_name, 1, False, config)])
  agent = agents.for_suite(suite, config)
  rows = tree.map_structure(lambda array: tf.constant(array[np.newaxis]), batch.initial())

  def logits(**changes):
    observation = rows.observation._replace(**changes)
    outputs = rows._replace(observation=observation)
    return agent.unroll(tf.zeros([1, 1], tf.int32), outputs, agent.initial_state(1))[0][0].numpy()

  for changes in (
    {'frame': rows.observation.frame + 50},
    {'numbers': rows.observation.numbers + 1},
    {'instruction': tf.constant([[b'something else']])},
  ):
    assert np.abs(logits(**changes) - logits()).max() > 1e-4, changes

  # What a text makes of the policy depends on the image, or the agent could not do as it is told.
  image = {'frame': rows.observation.frame + 50}
  text = {'instruction': tf.constant([[b'something else']])}
  together = logits(**image, **text) - logits(**image) - logits(**text) + logits()
  assert np.abs(together).max() > 1e-5


def test_atari_by_gymnasium_is_seen_as_the_experts_see_it_and_points_to_the_papers_protocol():
  suite, config = suites.resolve('gymnasium:ALE/Pong-v5')
  assert config.level_name == 'gymnasium:ale_py:ALE/Pong-v5'
  assert suite.observation_spec(config).frame.shape == (84, 84, 4)
  assert (config.reward_clipping, config.batch_size) == ('abs_one', 32)
  assert '--level_name=pong' in suite.introduction(config)


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


def test_one_agent_plays_several_levels(tmp_path):
  levels = (f'{TASKS}:OneState-v0', f'{TASKS}:TwoArms-v0')
  suite, config = small('+'.join(levels), total_environment_frames=800, num_actors=2)
  suite.check(config)
  assert suite.levels(config) == levels
  one, both = (suite.preset(name) for name in ('CartPole-v1', 'CartPole-v1+CartPole-v0'))
  assert both.total_environment_frames == 2 * one.total_environment_frames
  loop.train(suite, config, str(tmp_path))
  rows = (tmp_path / 'episodes.csv').read_text().splitlines()[1:]
  assert {row.split(',')[1] for row in rows} == set(levels)


def test_films_are_made_of_environments_that_give_pictures(tmp_path):
  suite, config = suites.resolve(f'{TASKS}:Pictured-v0')
  settings = evaluate.EvaluationSettings(num_episodes=2, levels=[config.level_name], record_video=1)
  evaluate.evaluate_random_policy(suite, str(tmp_path), settings)
  (film,) = (tmp_path / 'videos').iterdir()
  frames = imageio.mimread(film)
  assert len(frames) == 6  # Five steps and the first observation.
  assert frames[0].shape == (40, 50, 3)
  assert imageio.get_reader(film).get_meta_data()['fps'] == 10


def test_trains_and_plays_vectors(tmp_path, capsys):
  given = {'num_actors': 1, 'envs_per_actor': 4, 'batch_size': 4, 'total_environment_frames': 1600}
  suite, config = suites.resolve('gymnasium:CartPole-v1', **given)
  suite.check(config)
  assert loop.train(suite, config, str(tmp_path)) == 0
  rows = (tmp_path / 'episodes.csv').read_text().splitlines()[1:]
  assert rows
  for row in rows:
    _, level, episode_return, frames = row.split(',')
    assert level == 'gymnasium:CartPole-v1'
    assert float(episode_return) == int(frames)  # one point a step
  play.evaluate_checkpoint(suite, config, str(tmp_path), 3, config.seed)
  assert 'ean return' in capsys.readouterr().out


def test_fitness_is_the_mean_return_and_there_is_no_score():
  suite, config = suites.resolve('gymnasium:CartPole-v1')
  returns = {config.level_name: [1.0, 6.0]}
  assert suite.fitness(returns) == 3.5
  assert suite.scores(returns) == {}
