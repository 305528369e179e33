"""The parts of an agent: torsos for frames, the encoder of instructions, and the LSTM (Espeholt et
al., 2018, figure 3).

Weights start as in the authors' code: convolutions and linear layers from a normal distribution
truncated at two standard deviations of 1/sqrt(fan_in), biases at zero (Sonnet's defaults); the
others as the classes below say.

Modules read their variables as attributes each time they are called, so that tensors may be put in
the variables' place (`weights.with_weights`).

A torso for images computes in its `compute_dtype`, float32 unless that is changed to bfloat16 once
its variables exist. They stay float32, and so do its features.
"""

from typing import NamedTuple

import numpy as np
import sonnet as snt
import tensorflow as tf

from impala_tf import structs
from impala_tf.config import ConfigurationError


class Conv2D(snt.Conv2D):
  """Sonnet's convolution, computed in the dtype of its inputs.

  The first call must be with float32: it makes the variables, which stay float32.
  """

  def __init__(self, channels: int, kernel: int, stride: int = 1, *, padding: str):
    """Describes the layer: its output channels, the sides of its kernel and its stride, and 'SAME'
    or 'VALID'.
    """
    super().__init__(channels, kernel, stride, padding=padding, name='conv2_d')
    self._scheme = padding

  def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
    """Maps [N, H, W, C] to [N, H', W', channels]."""
    if inputs.dtype == tf.float32:
      return super().__call__(inputs)
    outputs = tf.nn.conv2d(inputs, tf.cast(self.w, inputs.dtype), self.stride, self._scheme)
    return tf.nn.bias_add(outputs, tf.cast(self.b, inputs.dtype))


class Linear(snt.Linear):
  """Sonnet's linear layer, computed in the dtype of its inputs.

  The first call must be with float32: it makes the variables, which stay float32.
  """

  def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
    """Maps [N, n] to [N, features]."""
    if inputs.dtype == tf.float32:
      return super().__call__(inputs)
    outputs = tf.matmul(inputs, tf.cast(self.w, inputs.dtype))
    return tf.nn.bias_add(outputs, tf.cast(self.b, inputs.dtype))


def _scaled(frames, dtype):
  if frames.dtype != tf.uint8:
    raise TypeError(
      f'Frames must be uint8 in [0, 255], got {frames.dtype.name}: torsos scale them to [0, 1].'
    )
  return tf.cast(frames, dtype) / 255


def _one_hot(codes, dtype):
  # Codes of each channel in channels of their own: [N, H, W, C] to [N, H, W, C * NUM_CODES].
  layers = tf.one_hot(codes, structs.NUM_CODES, dtype=dtype)
  return tf.reshape(layers, [-1, *codes.shape[1:3], codes.shape[3] * structs.NUM_CODES])


class _PlainTorso(snt.Module):
  """Convolutions with VALID padding, each (channels, kernel, stride), and a linear layer with the
  given number of features behind them.
  """

  def __init__(self, convolutions, features, name, prepare=_scaled):
    super().__init__(name=name)
    self.compute_dtype = tf.float32
    self._prepare = prepare
    layers = []
    for channels, kernel, stride in convolutions:
      layers += [Conv2D(channels, kernel, stride, padding='VALID'), tf.nn.relu]
    self.layers = snt.Sequential([*layers, snt.Flatten(), Linear(features), tf.nn.relu])

    # The smallest side of a frame for which the last convolution has an output.
    self._least_pixels = 1
    for _, kernel, stride in reversed(convolutions):
      self._least_pixels = (self._least_pixels - 1) * stride + kernel

  def __call__(self, frames: tf.Tensor) -> tf.Tensor:
    """Computes the features of frames; see the class.

    Raises:
      ConfigurationError: if they are too small for the convolutions.
    """
    height, width = frames.shape[1:3]
    if min(height, width) < self._least_pixels:
      raise ConfigurationError(
        f'height={height} and width={width} must be at least {self._least_pixels} for this '
        'network. Change --height and --width, or --agent.'
      )
    return tf.cast(self.layers(self._prepare(frames, self.compute_dtype)), tf.float32)


class ShallowTorso(_PlainTorso):
  """The shallow net's two convolutions (figure 3, left); uint8 [N, H, W, C] to float32 [N, 256].

  The paper gives no sizes. These, with VALID padding, are the ones that make up its 1.2 million
  parameters.
  """

  def __init__(self, name: str = 'shallow_torso'):
    """Describes the layers; the first call makes their variables."""
    super().__init__([(16, 8, 4), (32, 4, 2)], features=256, name=name)


class NatureTorso(_PlainTorso):
  """Three convolutions (Mnih et al., 2015), for the shallow agent on Atari; uint8 [N, H, W, C] to
  float32 [N, 512].
  """

  def __init__(self, name: str = 'nature_torso'):
    """Describes the layers; the first call makes their variables."""
    super().__init__([(32, 8, 4), (64, 4, 2), (64, 3, 1)], features=512, name=name)


class CodesTorso(_PlainTorso):
  """Two small convolutions for images of codes, as MiniGrid's are; uint8 [N, H, W, C], all below
  `structs.NUM_CODES`, to float32 [N, 256].

  The paper has none.
  """

  def __init__(self, name: str = 'codes_torso'):
    """Describes the layers; the first call makes their variables."""
    super().__init__([(32, 3, 1), (64, 3, 1)], features=256, name=name, prepare=_one_hot)


class DeepTorso(snt.Module):
  """The deep net's 15 convolutions (figure 3, right); uint8 [N, H, W, C] to float32 [N, 256]."""

  def __init__(self, of_codes: bool = False, name: str = 'deep_torso'):
    """Describes the layers; the first call makes their variables.

    Args:
      of_codes: whether frames are codes below `structs.NUM_CODES`, not pixels.
      name: of the module.
    """
    super().__init__(name=name)
    self.compute_dtype = tf.float32
    self._prepare = _one_hot if of_codes else _scaled
    self.sections = [
      _Section(channels, name=f'section_{i}') for i, channels in enumerate((16, 32, 32))
    ]
    self.flatten = snt.Flatten()
    self.linear = Linear(256)

  def __call__(self, frames: tf.Tensor) -> tf.Tensor:
    """Computes the features of frames; see the class."""
    features = self._prepare(frames, self.compute_dtype)
    for section in self.sections:
      features = section(features)
    return tf.cast(tf.nn.relu(self.linear(self.flatten(tf.nn.relu(features)))), tf.float32)


class _Section(snt.Module):
  """A convolution, a max-pooling that halves height and width, and two residual blocks."""

  def __init__(self, channels, name=None):
    super().__init__(name=name)
    self.convolution = Conv2D(channels, 3, padding='SAME')
    self.blocks = [[Conv2D(channels, 3, padding='SAME') for _ in range(2)] for _ in range(2)]

  def __call__(self, features):
    features = tf.nn.max_pool2d(self.convolution(features), ksize=3, strides=2, padding='SAME')
    for first, second in self.blocks:
      features += second(tf.nn.relu(first(tf.nn.relu(features))))
    return features


class VectorTorso(snt.Module):
  """Two layers for observations that are not images; float32 [N, n] to float32 [N, 64].

  Numbers between bounds are scaled to [-1, 1] before, and those without bounds are squeezed to
  sign(x) log(1 + |x|), which leaves small ones nearly as they are. Bounds are known from the start,
  while running statistics would have to be saved, and be the same for actors and learner.

  The paper has none.
  """

  def __init__(
    self, bounds: tuple[np.ndarray, np.ndarray] | None = None, name: str = 'vector_torso'
  ):
    """Describes the layers; the first call makes their variables.

    Args:
      bounds: lowest and highest value of each number, float32 [n], infinite where there are none;
        None to take all numbers as they are.
      name: of the module.
    """
    super().__init__(name=name)
    # Not as the pair: a checkpoint would have it as an object of its own.
    self._low: np.ndarray | None = bounds[0] if bounds else None
    self._high: np.ndarray | None = bounds[1] if bounds else None
    self.layers = snt.Sequential([snt.Linear(64), tf.nn.tanh, snt.Linear(64), tf.nn.tanh])

  def __call__(self, vectors: tf.Tensor) -> tf.Tensor:
    """Computes the features of vectors; see the class."""
    return self.layers(vectors if self._low is None else self._scaled(vectors))

  def _scaled(self, vectors):
    is_bounded = np.isfinite(self._low) & np.isfinite(self._high)
    low, high = np.where(is_bounded, self._low, -1), np.where(is_bounded, self._high, 1)
    scaled = (2 * vectors - (low + high)) / (high - low)
    return tf.where(is_bounded, scaled, tf.sign(vectors) * tf.math.log1p(tf.abs(vectors)))


class LSTMState(NamedTuple):
  """Memory of an LSTM: cell and output, float32 [B, hidden_size] each."""

  cell: tf.Tensor
  hidden: tf.Tensor


class LSTM(snt.Module):
  """A long short-term memory over whole sequences, laid out as TensorFlow 1's.

  One kernel [input + hidden_size, 4 * hidden_size] with the gates in the order input, candidate,
  forget, output. It starts Glorot-uniform, the bias at zero; the forget gate gets 1 more than its
  bias (Jozefowicz et al., 2015).
  """

  def __init__(self, hidden_size: int, name: str = 'lstm'):
    """Takes the number of cells; the first call makes the variables."""
    super().__init__(name=name)
    self.hidden_size = hidden_size

  def initial_state(self, batch_size: int | tf.Tensor) -> LSTMState:
    """Makes the state before the first row of `batch_size` sequences: zeros."""
    zeros = tf.zeros([batch_size, self.hidden_size])
    return LSTMState(zeros, zeros)

  @snt.once
  def _create_variables(self, input_size):
    glorot = snt.initializers.VarianceScaling(scale=1.0, mode='fan_avg', distribution='uniform')
    shape = [input_size + self.hidden_size, 4 * self.hidden_size]
    self.kernel = tf.Variable(glorot(shape, tf.float32), name='kernel')
    self.bias = tf.Variable(tf.zeros(4 * self.hidden_size), name='bias')

  def __call__(
    self, inputs: tf.Tensor, state: LSTMState, resets: tf.Tensor | None = None
  ) -> tuple[tf.Tensor, LSTMState]:
    """Runs over a batch of sequences.

    Args:
      inputs: float32 [T, B, input].
      state: before the first row.
      resets: bool [T, B], where to zero the state before the row is consumed; None for nowhere.

    Returns:
      The outputs, float32 [T, B, hidden_size], and the state after the last row.
    """
    input_size = inputs.shape[-1]
    self._create_variables(input_size)
    if resets is None:
      resets = tf.zeros(tf.shape(inputs)[:2], tf.bool)

    # The inputs' share of the gates needs no recurrence: one product for all rows.
    from_inputs = tf.matmul(inputs, self.kernel[:input_size]) + self.bias
    recurrent_kernel = self.kernel[input_size:]

    def step(state, row):
      from_input, reset = row
      cell, hidden = (tf.where(reset[:, tf.newaxis], 0.0, s) for s in state)
      gates = from_input + tf.matmul(hidden, recurrent_kernel)
      input_gate, candidate, forget_gate, output_gate = tf.split(gates, 4, axis=-1)
      cell = tf.sigmoid(forget_gate + 1.0) * cell + tf.sigmoid(input_gate) * tf.tanh(candidate)
      return LSTMState(cell, tf.sigmoid(output_gate) * tf.tanh(cell))

    states = tf.scan(
      step, (from_inputs, resets), initializer=LSTMState(*state), parallel_iterations=1
    )
    return states.hidden, LSTMState(states.cell[-1], states.hidden[-1])


class InstructionEncoder(snt.Module):
  """Instructions in words to vectors: string [N] to float32 [N, 64] (figure 3).

  Words are split at spaces only and hashed to 1,000 buckets, each with an embedding of 20 numbers
  that starts from N(0, 1); an LSTM reads them, and its output after the last word is the result. An
  empty instruction gives zeros.
  """

  NUM_BUCKETS = 1000

  def __init__(self, name: str = 'instruction_encoder'):
    """Describes the layers; the first call makes their variables."""
    super().__init__(name=name)
    self.embed = snt.Embed(self.NUM_BUCKETS, 20, initializer=snt.initializers.RandomNormal())
    self.lstm = LSTM(64)

  def __call__(self, instructions: tf.Tensor) -> tf.Tensor:
    """Encodes instructions; see the class."""
    # A batch holds few different instructions, each repeated for many steps: each is read once.
    instructions, positions = tf.unique(instructions)
    words = tf.strings.split(instructions, ' ')
    words = tf.ragged.boolean_mask(words, tf.not_equal(words, ''))
    lengths = words.row_lengths()
    buckets = tf.strings.to_hash_bucket_fast(words.to_tensor(default_value=''), self.NUM_BUCKETS)
    embedded = self.embed(buckets)

    # Where all are empty, the LSTM still needs a row to run over.
    padding = tf.cast(tf.equal(tf.shape(embedded)[1], 0), tf.int32)
    embedded = tf.pad(embedded, [[0, 0], [0, padding], [0, 0]])
    outputs, _ = self.lstm(
      tf.transpose(embedded, [1, 0, 2]), self.lstm.initial_state(tf.shape(embedded)[0])
    )
    last_rows = tf.stack([tf.maximum(lengths - 1, 0), tf.range(tf.size(lengths, tf.int64))], axis=1)
    encoded = tf.where(lengths[:, tf.newaxis] > 0, tf.gather_nd(outputs, last_rows), 0.0)
    return tf.gather(encoded, positions)
