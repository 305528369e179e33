"""The part of a Gymnasium observation space that an agent sees: images, numbers and a text.

    space = ObservationSpace(
      environment.observation_space, image_values='pixels', height=84, width=84
    )
    observation = space.read(environment.reset()[0])      # structs.Observation, as space.spec
    print(space)                                          # what became of each part

Dict and Tuple are taken apart, and each of their parts is one of these:

    image      a Box of two to four dimensions, of which up to two are channels or frames of a
               stack, first or last; all values between the same two bounds. It becomes uint8
               [height, width, channels], scaled by area, or stays as it is where its values are
               codes. Several images are put together along the channels.
    numbers    every other Box as it is; Discrete, MultiDiscrete and MultiBinary one-hot
    text       Text, and spaces of strings that other packages define; several are one sentence
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces

from impala_tf import structs
from impala_tf.config import ConfigurationError

_MAX_CHANNELS = 12
_MIN_SIDE_OF_GREY = 16  # Floats of two dimensions are a table, not a picture, below this.
_MAX_NUMBERS = 10_000
_UNBOUNDED = 1e6  # A range as wide as this is a way to say that there are no bounds.
_TOLERANCE = 2.0  # Of 255, by which images may be outside of their bounds, as by rounding.
_MAX_CHANNELS_SCALED = 4  # At once, by OpenCV.


class Bounds(NamedTuple):
  """Limits of numbers: float32 [n] each, infinite where there are none, and -1 and 1 where the
  numbers are not to be scaled.
  """

  low: np.ndarray
  high: np.ndarray


class _Part(NamedTuple):
  """One space of those that a space is made of.

  Attributes:
    keys: how to find its value in an observation, from the outside in.
    kind: 'image', 'numbers' or 'text'.
    fate: what becomes of it, for people to read.
  """

  keys: tuple
  space: gymnasium.Space
  kind: str
  fate: str

  @property
  def name(self):
    return '/'.join(map(str, self.keys)) or 'observation'


class ObservationSpace:
  """Turns observations of a Gymnasium space into those that an agent sees.

  Attributes:
    spec: `structs.Observation` of ArraySpecs. Its frame is the image, or else the numbers, float32
      [n]; beside an image the numbers are its `numbers`.
    is_image: whether the frame is an image.
    bounds: of the numbers, None without any.
  """

  def __init__(self, space: gymnasium.Space, *, image_values: str, height: int, width: int):
    """Works out what becomes of each part.

    Args:
      space: an environment's.
      image_values: 'pixels', 'codes', or 'numbers' where what looks like an image is not one.
      height, width: of images of pixels.

    Raises:
      ConfigurationError: for a part that an agent can't take.
    """
    self._image_values = image_values
    self._size = (width, height)
    self._parts = [self._part(keys, part) for keys, part in _parts(space)]
    images, numbers, texts = (
      [part for part in self._parts if part.kind == kind] for kind in ('image', 'numbers', 'text')
    )
    self._images = [(part, _layout(part.space.shape)) for part in images]
    self._numbers, self._texts = numbers, texts
    self.is_image = bool(images)
    if images and image_values == 'pixels':
      cv2.setNumThreads(1)  # A process of environments is one thread's work.

    count = sum(int(spaces.flatdim(part.space)) for part in numbers)
    if count > _MAX_NUMBERS:
      raise ConfigurationError(
        f'The observations {space} come to {count:_} numbers, more than the {_MAX_NUMBERS:_} that '
        'an agent takes. Wrap the environment so that it gives fewer (a number in place of a large '
        'Discrete).'
      )

    limits = [_bounds(part.space) for part in numbers]
    if not images and not numbers:  # A text alone.
      limits = [Bounds(-np.ones(1, np.float32), np.ones(1, np.float32))]
    self.bounds = Bounds(*map(np.concatenate, zip(*limits, strict=True))) if limits else None

    vector = structs.ArraySpec((len(self.bounds.low) if self.bounds else 0,), np.float32)
    self.spec = structs.Observation(
      structs.ArraySpec(self._image_shape(), np.uint8) if images else vector,
      structs.ArraySpec((), np.bytes_) if texts else (),
      vector if images and numbers else (),
    )

  def __str__(self) -> str:
    """Returns a line for each part: its name, its space and what became of it."""
    rows = [(part.name, _described(part.space), part.fate) for part in self._parts]
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    return '\n'.join(
      f'{name:{widths[0]}}  {space:{widths[1]}}  {fate}' for name, space, fate in rows
    )

  def read(self, value: Any) -> structs.Observation:
    """Returns an observation as the agent sees it.

    Raises:
      ValueError: if it is not of the space in shape or type, or not finite; names the part.
    """
    numbers: Any = ()
    if self.bounds is not None:
      parts = [self._read_numbers(part, _value_of(part, value)) for part in self._numbers]
      numbers = np.concatenate(parts) if parts else np.ones(1, np.float32)
    text = b' '.join(_read_text(part, _value_of(part, value)) for part in self._texts)
    instruction = text if self._texts else ()
    if not self._images:
      return structs.Observation(numbers, instruction)
    images = [self._read_image(part, axes, _value_of(part, value)) for part, axes in self._images]
    frame = images[0] if len(images) == 1 else np.concatenate(images, axis=-1)
    return structs.Observation(frame, instruction, numbers)

  def _part(self, keys, space):
    """Describes a part; raises ConfigurationError if it can't be taken."""
    if isinstance(space, spaces.Text) or (space.dtype is not None and space.dtype.kind in 'US'):
      return _Part(keys, space, 'text', 'a text, to the instruction encoder')

    if isinstance(space, spaces.Box):
      is_image, hint = self._judge(space)
      if is_image and self._image_values == 'codes':
        return _Part(keys, space, 'image', 'an image of codes, one-hot, to the torso')
      if is_image:
        width, height = self._size
        fate = f'an image, to the torso as {height} x {width} pixels'
        return _Part(keys, space, 'image', fate)
      return _Part(keys, space, 'numbers', f'{_count(space.shape)}{hint}')

    if isinstance(space, spaces.MultiBinary):
      return _Part(keys, space, 'numbers', _count(space.shape))
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
      return _Part(keys, space, 'numbers', f'{_count((spaces.flatdim(space),))}, one-hot')

    raise ConfigurationError(
      f'{"/".join(map(str, keys)) or "The observation"} is of the space {space}, which is neither '
      'an image nor numbers of a fixed size nor a text. Wrap the environment so that it gives one '
      'of these (gymnasium.wrappers has TransformObservation and FilterObservation).'
    )

  def _judge(self, space):
    """Returns whether a Box is an image, and what to say if it only looks like one."""
    if len(space.shape) < 2 or self._image_values == 'numbers':
      return False, ''
    hint = f'; not an image: {{}} (shape {space.shape})'
    if _layout(space.shape) is None:
      if len(space.shape) == 2 or not all(space.shape):
        return False, ''
      return False, hint.format(f'no axis of it is as short as channels, {_MAX_CHANNELS} at most')

    if space.dtype == np.uint8:
      return True, ''
    if _range(space) is None:
      return False, hint.format('its values are not all between the same two bounds')
    if len(space.shape) == 2 and min(space.shape) < _MIN_SIDE_OF_GREY:
      return False, ''
    return True, ''

  def _image_shape(self):
    shapes = []
    for part, axes in self._images:
      height, width, *channels = (part.space.shape[axis] for axis in axes)
      if self._image_values == 'pixels':
        width, height = self._size
      shapes.append((height, width, int(np.prod(channels))))

    if len({shape[:2] for shape in shapes}) > 1:
      raise ConfigurationError(
        f'The images of codes are of different sizes, {shapes}, and codes can not be scaled. Take '
        'one of them, or --image_values=numbers.'
      )

    return (*shapes[0][:2], sum(shape[2] for shape in shapes))

  def _read_image(self, part, axes, value):
    image = np.asarray(value)
    if image.shape != part.space.shape:
      raise ValueError(f'{part.name} is of shape {image.shape}, not {part.space.shape}.')
    if self._image_values == 'codes':
      return self._read_codes(part, axes, image)

    low, high = _range(part.space) or (0, 255)
    if (image.dtype, part.space.dtype, low, high) != (np.uint8, np.uint8, 0, 255):
      _check_finite(part, image)
      image = (image - np.float32(low)) * np.float32(255 / (high - low))
      if image.size and not (image.min() > -_TOLERANCE and image.max() < 255 + _TOLERANCE):
        raise ValueError(f'{part.name} has values outside of its bounds, {low:g} and {high:g}.')
      image = np.rint(np.clip(image, 0, 255)).astype(np.uint8)

    image = _channels_last(image, axes)
    return image if image.shape[1::-1] == self._size else _scaled(image, self._size)

  def _read_codes(self, part, axes, image):
    if image.size and not (image.min() >= 0 and image.max() < structs.NUM_CODES):
      raise ValueError(
        f'{part.name} has the code {image.max() if image.min() >= 0 else image.min()}; codes of '
        f'images are from 0 to {structs.NUM_CODES - 1}. Take --image_values=pixels or numbers.'
      )
    return _channels_last(image.astype(np.uint8), axes)

  def _read_numbers(self, part, value):
    space = part.space
    if isinstance(space, spaces.Discrete):
      index = int(np.asarray(value).item()) - int(space.start)
      if not 0 <= index < space.n:
        raise ValueError(f'{part.name} is {value}, which is not of {space}.')
      return np.eye(1, int(space.n), index, dtype=np.float32)[0]

    if isinstance(space, spaces.MultiDiscrete):
      if not space.contains(np.asarray(value, space.dtype)):
        raise ValueError(f'{part.name} is {value}, which is not of {space}.')
      return np.asarray(spaces.flatten(space, np.asarray(value, space.dtype)), np.float32)

    numbers = np.asarray(value, np.float32)
    if numbers.shape != space.shape:
      raise ValueError(f'{part.name} is of shape {numbers.shape}, not {space.shape}.')
    _check_finite(part, numbers)
    return numbers.ravel()


def _parts(space: gymnasium.Space, keys: tuple = ()) -> Iterator[tuple[tuple, gymnasium.Space]]:
  if isinstance(space, spaces.Dict):
    for key, part in space.spaces.items():
      yield from _parts(part, (*keys, key))
  elif isinstance(space, spaces.Tuple):
    for index, part in enumerate(space.spaces):
      yield from _parts(part, (*keys, index))
  else:
    yield keys, space


def _value_of(part, value):
  try:
    for key in part.keys:
      value = value[key]
  except (KeyError, IndexError, TypeError) as error:
    raise ValueError(f'The observation lacks {part.name}, which its space has.') from error
  return value


@functools.cache
def _layout(shape: tuple[int, ...]) -> tuple[int, ...] | None:
  """Returns the axes of an image as height, width and then channels; None if it is not one."""
  if len(shape) == 2:
    return (0, 1) if min(shape) > 1 else None
  if len(shape) == 3:
    for channel, sides in ((2, (0, 1)), (0, (1, 2))):
      if shape[channel] <= _MAX_CHANNELS and shape[channel] < min(shape[side] for side in sides):
        return (*sides, channel)

  if len(shape) == 4:
    for stack, rest in ((0, (1, 2, 3)), (3, (0, 1, 2))):
      inner = _layout(tuple(shape[axis] for axis in rest))
      if inner and shape[stack] <= _MAX_CHANNELS:
        height, width, channel = (rest[axis] for axis in inner)
        return height, width, stack, channel

  return None


def _channels_last(image, axes):
  image = image.transpose(axes)
  return image.reshape(*image.shape[:2], -1)


def _scaled(image, size):
  """Scales an image of any number of channels by area; the size is (width, height)."""
  parts = np.split(image, range(_MAX_CHANNELS_SCALED, image.shape[2], _MAX_CHANNELS_SCALED), axis=2)
  scaled = [
    cv2.resize(np.ascontiguousarray(part), size, interpolation=cv2.INTER_AREA) for part in parts
  ]
  # The library drops a single channel.
  return np.concatenate([part.reshape(*size[::-1], -1) for part in scaled], axis=2)


def _range(space):
  """Returns the bounds that all values of a Box share; None if they do not, or there are none."""
  low, high = float(space.low.flat[0]), float(space.high.flat[0])
  if not (np.all(space.low == low) and np.all(space.high == high)):
    return None
  return (low, high) if low < high and high - low < _UNBOUNDED else None


def _bounds(space):
  if isinstance(space, spaces.Box):
    low, high = (np.asarray(limit, np.float32).ravel() for limit in (space.low, space.high))
    with np.errstate(over='ignore', invalid='ignore'):
      is_bounded = (high > low) & (high - low < _UNBOUNDED)
    return Bounds(np.where(is_bounded, low, -np.inf), np.where(is_bounded, high, np.inf))
  ones = np.ones(spaces.flatdim(space), np.float32)
  return Bounds(-ones, ones)


def _check_finite(part, array):
  if array.dtype.kind == 'f' and not np.isfinite(array).all():
    raise ValueError(f'{part.name} is not finite: it has {array[~np.isfinite(array)][0]}.')


def _read_text(part, value):
  if isinstance(value, bytes):
    return value
  if not isinstance(value, str):
    raise ValueError(f'{part.name} is a {type(value).__name__}, not a text.')
  return value.encode()


def _count(shape):
  count = int(np.prod(shape))
  return f'{count} number{"" if count == 1 else "s"}'


def _described(space):
  if isinstance(space, spaces.Box):
    limits = f'{space.low.min():g} to {space.high.max():g}'
    return f'Box{space.shape} of {space.dtype}, {limits}'
  if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
    return str(space)
  return type(space).__name__
