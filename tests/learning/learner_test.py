"""The learner's update: which rows belong together, what is counted, and what is not finite."""

import dataclasses

import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf
import tree

from impala_tf.agent import agents
from impala_tf.config import ConfigurationError
from impala_tf.learning import learner, losses
from tests.support.small_learner import CONFIG, Pixels, make_small, small_unroll, values_of


def test_rows_are_shifted_so_that_each_belongs_to_one_observation():
  # On-policy, with one action and no discount, the advantage of a row is its own reward minus its
  # value.
  rows, reward = 4, np.array([[100.0], [0.1], [0.2], [0.3]], np.float32)
  unroll = small_unroll(rows=rows, columns=1)
  logits = np.random.RandomState(1).randn(rows, 1, 4).astype(np.float32)
  # The behaviour that acted after observation t is in row t + 1.
  behaviour = np.concatenate([np.full([1, 1, 4], 50.0), logits[:-1]]).astype(np.float32)
  unroll = unroll._replace(
    step_outputs=unroll.step_outputs._replace(reward=reward, done=tf.zeros([rows, 1], tf.bool)),
    agent_outputs=unroll.agent_outputs._replace(policy_logits=behaviour),
  )
  values = np.array([[1.0], [2.0], [3.0], [4.0]], np.float32)
  outputs = agents.PolicyAndBaseline(tf.constant(logits), tf.constant(values))
  loss = losses.compute_loss(outputs, unroll, dataclasses.replace(CONFIG, discounting=0.0))
  np.testing.assert_allclose(loss.vtrace_returns.log_rhos, np.zeros([3, 1]), atol=1e-6)
  np.testing.assert_allclose(loss.vtrace_returns.vs, [[0.1], [0.2], [0.3]], rtol=1e-5)
  np.testing.assert_allclose(loss.vtrace_returns.pg_advantages, [[-0.9], [-1.8], [-2.7]], rtol=1e-5)
  taken = unroll.agent_outputs.action.numpy()[1:, 0]
  log_policy = logits[:-1, 0] - np.log(np.exp(logits[:-1, 0]).sum(-1, keepdims=True))
  expected = -np.sum(log_policy[np.arange(3), taken] * [-0.9, -1.8, -2.7])
  np.testing.assert_allclose(loss.pg, expected, rtol=1e-5)


def test_bootstrap_is_the_last_value_unless_the_episode_ended():
  unroll = small_unroll(rows=2, columns=2)
  behaviour = unroll.agent_outputs.policy_logits
  outputs = agents.PolicyAndBaseline(
    tf.roll(behaviour, -1, axis=0), tf.constant([[1.0, 1.0], [10.0, 10.0]])
  )
  step_outputs = unroll.step_outputs._replace(
    reward=tf.fill([2, 2], 0.5), done=tf.constant([[True, False], [False, True]])
  )
  loss = losses.compute_loss(outputs, unroll._replace(step_outputs=step_outputs), CONFIG)
  np.testing.assert_allclose(loss.discounts, [[0.99, 0.0]], rtol=1e-6)
  np.testing.assert_allclose(loss.vtrace_returns.vs, [[0.5 + 9.9, 0.5]], rtol=1e-5)


def test_loss_is_a_sum_over_the_batch():
  unroll = small_unroll(columns=1)
  outputs = agents.PolicyAndBaseline(
    unroll.agent_outputs.policy_logits * 0.5, unroll.agent_outputs.baseline
  )
  one = losses.compute_loss(outputs, unroll, CONFIG)
  twice = lambda nest: tree.map_structure(lambda t: tf.repeat(t, 2, axis=1), nest)
  repeated = unroll._replace(
    step_outputs=twice(unroll.step_outputs), agent_outputs=twice(unroll.agent_outputs)
  )
  two = losses.compute_loss(twice(outputs), repeated, CONFIG)
  for name in ('total', 'pg', 'baseline', 'entropy'):
    np.testing.assert_allclose(getattr(two, name), 2 * getattr(one, name), rtol=1e-5)


def test_update_is_one_step_of_clipped_gradients():
  subject = make_small(clip_global_norm=0.5)
  twin = make_small()
  unroll = small_unroll()
  variables = twin.agent.trainable_variables
  with tf.GradientTape() as tape:
    outputs, _ = twin.agent.unroll(
      unroll.agent_outputs.action, unroll.step_outputs, unroll.agent_state
    )
    total = losses.compute_loss(outputs, unroll, CONFIG).total
  gradients = tape.gradient(total, variables)
  norm = np.sqrt(sum(np.sum(g.numpy() ** 2) for g in gradients))
  assert norm > 1.0
  metrics = subject.update(unroll)
  np.testing.assert_allclose(metrics.gradient_norm, norm, rtol=1e-4)
  twin.optimizer.apply(
    [g * 0.5 / norm for g in gradients], variables, tf.constant(0.1), tf.constant(0.01)
  )
  for ours, expected in zip(subject.agent.trainable_variables, variables, strict=True):
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


def test_gradients_at_a_copy_are_applied_to_whatever_the_weights_are_by_then():
  subject, twin = make_small(clip_global_norm=0.5), make_small(clip_global_norm=0.5)
  unroll = small_unroll()
  copies = [tf.identity(v) for v in subject.agent.trainable_variables]
  for v in subject.agent.trainable_variables:
    v.assign_add(tf.ones_like(v))
  moved = values_of(subject.agent.trainable_variables)
  computed = tf.function(subject.loss_and_gradients)(unroll, copies)
  metrics = subject.update(computed._replace(policy_version=tf.constant([-3, -2])))
  before = values_of(twin.agent.trainable_variables)
  expected = twin.update(unroll)
  np.testing.assert_allclose(metrics.total_loss, expected.total_loss, rtol=1e-5)
  np.testing.assert_allclose(metrics.gradient_norm, expected.gradient_norm, rtol=1e-5)
  assert (metrics.lag_min, metrics.lag_max) == (2, 3)
  assert (metrics.updates, metrics.frames) == (expected.updates, expected.frames)
  steps = [v - m for v, m in zip(values_of(subject.agent.trainable_variables), moved, strict=True)]
  expected_steps = [
    v - b for v, b in zip(values_of(twin.agent.trainable_variables), before, strict=True)
  ]
  assert max(np.abs(step).max() for step in expected_steps) > 1e-3
  for step, expected_step in zip(steps, expected_steps, strict=True):
    np.testing.assert_allclose(step, expected_step, rtol=1e-3, atol=1e-6)


def test_an_applied_gradient_or_its_loss_that_is_not_finite_changes_nothing():
  subject = make_small()
  unroll = small_unroll()
  copies = [tf.identity(v) for v in subject.agent.trainable_variables]
  computed = subject.loss_and_gradients(unroll, copies)
  loss, (first, *others) = computed.loss, computed.gradients
  before = values_of(subject.variables)
  with pytest.raises(learner.NonFiniteLossError, match='Update 1 '):
    subject.update(computed._replace(gradients=[first * np.nan, *others]))
  infinite = loss._replace(total=tf.constant(np.inf, tf.float32))
  with pytest.raises(learner.NonFiniteLossError, match='Update 1 '):
    subject.update(computed._replace(loss=infinite))
  tree.map_structure(np.testing.assert_array_equal, before, values_of(subject.variables))


def test_frames_of_replayed_unrolls_are_not_counted_again():
  unroll = small_unroll(columns=3)
  replaying = make_small(batch_size=3, replay_fraction=0.6)  # one new unroll and two old ones
  assert replaying.update(unroll).frames == 5 * 1 * 4
  assert make_small(batch_size=3).update(unroll).frames == 5 * 3 * 4


def test_lags_are_those_of_the_actors_and_replayed_unrolls_have_their_own():
  subject = make_small(batch_size=4, replay_fraction=0.5)
  metrics = subject.update(
    small_unroll(columns=4)._replace(policy_version=tf.constant([-3, -2, -8, -10]))
  )
  assert (metrics.lag_min, metrics.lag_mean, metrics.lag_max, metrics.replayed_lag_mean) == (
    2,
    2.5,
    3,
    9.0,
  )


def test_counters_lags_and_decay():
  subject = make_small(total_environment_frames=120)
  unroll = small_unroll()._replace(policy_version=tf.constant([-3, -2]))
  frames = 5 * 2 * 4  # T * B * action repeats: row 0 was counted by the unroll before.
  for k, learning_rate in enumerate([0.1, 0.1 * 2 / 3, 0.1 / 3, 0.0, 0.0]):
    metrics = subject.update(unroll)
    np.testing.assert_allclose(metrics.learning_rate, learning_rate, rtol=1e-5, atol=1e-9)
    assert (metrics.updates, metrics.frames) == (k + 1, (k + 1) * frames)
    assert (metrics.lag_min, metrics.lag_mean, metrics.lag_max, metrics.replayed_lag_mean) == (
      k + 2,
      k + 2.5,
      k + 3,
      None,
    )
  before = values_of(subject.agent.trainable_variables)
  subject.update(unroll)
  tree.map_structure(
    np.testing.assert_array_equal, before, values_of(subject.agent.trainable_variables)
  )


def test_updates_lower_the_loss():
  subject = make_small(learning_rate=0.01)
  unroll = small_unroll()
  losses = [subject.update(unroll).baseline_loss.numpy() for _ in range(60)]
  assert losses[-1] < 0.7 * losses[0]


class Kinked(snt.Module):
  """A torso whose features are finite while the gradient of its weight is NaN: a root at zero."""

  def __init__(self):
    super().__init__()
    self.w = tf.Variable([0.0, 0.0, 0.0])

  def __call__(self, frames):
    return Pixels()(frames) + tf.sqrt(tf.square(self.w))


@pytest.mark.parametrize('culprit', ['reward', 'loss', 'gradient'])
def test_an_update_that_is_not_finite_changes_nothing(culprit, monkeypatch):
  subject = make_small(torso=Kinked(), clip_global_norm=40.0)
  subject.agent.torso.w.assign([1.0, 2.0, 3.0])
  subject.updates.assign(1)
  unroll = small_unroll()
  if culprit == 'reward':
    unroll = unroll._replace(
      step_outputs=unroll.step_outputs._replace(reward=tf.fill([6, 2], np.nan))
    )
  elif culprit == 'loss':
    compute_loss = losses.compute_loss
    infinite = lambda loss: loss._replace(total=loss.total + np.inf)
    monkeypatch.setattr(
      losses, 'compute_loss', lambda *args, **kwargs: infinite(compute_loss(*args, **kwargs))
    )
  else:
    subject.agent.torso.w.assign([1.0, 2.0, 0.0])
  before = values_of(subject.variables)
  with pytest.raises(learner.NonFiniteLossError, match='Update 2 '):
    subject.update(unroll)
  tree.map_structure(np.testing.assert_array_equal, before, values_of(subject.variables))


def test_other_errors_keep_their_name():
  subject = make_small()
  unroll = small_unroll()
  actions = tf.fill(unroll.agent_outputs.action.shape, 9)
  with pytest.raises(tf.errors.InvalidArgumentError, match='label'):
    subject.update(unroll._replace(agent_outputs=unroll.agent_outputs._replace(action=actions)))


def test_update_is_traced_once():
  traces = []

  class Counting(Pixels):
    def __call__(self, frames):
      traces.append(frames)
      return super().__call__(frames)

  subject = make_small(torso=Counting())
  traces.clear()
  for seed in range(3):
    subject.tunable.learning_rate.assign(0.1 / (seed + 1))
    subject.update(small_unroll(seed)._replace(policy_version=tf.constant([seed, 0])))
  assert len(traces) == 1


def test_a_resumed_learner_goes_on_as_if_nothing_had_happened(tmp_path):
  subject, resumed = make_small(), make_small()
  subject.update(small_unroll(0))
  path = tf.train.Checkpoint(learner=subject).write(str(tmp_path / 'checkpoint'))
  tf.train.Checkpoint(learner=resumed).read(path).assert_consumed()
  tree.map_structure(
    np.testing.assert_array_equal, subject.update(small_unroll(1)), resumed.update(small_unroll(1))
  )
  tree.map_structure(
    np.testing.assert_array_equal, values_of(subject.variables), values_of(resumed.variables)
  )


def test_functions_that_can_not_be_found_are_refused_at_once():
  # Past the configuration, as if the package had been removed since.
  config = dataclasses.replace(CONFIG)
  object.__setattr__(config, 'reward_clipping', 'no_such_package:clip')
  with pytest.raises(ConfigurationError, match='reward_clipping'):
    learner.Learner(None, None, config)


def test_a_variable_behind_a_stopped_gradient_stays_and_the_others_learn():
  class Frozen(snt.Module):
    """A torso that was trained elsewhere."""

    def __init__(self):
      super().__init__()
      self.linear = snt.Linear(4)

    def __call__(self, frames):
      return tf.stop_gradient(self.linear(Pixels()(frames)))

  small = make_small(torso=Frozen())
  before = {v.ref(): v.numpy() for v in small.agent.trainable_variables}
  small.update(small_unroll())
  frozen = {v.ref() for v in small.agent.torso.trainable_variables}
  changed = {ref for ref, value in before.items() if (ref.deref().numpy() != value).any()}
  assert len(frozen) == 2
  assert changed == before.keys() - frozen
