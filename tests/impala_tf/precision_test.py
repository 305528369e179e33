"""bfloat16 beside float32, and XLA beside plain graphs: each in a process of its own, as they are set for all of TensorFlow."""

import json
import subprocess
import sys

import numpy as np
import pytest

from impala_tf import experiment, machine

PROGRAM = """
import dataclasses, json, sys
import numpy as np
from atari57 import hparams, suite
from impala_tf import benchmark_parts, experiment, training
import tensorflow as tf
changes = json.loads(sys.argv[1])
values = dataclasses.replace(hparams.preset('pong', 'shallow'), batch_size=4, unroll_length=5, **changes)
experiment.configure_tensorflow(2, values.precision)
tf.random.set_seed(1)
atari = suite.AtariSuite()
learner = training.make_learner(atari, values)
batch = benchmark_parts.example_unroll(atari, values, learner.agent, 4)
before = [v.numpy() for v in learner.agent.trainable_variables]
update = learner.update(batch)
steps = np.concatenate([(v.numpy() - b).ravel() for v, b in zip(learner.agent.trainable_variables, before)])
try:
  entropy_cost = learner.tunable.entropy_cost.read_value()
  learner._loss_and_gradients.experimental_get_compiler_ir(batch, entropy_cost, None)(stage='hlo')
  is_compiled = True
except ValueError:  # TensorFlow has none of a function that is not to be compiled.
  is_compiled = False
assert is_compiled == values.jit_compile
print(json.dumps([float(update.total_loss), float(update.gradient_norm), steps.astype(float).tolist()[::50]]))
"""
WEIGHTS = """
from impala_tf import experiment, weights
import sonnet as snt
import tensorflow as tf
experiment.configure_tensorflow(2, 'bfloat16')
net = snt.nets.MLP([64, 64])
inputs = tf.random.normal([8, 64])
expected = net(inputs)
published = weights.PublishedWeights(net, version=2**24 + 1)

@tf.function
def act(inputs):
  tensors, version = published.pull()
  with weights.substituted(net, tensors):
    return net(inputs), version, published.version()

outputs, *versions = act(inputs)
print(*(int(v) for v in versions), float(tf.reduce_max(tf.abs(outputs - expected))))
"""


def update(**changes):
  done = subprocess.run([sys.executable, '-c', PROGRAM, json.dumps(changes)], capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  loss, norm, steps = json.loads(done.stdout)
  return loss, norm, np.array(steps)


@pytest.fixture(name='plain', scope='module')
def _plain():
  return update()


def test_bfloat16_changes_loss_and_step_by_its_rounding_only(plain):
  loss, norm, steps = update(precision='bfloat16')
  expected_loss, expected_norm, expected_steps = plain
  np.testing.assert_allclose(loss, expected_loss, rtol=0.01)
  np.testing.assert_allclose(norm, expected_norm, rtol=0.03)
  cosine = steps @ expected_steps / np.linalg.norm(steps) / np.linalg.norm(expected_steps)
  assert cosine > 0.99
  if machine.has_bfloat16():
    assert np.abs(steps - expected_steps).max() > 1e-3 * np.abs(expected_steps).max()  # or it was not in bfloat16 at all


@pytest.mark.parametrize(
  ('flags', 'has'),
  [('fpu avx2 fma', False), ('fpu avx512f', True), ('avx_ne_convert', True), ('avx512', False), (None, True)],
)
def test_a_processor_without_bfloat16_is_warned_of(tmp_path, monkeypatch, caplog, flags, has):
  monkeypatch.setattr(machine, '_CPU_INFO', str(tmp_path / 'cpuinfo'))
  monkeypatch.setattr(experiment.tf.config.optimizer, 'set_experimental_options', lambda options: None)
  if flags:
    (tmp_path / 'cpuinfo').write_text(f'model name\t: one\nflags\t\t: {flags}\nbugs\t\t: none\n')
  assert machine.has_bfloat16() == has
  experiment.set_precision('float32')
  assert not caplog.records
  experiment.set_precision('bfloat16')
  assert ['changes nothing here' in record.getMessage() for record in caplog.records] == [True] * (not has)


def test_xla_takes_the_same_step(plain):
  loss, norm, steps = update(jit_compile=True)
  np.testing.assert_allclose(loss, plain[0], rtol=1e-5)
  np.testing.assert_allclose(norm, plain[1], rtol=1e-4)
  np.testing.assert_allclose(steps, plain[2], rtol=1e-3, atol=1e-4 * np.abs(plain[2]).max())


def test_bfloat16_does_not_round_the_version_that_travels_with_the_weights():
  done = subprocess.run([sys.executable, '-c', WEIGHTS], capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  pulled, asked, difference = done.stdout.split()
  assert (int(pulled), int(asked)) == (2**24 + 1, 2**24 + 1)
  assert (float(difference) > 0) == machine.has_bfloat16()  # The products were done in bfloat16, where it can be.
