"""bfloat16 beside float32, and XLA beside plain graphs, in the learner's update; what stays
float32.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tree

from atari57 import suite
from dmlab30 import suite as dmlab30_suite
from impala_tf.agent import agents
from impala_tf.benchmark import parts
from impala_tf.system import machine
from impala_tf.training import loop


def update(**changes):
  """Loss, norm of the gradient, and the steps of all weights, of an update of the shallow network
  from equal weights.
  """
  values = dataclasses.replace(
    suite.SUITE.configure('pong', agent='shallow'), batch_size=4, unroll_length=5, **changes
  )
  atari = suite.AtariSuite()
  tf.random.set_seed(1)
  learner = loop.make_learner(atari, values)
  learner.agent.baseline.b.assign([30.0])  # Where eight bits are steps of 0.125.
  tf.random.set_seed(2)
  batch = parts.example_unroll(atari, values, learner.agent, 4)
  before = [v.numpy() for v in learner.agent.trainable_variables]
  done = learner.update(batch)
  steps = np.concatenate(
    [
      (v.numpy() - b).ravel()
      for v, b in zip(learner.agent.trainable_variables, before, strict=True)
    ]
  )
  try:
    entropy_cost = learner.tunable.entropy_cost.read_value()
    learner._loss_and_gradients.experimental_get_compiler_ir(batch, entropy_cost, None)(stage='hlo')
    is_compiled = True
  except ValueError:  # TensorFlow has none for a function that is not compiled.
    is_compiled = False
  assert is_compiled == values.jit_compile
  return float(done.total_loss), float(done.gradient_norm), steps


def test_bfloat16_changes_loss_and_step_by_its_rounding_only():
  expected_loss, expected_norm, expected_steps = update()
  loss, norm, steps = update(precision='bfloat16')
  np.testing.assert_allclose(loss, expected_loss, rtol=0.01)
  np.testing.assert_allclose(norm, expected_norm, rtol=0.03)
  cosine = steps @ expected_steps / np.linalg.norm(steps) / np.linalg.norm(expected_steps)
  assert cosine > 0.99
  if machine.has_bfloat16():
    # Otherwise it was not in bfloat16 at all.
    assert np.abs(steps - expected_steps).max() > 1e-3 * np.abs(expected_steps).max()


@pytest.mark.skipif(not machine.has_bfloat16(), reason='this processor has no bfloat16')
@pytest.mark.parametrize('agent', ['shallow', 'deep'])
def test_only_what_makes_the_features_is_in_bfloat16(agent):
  levels = dmlab30_suite.SUITE
  values = dataclasses.replace(
    dmlab30_suite.SUITE.configure('rooms_watermaze', agent=agent), precision='bfloat16'
  )
  made = agents.for_suite(levels, values)
  assert {v.dtype for v in made.trainable_variables} == {tf.float32}
  batch = parts.example_unroll(levels, dataclasses.replace(values, unroll_length=2), made, 3)
  outputs, state = made.unroll(batch.agent_outputs.action, batch.step_outputs, batch.agent_state)
  assert {tensor.dtype for tensor in tree.flatten((outputs, state))} == {tf.float32}
  frames = batch.step_outputs.observation.frame[0]
  features = made.torso(frames)
  made.torso.compute_dtype = tf.float32
  exact = made.torso(frames)
  assert features.dtype == exact.dtype == tf.float32
  assert 1e-4 < tf.norm(features - exact) / tf.norm(exact) < 0.02


@pytest.mark.parametrize(
  ('flags', 'has'),
  [
    ('fpu avx2 fma', False),
    ('fpu avx512f', True),
    ('avx_ne_convert', True),
    ('avx512', False),
    (None, True),
  ],
)
def test_a_processor_without_bfloat16_is_warned_of(tmp_path, monkeypatch, warnings, flags, has):
  monkeypatch.setattr(machine, '_CPU_INFO', str(tmp_path / 'cpuinfo'))
  if flags:
    (tmp_path / 'cpuinfo').write_text(f'model name\t: one\nflags\t\t: {flags}\nbugs\t\t: none\n')
  assert machine.has_bfloat16() == has
  values = suite.SUITE.configure('pong', agent='shallow')
  made = agents.for_suite(suite.AtariSuite(), values)
  assert made.torso.compute_dtype == tf.float32
  assert warnings() == []
  made = agents.for_suite(suite.AtariSuite(), dataclasses.replace(values, precision='bfloat16'))
  assert made.torso.compute_dtype == (tf.bfloat16 if has else tf.float32)
  assert ['changes nothing here' in warning for warning in warnings()] == [True] * (not has)


def test_xla_takes_the_same_step():
  expected_loss, expected_norm, expected_steps = update()
  loss, norm, steps = update(jit_compile=True)
  np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
  np.testing.assert_allclose(norm, expected_norm, rtol=1e-4)
  np.testing.assert_allclose(
    steps, expected_steps, rtol=1e-3, atol=1e-4 * np.abs(expected_steps).max()
  )
