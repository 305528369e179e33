"""The suite's parts fit each other."""

import dataclasses

import numpy as np
import pytest

from atari57 import games, suite
from impala_tf.agent import agents
from impala_tf.config import ConfigurationError
from impala_tf.environments.base import EnvironmentBatch


@pytest.mark.parametrize(
  ('agent', 'full', 'parameters'), [('shallow', False, 1_687_719), ('deep', True, 1_094_115)]
)
def test_agent_has_the_papers_size_and_acts_in_the_environment(agent, full, parameters):
  atari = suite.AtariSuite()
  settings = dataclasses.replace(suite.SUITE.configure('pong', agent=agent), full_action_space=full)
  agent = agents.for_suite(atari, settings)
  assert sum(int(np.prod(v.shape)) for v in agent.trainable_variables) == parameters
  assert agent.num_actions == (18 if full else 6)
  batch = EnvironmentBatch(
    [atari.make_environment('pong', seed, False, settings) for seed in range(2)]
  )
  step_outputs = batch.initial()
  assert step_outputs.observation.frame.shape == (2, *atari.observation_spec(settings).frame.shape)
  output, _ = agent.step(np.zeros(2, np.int32), step_outputs, agent.initial_state(2))
  assert batch.step(output.action.numpy()).reward.shape == (2,)


def test_starts_follow_from_the_seed():
  config = suite.SUITE.configure('pong')

  def starts(seed):
    game = suite.SUITE.make_environment('pong', seed, False, config)()
    return [(game.reset(), game._ale.getEpisodeFrameNumber())[1] for _ in range(8)]

  assert starts(1) == starts(1) != starts(2)


def test_nothing_is_missing_and_one_game_has_no_score_of_the_suite():
  atari = suite.AtariSuite()
  assert atari.check(suite.SUITE.configure('pong', agent='shallow')) is None
  assert atari.check_installed(suite.SUITE.configure('pong', agent='shallow')) is None
  assert atari.scores({'pong': [21.0]}) == {}


def test_one_agent_for_all_games_has_all_actions_and_the_suites_score():
  atari = suite.AtariSuite()
  settings = suite.SUITE.configure('Atari57', agent='deep')
  assert atari.check(settings) is None
  names = atari.levels(settings)
  assert names == tuple(game.name for game in games.all_games())
  assert atari.num_actions(settings) == 18
  with pytest.raises(ConfigurationError, match='--nofull_action_space'):
    atari.check(dataclasses.replace(settings, full_action_space=False))
  returns = {
    game.name: [game.impala_deep_multitask - 1, game.impala_deep_multitask + 1]
    for game in games.all_games()
  }
  scores = atari.scores(returns)
  assert list(scores) == ['atari57/training_median', 'atari57/training_mean']
  assert [f'{score:.1f}' for score in scores.values()] == ['59.7', '179.4']
  some = {'pong': [20.3], 'boxing': [0.1, 6.1], 'breakout': [1.7]}
  scores = atari.scores(some)
  assert list(scores) == ['games/training_median', 'games/training_mean']
  normalised = [100 * 41 / 35.3, 100 * 3 / 12, 0.0]
  assert list(scores.values()) == pytest.approx([normalised[1], np.mean(normalised)])


def test_one_agent_for_some_games():
  atari = suite.AtariSuite()
  settings = suite.SUITE.configure('pong+breakout', agent='shallow')
  atari.check(settings)
  assert atari.levels(settings) == ('pong', 'breakout')
  assert atari.num_actions(settings) == 18
  with pytest.raises(ConfigurationError, match=r'pong\+breakout .*--full_action_space'):
    atari.check(dataclasses.replace(settings, full_action_space=False))


def test_hyper_parameters_reach_the_environment():
  atari = suite.AtariSuite()
  settings = dataclasses.replace(
    suite.SUITE.configure('breakout', agent='shallow'),
    width=40,
    height=30,
    frame_stack=2,
    num_action_repeats=3,
    repeat_action_probability=0.1,
    max_noops=0,
  )
  training, test = (
    atari.make_environment('breakout', 5, is_test, settings)() for is_test in (False, True)
  )
  assert training.observation_spec == atari.observation_spec(settings)
  assert training._ale.getFloat('repeat_action_probability') == pytest.approx(0.1)
  assert training.reset().frame.shape == (30, 40, 2)
  frames = [training._ale.getEpisodeFrameNumber()]
  training.step(0)
  assert [*frames, training._ale.getEpisodeFrameNumber()] == [0, 3]
  every_action = dataclasses.replace(settings, full_action_space=True)
  assert [
    atari.make_environment('breakout', 5, False, s)().num_actions for s in (settings, every_action)
  ] == [4, 18]

  def first_done(environment):
    environment.reset()
    for step in range(10_000):
      transition = environment.step(1 + step % 3)
      if transition.done:
        return transition

  assert not first_done(training).finished
  assert first_done(test).finished


def test_fitness_is_capped_for_each_game():
  atari = suite.AtariSuite()
  # Breakout's references are 1.7 and 30.5, alien's 227.8 and 7127.7.
  assert atari.fitness({'breakout': [1.7, 30.5]}) == pytest.approx(50)
  assert atari.fitness({'breakout': [400.0, 500.0], 'alien': [227.8]}) == pytest.approx(50)
  # A population on one game must still tell the better of two agents that are above it.
  assert atari.fitness({'breakout': [59.3]}) == pytest.approx(200)
