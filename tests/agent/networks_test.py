"""The torsos, the LSTM and the instruction encoder."""

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import structs
from impala_tf.agent import agents, networks
from impala_tf.config import ConfigurationError
from tests.support import golden


def convolve(frames, weights, bias, stride):
  """VALID convolution of [N, H, W, C] written out."""
  size = weights.shape[0]
  rows, columns = ((n - size) // stride + 1 for n in frames.shape[1:3])
  result = np.zeros([len(frames), rows, columns, weights.shape[-1]])
  for y in range(rows):
    for x in range(columns):
      patch = frames[:, y * stride : y * stride + size, x * stride : x * stride + size]
      result[:, y, x] = np.tensordot(patch, weights, 3) + bias
  return result


def randomise_biases(module):
  for i, variable in enumerate(module.trainable_variables):
    if variable.shape.rank == 1:
      variable.assign(np.random.RandomState(i).randn(*variable.shape) * 0.1)


@pytest.mark.parametrize(
  ('torso', 'shapes', 'strides'),
  [
    (networks.ShallowTorso, [(8, 8, 3, 16), (4, 4, 16, 32)], [4, 2]),
    (networks.NatureTorso, [(8, 8, 3, 32), (4, 4, 32, 64), (3, 3, 64, 64)], [4, 2, 1]),
  ],
)
def test_plain_torsos_equal_numpy(torso, shapes, strides):
  torso = torso()
  frames = np.random.RandomState(0).randint(256, size=[2, 44, 52, 3]).astype(np.uint8)
  torso(frames)
  randomise_biases(torso)
  layers = [layer for layer in torso.submodules if hasattr(layer, 'w')]
  convolutions = sorted(
    (layer for layer in layers if layer.w.shape.rank == 4),
    key=lambda layer: shapes.index(layer.w.shape),
  )
  (linear,) = (layer for layer in layers if layer.w.shape.rank == 2)
  assert [layer.w.shape for layer in convolutions] == shapes
  features = frames / 255.0
  for layer, stride in zip(convolutions, strides, strict=True):
    features = np.maximum(convolve(features, layer.w.numpy(), layer.b.numpy(), stride), 0)
  expected = np.maximum(features.reshape(2, -1) @ linear.w.numpy() + linear.b.numpy(), 0)
  assert (expected > 0).any()
  np.testing.assert_allclose(torso(frames), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ('torso', 'features'),
  [(networks.ShallowTorso, 256), (networks.NatureTorso, 512), (networks.DeepTorso, 256)],
)
def test_features_of_a_torso(torso, features):
  assert torso()(tf.zeros([2, 84, 84, 4], tf.uint8)).shape == [2, features]


@pytest.mark.parametrize(
  ('torso', 'least'), [(networks.ShallowTorso, 20), (networks.NatureTorso, 36)]
)
def test_frames_too_small_for_the_convolutions_are_refused(torso, least):
  assert torso()(tf.zeros([1, least, least + 9, 1], tf.uint8)).shape[0] == 1
  with pytest.raises(ConfigurationError, match=f'height={least + 9} .*width={least - 1} .*{least}'):
    torso()(tf.zeros([1, least + 9, least - 1, 1], tf.uint8))


def test_frames_that_are_not_bytes_are_refused():
  with pytest.raises(TypeError, match=r'uint8.*float32'):
    networks.DeepTorso()(tf.zeros([1, 84, 84, 4]))


def test_initial_weights_of_layers_are_the_authors():
  torso = networks.DeepTorso()
  torso(tf.zeros([1, 72, 96, 3], tf.uint8))
  agent = agents.Agent(
    9, torso=lambda frames: frames
  )  # So wide that a head of one output has enough weights to measure.
  agent.build(structs.Observation(structs.ArraySpec((20_000,), np.float32)))
  layers = (
    torso.linear,
    torso.sections[2].convolution,
    torso.sections[1].blocks[0][1],
    agent.policy_logits,
    agent.baseline,
  )
  for layer in layers:
    weights = layer.w.numpy()
    sigma = 1 / np.sqrt(np.prod(weights.shape[:-1]))
    assert 1.9 * sigma < np.abs(weights).max() <= 2 * sigma
    # 0.88 is what the truncation leaves of the standard deviation; a corrected one would be 1.
    np.testing.assert_allclose(weights.std(), 0.88 * sigma, rtol=0.03)
    np.testing.assert_array_equal(layer.b, np.zeros_like(layer.b))


def test_initial_weights_of_encoder_and_lstm_are_the_authors():
  encoder = networks.InstructionEncoder()
  encoder(tf.constant(['word']))
  embeddings = encoder.embed.embeddings.numpy()
  assert embeddings.shape == (1000, 20)
  np.testing.assert_allclose([embeddings.mean(), embeddings.std()], [0, 1], atol=0.03)
  assert np.abs(embeddings).max() > 3
  limit = np.sqrt(6 / (84 + 256))
  kernel = encoder.lstm.kernel.numpy()
  assert kernel.shape == (84, 256)
  assert 0.99 * limit < np.abs(kernel).max() <= limit
  np.testing.assert_allclose(kernel.std(), limit / np.sqrt(3), rtol=0.03)
  np.testing.assert_array_equal(encoder.lstm.bias, np.zeros(256))


def numpy_lstm(inputs, cell, hidden, resets, kernel, bias):
  sigmoid = lambda x: 1 / (1 + np.exp(-x))
  outputs = []
  for row, reset in zip(inputs, resets, strict=True):
    cell, hidden = (np.where(reset[:, np.newaxis], 0, s) for s in (cell, hidden))
    i, candidate, f, o = np.split(np.concatenate([row, hidden], 1) @ kernel + bias, 4, axis=1)
    cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(candidate)
    hidden = sigmoid(o) * np.tanh(cell)
    outputs.append(hidden)
  return np.stack(outputs), cell, hidden


@pytest.mark.parametrize('with_resets', [True, False])
def test_lstm_equals_numpy(with_resets):
  random = np.random.RandomState(0)
  lstm = networks.LSTM(4)
  inputs = random.randn(6, 3, 5).astype(np.float32)
  state = networks.LSTMState(*random.randn(2, 3, 4).astype(np.float32))
  resets = np.zeros([6, 3], bool)
  if with_resets:
    resets[[0, 3, 3, 5], [0, 1, 2, 2]] = True
  lstm(inputs, state)
  lstm.bias.assign(random.randn(16))
  outputs, final = lstm(inputs, state, resets if with_resets else None)
  expected = numpy_lstm(inputs, *state, resets, lstm.kernel.numpy(), lstm.bias.numpy())
  for result, value in zip((outputs, *final), expected, strict=True):
    np.testing.assert_allclose(result, value, rtol=1e-5, atol=1e-6)


def test_a_reset_forgets_even_nan():
  lstm = networks.LSTM(4)
  nan = tf.fill([1, 4], np.nan)
  outputs, _ = lstm(
    tf.ones([2, 1, 3]), networks.LSTMState(nan, nan), tf.constant([[True], [False]])
  )
  assert np.isfinite(outputs).all()


@pytest.fixture(scope='module')
def encoder():
  encoder = networks.InstructionEncoder()
  encoder(tf.constant(['word']))
  for i, variable in enumerate(
    (encoder.embed.embeddings, encoder.lstm.kernel, encoder.lstm.bias), start=32
  ):
    variable.assign(golden.synthetic_weight(i, variable.shape))
  return encoder


def test_encoded_instructions_are_the_authors(encoder):
  arrays = golden.load('hash')
  np.testing.assert_allclose(
    encoder(arrays['instructions']), arrays['language_synthetic'], rtol=1e-4, atol=2e-6
  )


def test_empty_instructions_are_zeros(encoder):
  np.testing.assert_array_equal(
    encoder(tf.constant(['', 'red ball', '  '])).numpy()[[0, 2]], np.zeros([2, 64])
  )
  np.testing.assert_array_equal(encoder(tf.constant(['', ''])), np.zeros([2, 64]))


def test_instructions_are_split_at_runs_of_spaces_only(encoder):
  plain, spaced, tabbed, swapped = encoder(
    tf.constant(['red ball', '  red   ball ', 'red\tball', 'ball red'])
  ).numpy()
  np.testing.assert_allclose(plain, spaced, rtol=1e-5, atol=1e-6)
  assert np.abs(plain - tabbed).max() > 1e-2
  assert np.abs(plain - swapped).max() > 1e-2


def test_repeated_and_longer_neighbours_do_not_matter(encoder):
  instructions = ['red ball', '', 'pick up the red ball', 'red ball', 'red']
  together = encoder(tf.constant(instructions))
  alone = tf.concat([encoder(tf.constant([instruction])) for instruction in instructions], 0)
  np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def embedding_rows(encoder, instructions):
  with tf.GradientTape() as tape:
    loss = tf.reduce_sum(encoder(instructions))
  gradient = tape.gradient(loss, encoder.embed.embeddings)
  assert isinstance(gradient, tf.IndexedSlices)
  return gradient.indices.numpy().ravel().tolist()


def test_words_go_to_the_authors_buckets(encoder):
  arrays = golden.load('hash')
  for words, buckets in (('words', 'buckets'), ('special_words', 'special_buckets')):
    for word, bucket in zip(arrays[words], arrays[buckets], strict=True):
      if word and b' ' not in word:
        assert embedding_rows(encoder, tf.constant([word])) == [bucket], word


def test_padding_gathers_the_bucket_of_the_empty_word(encoder):
  arrays = golden.load('hash')
  buckets = dict(zip(arrays['special_words'], arrays['special_buckets'], strict=True))
  assert buckets[b''] in embedding_rows(encoder, tf.constant(['red ball', 'red']))
  assert buckets[b''] not in embedding_rows(encoder, tf.constant(['red ball', 'red red']))
