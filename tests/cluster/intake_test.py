"""The learner of a cluster takes in what it can learn from, and says what it left out."""

import dataclasses
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tree

from impala_tf.acting import specs
from impala_tf.agent import agents
from impala_tf.cluster import intake
from impala_tf.learning import learner as learner_lib
from impala_tf.training import loop
from impala_tf.transport import unroll_queue
from tests.support import catch

T = 3
ACTIONS, LEVELS = catch.Catch.num_actions, 2


def make_spec(unroll_length):
  config = dataclasses.replace(
    catch.CONFIG, level_name='catch_with_memory', unroll_length=unroll_length
  )
  suite = catch.CatchSuite()
  return specs.Specs(suite, config, agents.for_suite(suite, config)).unroll


@pytest.fixture(scope='module')
def spec():
  return make_spec(T)


def make_unrolls(spec, versions):
  """Sound unrolls with these policy versions, whose leaves are all numbers of their own."""
  n = len(versions)
  unrolls = tree.map_structure(
    lambda leaf: np.broadcast_to(
      np.reshape(versions, [n, *[1] * len(leaf.shape)]) % 2, [n, *leaf.shape]
    ).astype(leaf.dtype.as_numpy_dtype),
    spec,
  )
  return unrolls._replace(policy_version=np.array(versions, np.int32))


def make(spec, sender=7):
  queue = unroll_queue.UnrollQueue(spec, 100, serialized=True, sender=sender)
  actors = mock.Mock()
  return queue, actors, intake.Intake(queue, ACTIONS, LEVELS, actors)


@pytest.mark.parametrize(
  ('leaf', 'value', 'reason'),
  [
    (lambda unrolls: unrolls.level, 999, 'level'),
    (lambda unrolls: unrolls.level, LEVELS, 'level'),
    (lambda unrolls: unrolls.level, -1, 'level'),
    (lambda unrolls: unrolls.agent_outputs.action, ACTIONS, 'action'),
    (lambda unrolls: unrolls.agent_outputs.action, -1, 'action'),
    (lambda unrolls: unrolls.agent_outputs.policy_logits, np.nan, 'finite'),
    (lambda unrolls: unrolls.step_outputs.reward, np.inf, 'finite'),
    (lambda unrolls: unrolls.step_outputs.info.episode_return, -np.inf, 'finite'),
    (lambda unrolls: unrolls.agent_state[0], np.nan, 'finite'),
    (lambda unrolls: unrolls.agent_state[1], -1e31, 'too large'),
    (lambda unrolls: unrolls.step_outputs.reward, 1e10, 'too large'),
  ],
)
def test_what_would_end_the_learner_is_left_out_and_its_sender_named(spec, leaf, value, reason):
  queue, actors, taken = make(spec)
  unrolls = make_unrolls(spec, [0, 1, 2])
  array = leaf(unrolls)
  array.reshape(len(array), -1)[1, -1] = value
  other = unroll_queue.UnrollQueue(
    spec, 100, serialized=True, shared_name=queue._shared_name, sender=8
  )
  for sender, sent in ((other, make_unrolls(spec, [4])), (queue, unrolls)):
    sender.enqueue_many(tree.map_structure(tf.constant, sent))
  batch = taken.batch(3)
  assert batch.policy_version.numpy().tolist() == [4, 0, 2]
  ((sender, said),) = (call.args for call in actors.left_out.call_args_list)
  assert sender == 7
  assert reason in said
  actors.count.assert_called_once_with([0, 0, 0])


def test_what_is_let_in_has_a_finite_loss_however_large_it_is():
  config = dataclasses.replace(
    catch.CONFIG, level_name='catch_with_memory', unroll_length=T, reward_clipping='none'
  )
  learner = loop.make_learner(catch.CatchSuite(), config)
  spec = make_spec(T)
  sound = make_unrolls(spec, range(config.batch_size))

  def update(path, value):
    leaves = [
      np.full_like(leaf, value) if leaf_path == path else leaf
      for leaf_path, leaf in tree.flatten_with_path(sound)
    ]
    unrolls = tree.map_structure(tf.constant, tree.unflatten_as(spec, leaves))
    is_left_out = any(
      is_faulty.numpy().all() for is_faulty in intake.find_faults(unrolls, ACTIONS, LEVELS).values()
    )
    try:
      learner.update(unroll_queue.as_batch(unrolls))
    except learner_lib.NonFiniteLossError:
      return is_left_out, False
    return is_left_out, True

  paths = [path for path, leaf in tree.flatten_with_path(spec) if leaf.dtype.is_floating]
  reward = ('step_outputs', 'reward')
  assert reward in paths
  for path in paths:
    for sign in (-1, 1):
      assert update(path, sign * (1e9 if path == reward else 1e30)) == (False, True)
  # This one would end the training.
  assert update(reward, 1e30) == (True, False)


def test_what_is_left_is_as_it_was_sent(spec):
  queue, _, taken = make(spec)
  sound = make_unrolls(spec, [0, 2, 5, 6])
  for i in range(4):
    unroll = tree.map_structure(lambda leaf, i=i: tf.constant(leaf[i : i + 1]), sound)
    queue.enqueue_many(unroll)
    queue.enqueue_many(unroll._replace(level=tf.constant([-3])))
  batch = taken.batch(4)
  expected = unroll_queue.as_batch(tree.map_structure(tf.constant, sound))
  tree.map_structure(np.testing.assert_array_equal, batch, expected)


def test_it_ends_with_its_queue(spec):
  queue, _, taken = make(spec)
  bad = make_unrolls(spec, [0, 1])._replace(level=np.array([0, 5], np.int32))
  queue.enqueue_many(tree.map_structure(tf.constant, bad))
  queue.close()
  with pytest.raises(tf.errors.OutOfRangeError):
    taken.batch(2)


def test_unrolls_of_another_shape_do_not_get_into_the_queue(spec):
  queue, _, taken = make(spec)
  longer = make_spec(T + 1)
  other = unroll_queue.UnrollQueue(
    longer, 100, serialized=True, shared_name=queue._shared_name, sender=8
  )
  queue.enqueue_many(tree.map_structure(tf.constant, make_unrolls(spec, [4])))
  with pytest.raises(tf.errors.InvalidArgumentError):
    other.enqueue_many(tree.map_structure(tf.constant, make_unrolls(longer, [5])))
  assert taken.batch(1).policy_version.numpy().tolist() == [4]
