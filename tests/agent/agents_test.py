"""Agents: steps, unrolls and resets of their memory."""

import numpy as np
import pytest
import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.agent import agents, networks
from impala_tf.evaluation import play
from tests.support import golden

ATARI_OBSERVATION = structs.Observation(structs.ArraySpec((84, 84, 4), np.uint8))
SMALL_OBSERVATION = structs.Observation(structs.ArraySpec((40, 44, 3), np.uint8))


class Spy:
  """Notes what the core is given."""

  def __init__(self, core):
    self._core = core

  def __call__(self, inputs, state, resets):
    self.inputs = inputs
    return self._core(inputs, state, resets)


def small_agent(use_lstm=True, use_last_action_and_reward=True):
  agent = agents.make_agent(
    5,
    'shallow',
    use_lstm,
    use_last_action_and_reward=use_last_action_and_reward,
    use_instruction=False,
  )
  agent.build(SMALL_OBSERVATION)
  return agent


def small_inputs(rows, columns):
  random = np.random.RandomState(0)
  step_outputs = structs.StepOutput(
    reward=random.randn(rows, columns).astype(np.float32) * 3,
    done=random.rand(rows, columns) < 0.3,
    truncated=np.zeros([rows, columns], bool),
    info=structs.EpisodeInfo(*np.zeros([3, rows, columns], np.float32)),
    observation=structs.Observation(
      random.randint(256, size=[rows, columns, 40, 44, 3]).astype(np.uint8)
    ),
  )
  last_actions = random.randint(5, size=[rows, columns]).astype(np.int32)
  return tree.map_structure(tf.constant, (last_actions, step_outputs))


@pytest.mark.parametrize(
  ('arguments', 'observation', 'parameters'),
  [
    # Those of DMLab are counted where the suite makes them, in tests/dmlab30/suite_test.py.
    ((18, 'deep', False, False, False), ATARI_OBSERVATION, 1_094_115),
    ((6, 'deep', False, False, False), ATARI_OBSERVATION, 1_091_031),
  ],
)
def test_number_of_parameters(arguments, observation, parameters):
  agent = agents.make_agent(*arguments)
  agent.build(observation)
  assert sum(v.shape.num_elements() for v in agent.trainable_variables) == parameters


def test_unroll_equals_the_authors():
  arrays = golden.load('agent_T20')
  agent = golden.agent()
  agent.core = spy = Spy(agent.core)
  state = networks.LSTMState(arrays['in_state_c'], arrays['in_state_h'])
  output, final_state = agent.unroll(
    arrays['in_last_actions'], golden.step_outputs(arrays, 'in_'), state
  )
  results = {
    'torso': spy.inputs,
    'language': spy.inputs[..., -64:],
    'policy_logits': output.policy_logits,
    'baseline': output.baseline,
    'final_c': final_state.cell,
    'final_h': final_state.hidden,
  }
  for name, result in results.items():
    expected = arrays[f'synthetic_{name}']
    np.testing.assert_allclose(
      result, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max(), err_msg=name
    )


@pytest.mark.parametrize(
  'acting',
  [lambda agent: agent, agents.Greedy, lambda agent: play.SeededAgent(agent, [1])],
  ids=['itself', 'greedy', 'seeded'],
)
def test_steps_equal_the_unroll(acting):
  agent = small_agent()
  acting = acting(agent)
  last_actions, step_outputs = small_inputs(6, 4)
  assert step_outputs.done.numpy()[1:].any()
  start = networks.LSTMState(*tf.random.stateless_normal([2, 4, 256], [1, 2]))
  unrolled, final_state = agent.unroll(last_actions, step_outputs, start)
  state = start
  for t in range(6):
    step_output = tree.map_structure(lambda x, t=t: x[t], step_outputs)
    output, state = acting.step(last_actions[t], step_output, state)
    np.testing.assert_allclose(
      output.policy_logits, unrolled.policy_logits[t], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(output.baseline, unrolled.baseline[t], rtol=1e-4, atol=1e-6)
    assert output.action.dtype == tf.int32
    assert output.action.shape == [4]
    if isinstance(acting, agents.Greedy):
      np.testing.assert_array_equal(output.action, np.argmax(output.policy_logits, axis=1))
  tree.map_structure(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), state, final_state
  )


def test_nothing_before_a_reset_matters():
  agent = small_agent()
  last_actions, step_outputs = small_inputs(4, 1)
  step_outputs = step_outputs._replace(done=tf.constant([[False], [False], [True], [False]]))
  states = (agent.initial_state(1), networks.LSTMState(tf.ones([1, 256]), tf.ones([1, 256])))
  first, second = (
    agent.unroll(last_actions, step_outputs, state)[0].policy_logits.numpy() for state in states
  )
  assert np.abs(first[:2] - second[:2]).min(axis=-1).all()
  np.testing.assert_array_equal(first[2:], second[2:])


def test_last_reward_is_clipped_and_last_action_one_hot():
  agent = small_agent()
  agent.core = spy = Spy(agent.core)
  last_actions, step_outputs = small_inputs(2, 2)
  step_outputs = step_outputs._replace(reward=tf.constant([[-7.0, -0.25], [0.5, 2.0]]))
  agent.unroll(last_actions, step_outputs, networks.LSTMState(*tf.zeros([2, 2, 256])))
  np.testing.assert_array_equal(spy.inputs[..., 256], [[-1.0, -0.25], [0.5, 1.0]])
  np.testing.assert_array_equal(spy.inputs[..., 257:], np.eye(5)[last_actions.numpy()])


def test_feed_forward_agent_sees_only_frames():
  agent = small_agent(use_lstm=False, use_last_action_and_reward=False)
  last_actions, step_outputs = small_inputs(3, 2)
  assert agent.initial_state(2) == ()
  output, state = agent.unroll(last_actions, step_outputs, ())
  assert state == ()
  others = step_outputs._replace(reward=step_outputs.reward + 0.5, done=~step_outputs.done)
  tree.map_structure(
    np.testing.assert_array_equal, output, agent.unroll((last_actions + 1) % 5, others, ())[0]
  )
  frames = tf.roll(step_outputs.observation.frame, 1, axis=0)
  shifted, _ = agent.unroll(
    last_actions, step_outputs._replace(observation=structs.Observation(frames)), ()
  )
  np.testing.assert_allclose(
    shifted.policy_logits, tf.roll(output.policy_logits, 1, axis=0), rtol=1e-4, atol=1e-6
  )


def test_actions_are_sampled_from_the_policy():
  agent = small_agent(use_lstm=False)
  agent.policy_logits.w.assign(tf.zeros_like(agent.policy_logits.w))
  probabilities = [0.1, 0.2, 0.0, 0.3, 0.4]
  agent.policy_logits.b.assign(np.log(np.maximum(probabilities, 1e-9)))
  last_actions, step_outputs = tree.map_structure(
    lambda x: tf.repeat(x[0], 4000, axis=0), small_inputs(1, 1)
  )
  tf.random.set_seed(0)
  output, _ = agent.step(last_actions, step_outputs, ())
  frequencies = np.bincount(output.action, minlength=5) / 4000
  np.testing.assert_allclose(frequencies, probabilities, atol=0.03)
  assert frequencies[2] == 0


def test_instructions_that_are_missing_are_missed():
  agent = agents.make_agent(
    5, 'shallow', use_lstm=True, use_last_action_and_reward=True, use_instruction=True
  )
  with pytest.raises(ValueError, match='instruction'):
    agent.build(SMALL_OBSERVATION)


def test_unknown_networks_are_refused_with_the_choices():
  with pytest.raises(ValueError, match=r"'wide'.*shallow, nature, deep"):
    agents.make_agent(
      5, 'wide', use_lstm=False, use_last_action_and_reward=False, use_instruction=False
    )
