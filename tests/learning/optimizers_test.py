"""RMSProp as TensorFlow 1 had it, the decay of the learning rate, and the clipping."""

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.learning import optimizers
from tests.support import golden


def make(values, **arguments):
  variables = [tf.Variable(np.asarray(v, np.float32)) for v in values]
  return optimizers.RMSProp(variables, **arguments), variables


def test_first_step_is_that_of_a_mean_square_of_one_and_an_epsilon_inside_the_root():
  # From zero it would be 0.1 times the learning rate, with epsilon outside the root 0.9 times.
  optimizer, variables = make([[0.0]])
  optimizer.apply([tf.constant([0.01])], variables, tf.constant(1.0), tf.constant(0.01))
  np.testing.assert_allclose(variables[0], [-0.01 / np.sqrt(0.99 + 0.01 * 1e-4 + 0.01)], rtol=1e-6)
  np.testing.assert_allclose(variables[0], [-0.010], rtol=1e-3)


@pytest.mark.parametrize('momentum', [0.0, 0.9])
def test_ten_steps_equal_numpy(momentum):
  random = np.random.RandomState(0)
  start = random.randn(3, 2)
  optimizer, variables = make([start], decay=0.8, momentum=momentum)
  variable, mean_square, moment = start.copy(), np.ones([3, 2]), np.zeros([3, 2])
  for k in range(10):
    g, learning_rate = random.randn(3, 2) * 3, 0.1 / (k + 1)
    optimizer.apply(
      [tf.constant(g, tf.float32)], variables, tf.constant(learning_rate), tf.constant(0.03)
    )
    mean_square = 0.8 * mean_square + 0.2 * g**2
    moment = momentum * moment + learning_rate * g / np.sqrt(mean_square + 0.03)
    variable -= moment
    np.testing.assert_allclose(variables[0], variable, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(optimizer.mean_squares[0], mean_square, rtol=1e-5)
  np.testing.assert_allclose(optimizer.moments[0], moment, rtol=1e-5, atol=1e-7)


def test_one_step_of_the_authors_training():
  arrays = golden.load('learner_synthetic_T20_abs_one')
  first = slice(
    7, 57
  )  # The columns that hold the first entries of each variable, see golden.summary.
  optimizer, variables = make([arrays['vars_before'][:, first]], decay=0.99, momentum=0.0)
  gradient = tf.constant(arrays['grads_1'][:, first], tf.float32)
  optimizer.apply([gradient], variables, tf.constant(arrays['learning_rate'][0]), tf.constant(0.1))
  # Entries without a gradient: padding, and embeddings whose mean square stays one.
  seen = arrays['grads_1'][:, first] != 0
  assert seen.sum() > 1000
  np.testing.assert_allclose(variables[0], arrays['vars_after_1'][:, first], rtol=1e-6, atol=1e-8)
  mean_square = optimizer.mean_squares[0].numpy()
  np.testing.assert_allclose(mean_square[seen], arrays['rms_after_1'][:, first][seen], rtol=1e-6)


@pytest.mark.parametrize('momentum', [0.0, 0.9])
def test_rows_without_a_gradient_keep_variable_and_slots(momentum):
  start = np.random.RandomState(0).randn(5, 2)
  sparse, sparse_variables = make([start], momentum=momentum)
  dense, dense_variables = make([start[[1, 4]]], momentum=momentum)
  for k in range(3):
    values = np.random.RandomState(k).randn(3, 2).astype(np.float32)
    # Row 4 comes twice: its gradient is the sum, and its slots move once.
    slices = tf.IndexedSlices(
      tf.constant(values), tf.constant([4, 1, 4], tf.int64), tf.constant([5, 2], tf.int64)
    )
    sparse.apply([slices], sparse_variables, tf.constant(0.1), tf.constant(0.1))
    dense.apply(
      [tf.constant([values[1], values[0] + values[2]])],
      dense_variables,
      tf.constant(0.1),
      tf.constant(0.1),
    )
  for of_sparse, of_dense, untouched in (
    (sparse_variables, dense_variables, start.astype(np.float32)),
    (sparse.mean_squares, dense.mean_squares, np.ones([5, 2])),
    (sparse.moments, dense.moments, np.zeros([5, 2])),
  ):
    np.testing.assert_allclose(of_sparse[0].numpy()[[1, 4]], of_dense[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(of_sparse[0].numpy()[[0, 2, 3]], untouched[[0, 2, 3]])


def test_slots_are_in_checkpoints(tmp_path):
  optimizer, variables = make([[1.0, 2.0]], momentum=0.5)
  optimizer.apply([tf.constant([3.0, -4.0])], variables, tf.constant(0.1), tf.constant(0.1))
  path = tf.train.Checkpoint(optimizer=optimizer).write(str(tmp_path / 'checkpoint'))
  restored, _ = make([[1.0, 2.0]], momentum=0.5)
  tf.train.Checkpoint(optimizer=restored).read(path).assert_consumed()
  np.testing.assert_array_equal(restored.mean_squares[0], optimizer.mean_squares[0])
  np.testing.assert_array_equal(restored.moments[0], optimizer.moments[0])
  assert optimizer.moments[0].numpy().all()


def test_linear_decay_counts_frames_to_zero_and_stays():
  decayed = [
    optimizers.linear_decay(0.5, tf.constant(f, tf.int64), 1000).numpy()
    for f in (0, 250, 1000, 3000)
  ]
  np.testing.assert_allclose(decayed, [0.5, 0.375, 0.0, 0.0], rtol=1e-7)


def test_linear_decay_tells_single_frames_apart_late_in_training():
  total = 10**10
  rates = [
    optimizers.linear_decay(1.0, tf.constant(total - left, tf.int64), total).numpy()
    for left in (1, 2, 5)
  ]
  np.testing.assert_allclose(rates, [1e-10, 2e-10, 5e-10], rtol=1e-5)


def test_clipping_scales_all_gradients_by_their_joint_norm():
  slices = tf.IndexedSlices(
    tf.constant([[0.0, 2.0], [0.0, 2.0]]), tf.constant([1, 1]), tf.constant([3, 2])
  )
  gradients = [tf.constant([3.0]), slices]
  clipped, norm = optimizers.clip_by_global_norm(gradients, 2.5)
  np.testing.assert_allclose(norm, 5.0, rtol=1e-6)  # Row 1 is (0, 4), not twice (0, 2).
  np.testing.assert_allclose(clipped[0], [1.5], rtol=1e-6)
  assert isinstance(clipped[1], tf.IndexedSlices)
  np.testing.assert_allclose(
    tf.convert_to_tensor(clipped[1]), [[0, 0], [0, 2.0], [0, 0]], rtol=1e-6
  )


@pytest.mark.parametrize('max_norm', [None, 7.0])
def test_gradients_within_the_norm_stay(max_norm):
  clipped, norm = optimizers.clip_by_global_norm([tf.constant([3.0]), tf.constant([4.0])], max_norm)
  np.testing.assert_allclose(norm, 5.0, rtol=1e-6)
  np.testing.assert_allclose(clipped, [[3.0], [4.0]], rtol=1e-6)
