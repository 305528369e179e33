"""The learner's updates against those of the authors' code."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.agent import networks
from impala_tf.learning import learner, optimizers
from tests.support import golden
from tests.support.small_learner import CONFIG, values_of

GOLDEN_CONFIG = dataclasses.replace(
  CONFIG,
  batch_size=3,
  unroll_length=20,
  learning_rate=0.00048,
  epsilon=0.1,
  total_environment_frames=10**9,
)


@pytest.fixture(scope='module')
def authors():
  """The authors' learner and ours: ten updates on the same batch."""
  inputs, expected = (
    golden.load('learner_in_synthetic_T20'),
    golden.load('learner_synthetic_T20_abs_one'),
  )
  zeros = np.zeros(3, np.int32)
  unroll = structs.Unroll(
    level=zeros,
    policy_version=zeros,
    agent_state=networks.LSTMState(inputs['state_c'], inputs['state_h']),
    step_outputs=golden.step_outputs(inputs),
    agent_outputs=structs.AgentOutput(
      inputs['last_actions'], inputs['behaviour_logits'], inputs['behaviour_baseline']
    ),
  )
  unroll = tree.map_structure(tf.constant, unroll)
  agent = golden.agent()
  variables = golden.variables(agent)
  optimizer = optimizers.RMSProp(agent.trainable_variables, decay=0.99, momentum=0.0)
  slots = {
    v.ref(): slot for v, slot in zip(agent.trainable_variables, optimizer.mean_squares, strict=True)
  }
  subject = learner.Learner(agent, optimizer, GOLDEN_CONFIG)

  outputs, _ = tf.function(agent.unroll)(
    unroll.agent_outputs.action, unroll.step_outputs, unroll.agent_state
  )
  # The very function that the updates run, so that it is traced once.
  loss, gradients = subject._loss_and_gradients(unroll, subject.tunable.entropy_cost.read_value())
  gradient_of = {
    v.ref(): tf.convert_to_tensor(g)
    for v, g in zip(agent.trainable_variables, gradients, strict=True)
  }
  gradients = [gradient_of[v.ref()] for v in variables]
  summaries = lambda tensors: np.array([golden.summary(t, i) for i, t in enumerate(tensors)])
  start = values_of(variables)
  ours = {'vars_before': summaries(start), 'grads_1': summaries(gradients), 'metrics': []}
  for k in range(1, 11):
    ours['metrics'].append(subject.update(unroll))
    if k in (1, 2, 10):
      ours[f'vars_after_{k}'] = summaries(variables)
      ours[f'delta_after_{k}'] = summaries(
        [v - s for v, s in zip(values_of(variables), start, strict=True)]
      )
      ours[f'rms_after_{k}'] = summaries([slots[v.ref()] for v in variables])
  return types.SimpleNamespace(
    expected=expected,
    ours=ours,
    outputs=outputs,
    loss=loss,
    sizes=[v.shape.num_elements() for v in variables],
  )


def test_loss_and_its_parts_equal_the_authors(authors):
  returns = authors.loss.vtrace_returns
  results = {
    'target_policy_logits': authors.outputs.policy_logits[:-1],
    'values': authors.outputs.baseline[:-1],
    'bootstrap_value': authors.outputs.baseline[-1],
    'clipped_rewards': authors.loss.clipped_rewards,
    'discounts': authors.loss.discounts,
    'log_rhos': returns.log_rhos,
    'vs': returns.vs,
    'pg_advantages': returns.pg_advantages,
  }
  for name, result in results.items():
    expected = authors.expected[name]
    np.testing.assert_allclose(
      result, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max(), err_msg=name
    )
  losses = [authors.loss.total, authors.loss.pg, authors.loss.baseline, authors.loss.entropy]
  np.testing.assert_allclose(losses, authors.expected['losses'][0], rtol=1e-5)


def test_learning_rate_and_frames_equal_the_authors(authors):
  metrics = authors.ours['metrics']
  np.testing.assert_allclose(
    [m.learning_rate for m in metrics], authors.expected['learning_rate'], rtol=1e-6
  )
  assert [m.frames for m in metrics] == authors.expected['num_env_frames'].tolist()


# In single precision the gradient of the layers before a max-pooling jumps where two of its inputs
# are nearly equal, and that of the layers before a ReLU where its input is nearly zero: against the
# same computation in float64 the authors' numbers for the first section are off by 1.4e-3, ours by
# as much. Where it jumps depends on the processor's instructions, too. Each update multiplies the
# difference by about ten, for any two implementations: after ten the two float32 runs and the
# float64 one are three different trajectories. So the comparison is close where nothing can jump,
# looser elsewhere, and ends after the second update.
PAST_JUMPS = slice(32, None)


@pytest.mark.parametrize(
  ('name', 'past_jumps', 'all_variables'),
  [
    ('vars_before', 1e-12, 1e-12),
    ('grads_1', 2e-5, 1e-2),
    ('vars_after_1', 1e-6, 5e-5),
    ('rms_after_1', 2e-5, 2e-3),
    ('delta_after_1', 5e-4, 1e-2),
    ('vars_after_2', 1e-4, 5e-4),
    ('rms_after_2', 2e-3, 5e-3),
  ],
)
def test_updates_equal_the_authors(authors, name, past_jumps, all_variables):
  ours, expected = authors.ours[name], authors.expected[name]
  difference = lambda rows: golden.worst_difference(ours[rows], expected[rows], authors.sizes[rows])
  assert difference(PAST_JUMPS) < past_jumps
  assert difference(slice(None)) < all_variables


def test_losses_after_an_update_equal_the_authors(authors):
  m = authors.ours['metrics'][1]
  losses = [m.total_loss, m.pg_loss, m.baseline_loss, m.entropy_loss]
  np.testing.assert_allclose(losses, authors.expected['losses'][1], rtol=2e-3)


@pytest.mark.parametrize('k', [1, 2, 10])
def test_embeddings_that_were_not_gathered_keep_their_slot(authors, k):
  # Gradients add next to nothing to this slot: what the comparison sees is which of the 1,000 rows
  # decayed.
  row = slice(32, 33)
  ours, expected = authors.ours[f'rms_after_{k}'], authors.expected[f'rms_after_{k}']
  assert golden.worst_difference(ours[row], expected[row], authors.sizes[row]) < 1e-6
