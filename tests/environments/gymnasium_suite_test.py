"""Gymnasium's environments as levels: what reaches the agent, and training on one."""

import cv2
import gymnasium
import numpy as np
import pytest

from impala_tf.config import ConfigurationError
from impala_tf.environments import gymnasium_suite, suites
from impala_tf.environments.base import EnvironmentBatch
from impala_tf.environments.gymnasium_environment import GymnasiumEnvironment
from impala_tf.evaluation import play
from impala_tf.training import loop


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
  """Observations of a space that does not say how it is flattened."""

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


MINE = """
class Mine(gymnasium.Env):
  action_space = gymnasium.spaces.Discrete(2)
  observation_space = gymnasium.spaces.Box(0.0, 9.0, (1,))

  def reset(self, *, seed=None, options=None):
    return self.observation_space.low + 4, {}
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


def test_time_limit_ends_an_episode():
  ours = GymnasiumEnvironment('MountainCar-v0', seed=1)
  ours.reset()
  ends = [ours.step(1).finished for _ in range(200)]
  assert ends == [False] * 199 + [True]


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
    ('gymnasium:ale_py:ALE/Pnog-v5', {}, 'has no environment'),
    ('gymnasium:Sentences-v0', {}, 'neither images nor can be made a vector'),
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


def test_an_environment_of_another_package_is_found_by_its_module(tmp_path, monkeypatch):
  (tmp_path / 'of_my_own.py').write_text(
    "import gymnasium\ngymnasium.register('Mine-v0', 'of_my_own:Mine')\n" + MINE
  )
  monkeypatch.syspath_prepend(tmp_path)
  suite, config = suites.resolve('gymnasium:of_my_own:Mine-v0')
  suite.check(config)
  environment = suite.make_environment(config.level_name, 1, False, config)()
  assert environment.reset().frame.tolist() == [4.0]
  del gymnasium.registry['Mine-v0']


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
