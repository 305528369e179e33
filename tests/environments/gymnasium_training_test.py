"""Training on Gymnasium's environments: agents for all observations, and what they learn."""

import imageio
import numpy as np
import pytest
import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.acting.group import ActorError
from impala_tf.agent import agents
from impala_tf.environments import suites
from impala_tf.environments.base import EnvironmentBatch
from impala_tf.evaluation import evaluate, play
from impala_tf.training import checkpoints, loop
from tests.support.gymnasium_tasks import TASKS


@pytest.mark.parametrize('agent', ['shallow', 'deep'])
def test_agents_take_the_images(agent):
  suite, config = suites.resolve(f'{TASKS}:Echo-v0', agent=agent)
  suite.check(config)
  batch = EnvironmentBatch([suite.make_environment(config.level_name, 1, False, config)])
  agent = suite.make_agent(config)
  agent.build(suite.observation_spec(config))
  output, _ = agent.step(np.zeros(1, np.int32), batch.initial(), ())
  assert output.policy_logits.shape == (1, 3)


def test_a_wrong_observation_in_training_ends_it_with_its_name_and_no_traceback(tmp_path):
  kwargs = '{"trouble": "observation", "at": 6}'
  suite, config = small(f'{TASKS}:Odd-v0', env_kwargs=kwargs, total_environment_frames=800)
  with pytest.raises(ActorError, match='Odd-v0, at step 6 of episode 1') as raised:
    loop.train(suite, config, str(tmp_path))
  assert 'Traceback' not in str(raised.value)


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
