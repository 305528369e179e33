"""Unrolls against those of the authors' code, and against environments that show what happened."""

import types

import numpy as np
import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.acting import actors, inference, weights
from impala_tf.agent import agents, networks
from tests.support import golden, scripted
from tests.support.linear_agent import LinearAgent

GOLDEN = golden.load('actor')


class Scripted(scripted.Counting):
  """The environment of the golden unrolls: reward n, and an instruction."""

  def __init__(self):
    super().__init__(shape=(72, 96, 3))
    self.observation_spec = self.observation_spec._replace(
      instruction=structs.ArraySpec((), np.bytes_)
    )

  def step(self, action):
    transition = super().step(action)
    return transition._replace(reward=float(self._n))

  def _observe(self):
    return super()._observe()._replace(instruction=f'word{self._n % 3} go'.encode())


def make_unroller(*batches, unroll_length=5, agent=None, published=None, levels=None):
  agent = agent or LinearAgent()
  agent.build(batches[0][0].observation_spec)
  policy = inference.LocalInference(agent, published or weights.PublishedWeights(agent))
  levels = levels or [[i] * len(batch) for i, batch in enumerate(batches)]
  return actors.Unroller(policy, scripted.InProcess(*batches), levels, unroll_length)


def test_three_unrolls_agree_with_the_authors_code():
  agent = golden.agent()
  actions = np.zeros(20, np.int32)
  for k in range(3):
    actions[5 * k : 5 * k + 6] = GOLDEN[f'unroll{k}_action']
  tape = tf.constant(actions)
  step = agent.step

  def step_as_recorded(last_actions, step_outputs, state):
    output, state = step(last_actions, step_outputs, state)
    n = tf.cast(step_outputs.observation.frame[:, 0, 0, 0], tf.int32)
    return output._replace(action=tf.gather(tape, n + 1)), state

  agent.step = step_as_recorded
  unroller = make_unroller([Scripted()], agent=agent)

  carry = unroller.initial(0)
  for k in range(3):
    carry, unrolls = unroller.unroll(0, carry)
    expected = lambda name, k=k: GOLDEN[f'unroll{k}_{name}']
    one = tree.map_structure(lambda t: t.numpy()[0], unrolls)
    steps, info = one.step_outputs, one.step_outputs.info
    np.testing.assert_array_equal(steps.reward, expected('reward'))
    np.testing.assert_array_equal(steps.done, expected('done'))
    np.testing.assert_array_equal(info.episode_return, expected('episode_return'))
    np.testing.assert_array_equal(info.episode_steps, expected('episode_step'))
    np.testing.assert_array_equal(steps.observation.frame[:, 0, 0, 0], expected('frame_fill'))
    np.testing.assert_array_equal(
      steps.observation.instruction.astype('S8'), expected('instruction')
    )
    np.testing.assert_array_equal(one.agent_outputs.action, expected('action'))
    for ours, name in (
      (one.agent_outputs.policy_logits, 'policy_logits'),
      (one.agent_outputs.baseline, 'baseline'),
      (one.agent_state.cell, 'state_c'),
      (one.agent_state.hidden, 'state_h'),
    ):
      scale = np.abs(expected(name)).max()
      np.testing.assert_allclose(
        ours, expected(name), rtol=0, atol=1e-5 * scale, err_msg=f'{name} of unroll {k}'
      )


def test_an_unroll_begins_with_the_newest_weights_of_a_copy_that_actors_share():
  agent = LinearAgent()
  agent.build(scripted.Counting().observation_spec)
  published = weights.PublishedWeights(agent)
  copy = weights.SharedCopy(agent, published)
  copy.refresh()
  unroller = make_unroller([scripted.Counting()], agent=agent, published=copy)
  carry = unroller.initial(0)
  for version in (3, 4):
    published.publish(tf.constant(version))
    carry, unrolls = unroller.unroll(0, carry)
    assert unrolls.policy_version.numpy().tolist() == [version]


def test_each_row_holds_the_action_and_what_it_led_to():
  unroller = make_unroller([scripted.Counting(first=0), scripted.Counting(length=3, first=100)])
  carry, first = unroller.unroll(0, unroller.initial(0))
  _, second = unroller.unroll(0, carry)
  for start, unrolls in ((0, first), (5, second)):
    for column, offset in ((0, 0), (1, 100)):
      n = offset + start + np.arange(6)
      reward = unrolls.step_outputs.reward.numpy()[column]
      action = unrolls.agent_outputs.action.numpy()[column]
      expected = 100 * n + action
      if start == 0:
        expected[0] = 0
      np.testing.assert_array_equal(reward, expected)
      np.testing.assert_array_equal(
        unrolls.step_outputs.observation.frame.numpy()[column, :, 0, 0, 0], n
      )
  # Row 0 repeats the last row of the unroll before, in everything.
  tree.map_structure(
    lambda a, b: np.testing.assert_array_equal(a.numpy()[:, -1], b.numpy()[:, 0]),
    (first.step_outputs, first.agent_outputs),
    (second.step_outputs, second.agent_outputs),
  )


def test_first_row_of_all_says_done_and_nothing_else():
  unroller = make_unroller([scripted.Counting()])
  _, unrolls = unroller.unroll(0, unroller.initial(0))
  row = tree.map_structure(lambda t: t.numpy()[0, 0], (unrolls.step_outputs, unrolls.agent_outputs))
  assert row[0].done
  assert not row[0].info.finished
  assert (
    row[0].reward == row[0].info.episode_return == row[0].info.episode_steps == row[1].action == 0
  )


def test_agent_state_is_the_one_before_row_zero():
  environment = scripted.Counting(length=50)
  unroller = make_unroller([environment], agent=LinearAgent())
  carry, first = unroller.unroll(0, unroller.initial(0))
  _, second = unroller.unroll(0, carry)
  assert first.agent_state.numpy() == [0.0]
  # Rows 0..4 of the first unroll were consumed; its row 5, which is row 0 of the second, not yet.
  assert second.agent_state.numpy() == [first.step_outputs.reward.numpy()[0, :5].sum()]


def test_weights_are_pulled_once_an_unroll():
  version = tf.Variable(7)

  def pull():
    return [v + 0.0 for v in agent.trainable_variables], version.assign_add(1)

  agent = LinearAgent()
  agent.build(scripted.Counting().observation_spec)
  unroller = make_unroller(
    [scripted.Counting()],
    agent=agent,
    published=types.SimpleNamespace(pull=pull, refresh=lambda: None),
  )
  carry, first = unroller.unroll(0, unroller.initial(0))
  _, second = unroller.unroll(0, carry)
  assert first.policy_version.numpy().tolist() == [8]
  assert second.policy_version.numpy().tolist() == [9]


def test_policy_stays_the_same_while_the_learner_publishes():
  agent = LinearAgent()
  environment = scripted.Counting(length=1000)
  agent.build(environment.observation_spec)
  published = weights.PublishedWeights(agent)
  step = environment.step

  def step_and_publish(action):
    agent.baseline.b.assign_add([1000.0])
    published.publish(tf.constant(environment._n, tf.int32))
    return step(action)

  environment.step = step_and_publish
  unroller = make_unroller([environment], agent=agent, published=published)
  carry, _ = unroller.unroll(0, unroller.initial(0))
  _, unrolls = unroller.unroll(0, carry)
  baselines = unrolls.agent_outputs.baseline.numpy()[0]
  assert np.abs(np.diff(baselines[1:])).max() < 500
  assert baselines[1] - baselines[0] > 4000
  assert unrolls.policy_version.numpy().tolist() == [4]


def test_actors_share_one_trace_and_keep_their_levels():
  unroller = make_unroller(
    [scripted.Counting(first=0)], [scripted.Counting(first=50)], levels=[[3], [1]]
  )
  for index, first, level in ((0, 0, 3), (1, 50, 1)):
    _, unrolls = unroller.unroll(index, unroller.initial(index))
    assert unrolls.level.numpy().tolist() == [level]
    assert unrolls.step_outputs.observation.frame.numpy()[0, 0, 0, 0, 0] == first
  assert unroller._traced.experimental_get_tracing_count() == 1


def test_networks_of_images_have_threads_of_tensorflow_and_others_none():
  for shape, has_threads in (((2, 2, 1), True), ((4,), False)):
    unroller = make_unroller([scripted.Counting(shape=shape)])
    assert (unroller._unroll is unroller._traced) is has_threads


def test_shapes_are_static():
  unroller = make_unroller([scripted.Counting(), scripted.Counting(), scripted.Counting()])
  _, unrolls = unroller._traced.get_concrete_function().structured_outputs
  assert unrolls.step_outputs.observation.frame.shape == [3, 6, 2, 2, 1]
  assert unrolls.agent_outputs.policy_logits.shape == [3, 6, 9]
  assert unrolls.policy_version.shape == [3]


def test_actions_are_samples_of_the_policy():
  agent = LinearAgent()
  environment = scripted.Counting()
  agent.build(environment.observation_spec)
  agent.policy_logits.w.assign(tf.zeros_like(agent.policy_logits.w))
  agent.policy_logits.b.assign(tf.math.log([0.7, 0.3] + 7 * [1e-9]))
  unroller = make_unroller([environment], agent=agent, unroll_length=1000)
  _, unrolls = unroller.unroll(0, unroller.initial(0))
  counts = np.bincount(unrolls.agent_outputs.action.numpy()[0, 1:], minlength=9)
  assert counts[2:].sum() == 0
  assert abs(counts[0] - 700) < 5 * np.sqrt(1000 * 0.7 * 0.3)


def test_a_memory_made_of_an_lstm_resets_where_done():
  agent = agents.Agent(
    9, torso=lambda frames: tf.ones([tf.shape(frames)[0], 4]), core=networks.LSTM(8)
  )
  unroller = make_unroller([scripted.Counting(length=4)], agent=agent, unroll_length=8)
  _, unrolls = unroller.unroll(0, unroller.initial(0))
  baselines = unrolls.agent_outputs.baseline.numpy()[0]
  # The torso sees no difference between observations, so that only memory can make one: rows 1-4
  # act in the first episode, rows 5-8 in the second.
  np.testing.assert_allclose(baselines[1:5], baselines[5:9], rtol=1e-6)
  assert len(np.unique(baselines[1:5])) == 4


def test_what_is_rearranged_stays_on_the_host_and_the_network_is_free_to_go_elsewhere():
  graph = make_unroller([scripted.Counting()])._traced.get_concrete_function().graph
  bodies = [
    graph,
    *(function.graph for function in graph._functions.values() if getattr(function, 'graph', None)),
  ]
  operations = [operation for body in bodies for operation in body.get_operations()]
  is_network = lambda operation: 'agent/' in operation.name
  devices = lambda kind: {
    o.device.rpartition('/')[2] for o in operations if o.type == kind and not is_network(o)
  }
  assert (
    devices('Transpose')
    == devices('TensorListSetItem')
    == devices('TensorListStack')
    == {'device:CPU:0'}
  )
  assert {operation.device for operation in operations if is_network(operation)} == {''}
