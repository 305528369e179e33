"""Inference of each actor's own, and shared by all: the same policy, whoever computes it."""

import concurrent.futures
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.acting import actors, group, inference, specs, weights
from impala_tf.agent import agents
from impala_tf.environments import operations
from impala_tf.training import loop
from impala_tf.transport import unroll_queue
from tests.support import catch, scripted, updates

CONFIG = dataclasses.replace(catch.CONFIG, level_name='catch_with_memory')


def make(shared, agent):
  published = weights.PublishedWeights(agent)
  if not shared:
    return published, inference.LocalInference(agent, published)
  state = tree.map_structure(lambda t: tf.TensorSpec(t.shape[1:], t.dtype), agent.initial_state(1))
  seen = operations.seen(structs.step_output_spec(catch.Catch.observation_spec))
  return published, inference.BatchedInference(
    agent, published, [tf.TensorSpec([], tf.int32), specs.tensor_specs(seen), state]
  )


def test_shared_inference_acts_as_an_actor_alone_would():
  agent = agents.for_suite(catch.CatchSuite(), CONFIG)
  unrolls = []
  for shared in (False, True):
    tf.random.set_seed(1)
    _, policy = make(shared, agent)
    unroller = actors.Unroller(
      policy, scripted.InProcess([catch.Catch(1), catch.Catch(2)]), [[0, 0]], 10
    )
    unrolls.append(unroller.unroll(0, unroller.initial(0))[1])
  own, together = unrolls
  # Other draws of actions may follow from other random numbers; what the policy says of the first
  # observation may not.
  for of_own, of_together in zip(own.agent_outputs, together.agent_outputs, strict=True):
    assert of_own.shape == of_together.shape
  np.testing.assert_allclose(
    together.agent_outputs.policy_logits[:, 1], own.agent_outputs.policy_logits[:, 1], atol=1e-6
  )
  # And along the rest, the agent agrees with what was recorded.
  swap = unroll_queue.time_major
  replayed, _ = agent.unroll(
    swap(together.agent_outputs.action), swap(together.step_outputs), together.agent_state
  )
  np.testing.assert_allclose(
    swap(replayed.policy_logits)[:, :-1], together.agent_outputs.policy_logits[:, 1:], atol=1e-5
  )


def test_shared_inference_takes_the_newest_weights_and_unrolls_say_which_they_began_with():
  agent = agents.for_suite(catch.CatchSuite(), CONFIG)
  published, policy = make(True, agent)
  unroller = actors.Unroller(policy, scripted.InProcess([catch.Catch(1)]), [[0]], 5)
  carry, first = unroller.unroll(0, unroller.initial(0))
  agent.baseline.b.assign_add([1000.0])
  _, unpublished = unroller.unroll(0, carry)
  published.publish(tf.constant(7))
  _, second = unroller.unroll(0, carry)
  assert first.policy_version.numpy().tolist() == [0]
  assert second.policy_version.numpy().tolist() == [7]
  assert np.abs(first.agent_outputs.baseline[:, 1:]).max() < 500
  assert np.abs(unpublished.agent_outputs.baseline[:, 1:]).max() < 500
  assert np.min(second.agent_outputs.baseline[:, 1:]) > 500


def test_each_step_of_shared_inference_keeps_the_logits_it_acted_by():
  agent = agents.for_suite(catch.CatchSuite(), CONFIG)
  agent.policy_logits.w.assign(tf.zeros_like(agent.policy_logits.w))
  agent.policy_logits.b.assign([0.0, 1.0, 2.0])
  published, policy = make(True, agent)
  environment = catch.Catch(1)
  step, biases = environment.step, []

  def step_and_publish(action):
    biases.append(agent.policy_logits.b.numpy())
    agent.policy_logits.b.assign_add([0.5, 0.0, -0.5])
    published.publish(tf.constant(len(biases)))
    return step(action)

  environment.step = step_and_publish
  unroller = actors.Unroller(policy, scripted.InProcess([environment]), [[0]], 5)
  carry, first = unroller.unroll(0, unroller.initial(0))
  _, second = unroller.unroll(0, carry)
  np.testing.assert_array_equal(first.agent_outputs.policy_logits[0, 1:], biases[:5])
  np.testing.assert_array_equal(second.agent_outputs.policy_logits[0], biases[4:])


@pytest.mark.parametrize(
  ('chosen', 'gpus', 'shared'),
  [('auto', 0, False), ('auto', 1, True), ('own', 1, False), ('shared', 0, True)],
)
def test_which_one_follows_from_the_devices_unless_a_flag_says(monkeypatch, chosen, gpus, shared):
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: ['gpu'] * gpus)
  assert inference.is_shared(dataclasses.replace(CONFIG, inference=chosen)) == shared


class Doubling(tf.Module):
  """An agent that answers each row with its double, and with the size of the batch that it was in;
  a batch with a 99 fails.
  """

  def __init__(self):
    super().__init__()
    self.scale = tf.Variable(2.0)

  def step(self, rows, texts, state):
    """As `agents.Agent.step`, of int32 [n], string [n] and nothing."""
    fine = tf.debugging.assert_less(rows, 99, message='too much')
    with tf.control_dependencies([fine]):
      doubles = tf.cast(self.scale, tf.int32) * rows
    return (
      doubles,
      tf.strings.join([texts, '!']),
      tf.fill(tf.shape(rows), tf.shape(rows)[0]),
    ), state


class Callers:
  """Threads that each call a `Doubling` through shared inference, with rows of their own."""

  def __init__(self, **options):
    agent = Doubling()
    specs = [tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.string), ()]
    published = weights.PublishedWeights(agent)
    policy = inference.BatchedInference(agent, published, specs, **options)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False)
    def call(rows):
      return policy.step((), rows, tf.strings.as_string(rows), ())[0]

    call.get_concrete_function()
    self._call = call
    self._pool = concurrent.futures.ThreadPoolExecutor(64)

  def call(self, *rows):
    """A future of [doubles, texts, sizes of batches], lists."""
    run = lambda: [output.numpy().tolist() for output in self._call(tf.constant(rows))]
    return self._pool.submit(run)


def test_callers_get_the_answers_to_their_own_rows():
  callers = Callers()
  futures = {rows: callers.call(*rows) for i in range(200) for rows in [tuple(range(i % 4 - i, 1))]}
  for rows, future in futures.items():
    doubles, texts, sizes = future.result(120)
    assert doubles == [2 * row for row in rows]
    assert texts == [b'%d!' % row for row in rows]
    assert len(set(sizes)) == 1
    assert sizes[0] >= len(rows)


def test_a_batch_is_computed_when_it_is_full_or_the_timeout_is_over():
  callers = Callers(maximum_batch_size=4, timeout=60.0)
  futures = [callers.call(row, row + 10) for row in range(10)]
  for row, future in enumerate(futures):
    assert future.result(120)[::2] == [[2 * row, 2 * row + 20], [4, 4]]
  assert Callers(maximum_batch_size=4, timeout=0.2).call(1).result(120)[2] == [1]


def test_an_error_reaches_all_callers_of_the_batch_and_no_others():
  callers = Callers(maximum_batch_size=2, timeout=60.0)
  for future in [callers.call(1), callers.call(99)]:
    with pytest.raises(tf.errors.InvalidArgumentError, match='too much'):
      future.result(120)
  assert callers.call(1, 2).result(120)[0] == [2, 4]


def test_a_call_larger_than_any_batch_is_an_error():
  with pytest.raises(tf.errors.InvalidArgumentError, match='3'):
    Callers(maximum_batch_size=2).call(1, 2, 3).result(120)


def test_a_training_with_shared_inference_learns():
  config = dataclasses.replace(catch.CONFIG, inference='shared', num_actors=2, envs_per_actor=16)
  learner = loop.make_learner(catch.CatchSuite(), config)
  returns, learned = [], False
  with updates.source_of(catch.CatchSuite(), config, learner) as source:
    for episodes, _ in updates.updates(source, learner):
      returns += [episode.episode_return for episode in episodes]
      learned = len(returns) >= 500 and np.mean(returns[-500:]) > 0.7
      if learned:
        break
  assert np.mean(returns[:300]) < -0.2  # a random policy has -0.6
  assert learned


def test_a_policy_that_fails_ends_the_run_with_its_error(monkeypatch):
  config = dataclasses.replace(
    catch.CONFIG, inference='shared', envs_per_actor=1, total_environment_frames=10**9
  )
  learner = loop.make_learner(catch.CatchSuite(), config)
  step = learner.agent.step

  def failing_step(last_actions, step_outputs, state):
    in_time = tf.debugging.assert_equal(step_outputs.reward, 0.0, message='out of order')
    with tf.control_dependencies([in_time]):
      return step(tf.identity(last_actions), step_outputs, state)

  monkeypatch.setattr(learner.agent, 'step', failing_step)
  with (
    updates.source_of(catch.CatchSuite(), config, learner) as source,
    pytest.raises(group.ActorError, match='out of order'),
  ):
    for _ in updates.updates(source, learner):
      pass


def test_many_actors_do_not_block_each_other():
  config = dataclasses.replace(catch.CONFIG, num_actors=64, envs_per_actor=1, inference='shared')
  learner = loop.make_learner(catch.CatchSuite(), config)
  with updates.source_of(catch.CatchSuite(), config, learner) as source:
    assert len(list(updates.updates(source, learner, 12))) == 12


def test_unrolls_of_a_resumed_run_know_how_many_updates_are_behind_them():
  learner = loop.make_learner(catch.CatchSuite(), catch.CONFIG)
  learner.updates.assign(123)
  with updates.source_of(catch.CatchSuite(), catch.CONFIG, learner) as source:
    assert set(source.next_batch().unrolls.policy_version.numpy()) == {123}


@pytest.mark.parametrize(
  ('given', 'expected'),
  [
    # A batch of all environments is full.
    ({}, {'maximum_batch_size': 8, 'timeout': 0.0}),
    (
      {'num_actors': 3, 'inference_maximum_batch': 9, 'inference_timeout_ms': 20.0},
      {'maximum_batch_size': 8, 'timeout': 0.02},
    ),
    # Those of an actor stay together.
    (
      {'inference_maximum_batch': 2, 'envs_per_actor': 5},
      {'maximum_batch_size': 5, 'timeout': 0.0},
    ),
  ],
)
def test_shared_inference_is_as_the_flags_say(monkeypatch, given, expected):
  config = dataclasses.replace(CONFIG, inference='shared', **given)
  monkeypatch.setattr(
    inference, 'BatchedInference', lambda agent, published, specs, **options: options
  )
  assert updates.source_of(catch.CatchSuite(), config).actors.policy == expected


def test_the_queue_is_as_large_as_the_flag_says_and_tells_how_full_it_is():
  config = dataclasses.replace(catch.CONFIG, queue_capacity=3)
  source = updates.source_of(catch.CatchSuite(), config)
  assert source.queue_fill() == (0, 3)
  zeros = tree.map_structure(
    lambda spec: tf.zeros([2, *spec.shape], spec.dtype), source.batches.spec
  )
  source.queue.enqueue_many(zeros)
  assert source.queue_fill() == (2, 3)
