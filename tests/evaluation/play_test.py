"""Evaluation: which episodes of which environments count, and what an agent remembers."""

import dataclasses
import gc
import threading
import weakref

import pytest
import tensorflow as tf

from impala_tf.acting import actors, inference, weights
from impala_tf.agent import agents
from impala_tf.environments import process_group, py_process
from impala_tf.evaluation import play, whole_episodes
from impala_tf.training import checkpoints
from tests.support import catch, dice, frail, scripted, switch
from tests.support.linear_agent import LinearAgent
from tests.support.processes import wait_until


# Unrolls of 10 end with an episode of the fast one, in the row that the next unroll repeats.
@pytest.mark.parametrize('unroll_length', [7, 10])
def test_evaluation_takes_a_fixed_share_of_episodes_from_each_environment(unroll_length):
  # One environment's episodes are three times as long as the other's; first come, first served
  # would take few of them.
  agent = LinearAgent()
  slow, fast = scripted.Counting(length=30), scripted.Counting(length=10)
  agent.build(slow.observation_spec)
  group = scripted.InProcess([slow, fast])
  unroller = actors.Unroller(
    inference.LocalInference(agent, weights.PublishedWeights(agent)), group, [[0, 0]], unroll_length
  )
  played = whole_episodes.play_episodes(unroller, 2, 5)
  assert [episode.episode_steps for episode in played] == [10, 10, 30, 30, 30]
  # Rewards are 100 n + action: each episode's return tells which steps it had.
  sums = lambda first, last: 100 * sum(range(first, last + 1))
  starts = [(1, 10), (11, 20), (1, 30), (31, 60), (61, 90)]
  for episode, (first, last) in zip(played, starts, strict=True):
    assert round((episode.episode_return - sums(first, last)) / (last - first + 1)) in range(9)
  with pytest.raises(ValueError, match='At least one'):
    whole_episodes.play_episodes(unroller, 2, 0)


def test_agents_remember_across_the_unrolls_of_an_evaluation():
  class CountingAgent(LinearAgent):
    """Whose action is the number of steps since the episode began."""

    def step(self, last_actions, step_outputs, state):
      output, _ = super().step(last_actions, step_outputs, state)
      state = tf.where(step_outputs.done, 0.0, state)
      return output._replace(action=tf.cast(state, tf.int32)), state + 1

  agent, environment = CountingAgent(), scripted.Counting(length=8)
  agent.build(environment.observation_spec)
  policy = inference.LocalInference(agent, weights.PublishedWeights(agent))
  played = whole_episodes.play_episodes(
    actors.Unroller(policy, scripted.InProcess([environment]), [[0]], 5), 1, 2
  )
  assert [e.episode_return for e in played] == [
    100 * sum(n) + sum(range(8)) for n in (range(1, 9), range(9, 17))
  ]


def test_evaluations_play_in_test_environments():
  suite = catch.Noting()
  play.evaluate_random(suite, catch.CONFIG, 2, 1)
  assert suite.is_test == [True, True]


@pytest.mark.parametrize(('times', 'words'), [(30, 'stopped after 4 of 50'), (4, 'after 0 of 50')])
def test_an_evaluation_that_is_stopped_says_what_was_played(times, words, capsys):
  config = dataclasses.replace(catch.CONFIG, envs_per_actor=1)
  played = play.evaluate_random(catch.CatchSuite(), config, 50, 1, stop=switch.Switch(times))
  assert all(len(returns) < 50 for returns in played.values())
  assert words in capsys.readouterr().out


def test_random_policy_takes_a_fixed_share_of_episodes_and_all_actions():
  slow, fast = scripted.Counting(length=30), scripted.Counting(length=10)
  taken = []
  for environment in (slow, fast):
    environment.step = lambda action, step=environment.step: (taken.append(action), step(action))[1]
  process = scripted.InProcess([slow, fast])[0]
  count = []
  played = whole_episodes.play_randomly(process, 3, 2, 5, [1], on_episode=lambda: count.append(1))
  assert [episode.episode_steps for episode in played] == [10, 10, 30, 30, 30]
  assert len(count) == 5
  assert all(taken.count(action) > 30 for action in range(3))
  assert set(taken) == {0, 1, 2}


@pytest.mark.parametrize('random', [False, True])
def test_a_process_that_keeps_failing_ends_an_evaluation_with_its_own_error(
  tmp_path, monkeypatch, random
):
  suite = frail.FrailSuite(tmp_path, 'raise', 3)
  monkeypatch.setattr(checkpoints, 'load_weights', lambda *_: checkpoints.Loaded('', 0))
  evaluate, folder = (
    (play.evaluate_random, ()) if random else (play.evaluate_checkpoint, ('no folder',))
  )
  with pytest.raises(
    py_process.ProcessError, match=r'(?s)the ball is stuck.*catch was restarted 3 times in a row'
  ):
    evaluate(suite, catch.CONFIG, *folder, 2, 1)


def test_nothing_starts_after_the_end(tmp_path):
  suite = dice.DiceSuite(tmp_path)
  share = play.Share(play.EvaluatedRun('', dice.CONFIG), 'one', [1], 1, 1)
  with play.Player(suite) as player:
    pass
  with pytest.raises(py_process.ProcessClosed):
    player.play(share)
  assert suite.made() == []


def test_nothing_is_kept_of_the_environments_of_a_share_that_was_played(monkeypatch):
  groups, make = [], process_group.make_environments

  def noted(*arguments):
    group = make(*arguments)
    groups.append(weakref.ref(group))
    return group

  monkeypatch.setattr(process_group, 'make_environments', noted)
  suite = catch.CatchSuite()
  agent = agents.for_suite(suite, catch.CONFIG)
  run = play.EvaluatedRun('', catch.CONFIG, agent, weights.PublishedWeights(agent))
  assert len(play.Player(suite).play(play.Share(run, 'catch', [1], 1, 1))) == 1
  gc.collect()
  assert [group() for group in groups] == [None]


def test_a_player_that_is_closed_ends_what_it_plays(tmp_path):
  suite = dice.DiceSuite(tmp_path, length=10**9)
  share = play.Share(play.EvaluatedRun('', dice.CONFIG), 'one', [1], 1, 1)
  errors = []

  def run():
    try:
      player.play(share)
    except Exception as error:
      errors.append(type(error))

  with play.Player(suite) as player:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_until(suite.made)
  thread.join(20)
  assert errors == [RuntimeError]
