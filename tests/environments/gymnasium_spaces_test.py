"""Spaces of Gymnasium: what an agent sees of their observations."""

import numpy as np
import pytest
from gymnasium import spaces

from impala_tf import structs
from impala_tf.config import ConfigurationError
from impala_tf.environments.gymnasium_spaces import ObservationSpace


def taken(space, image_values='pixels', height=20, width=30):
  return ObservationSpace(space, image_values=image_values, height=height, width=width)


def picture(channels):
  """Values from 0 to 255, all pixels and channels different, [20, 30, channels]."""
  values = np.linspace(0, 255, 20 * 30 * channels)
  return np.random.default_rng(0).permutation(values).reshape(20, 30, channels).astype(np.uint8)


LAYOUTS = {
  'grey': lambda p: p[:, :, 0],
  'channels last': lambda p: p,
  'channels first': lambda p: np.moveaxis(p, 2, 0),
  'a stack of grey ones': lambda p: np.moveaxis(p, 2, 0)[:, np.newaxis],
  'a stack, channels last': lambda p: np.stack([p[:, :, :3], p[:, :, 3:]]),
  'a stack, channels first': lambda p: np.moveaxis(np.stack([p[:, :, :3], p[:, :, 3:]]), 3, 1),
}


@pytest.mark.parametrize('values', ['uint8', 'float in [0, 255]', 'float in [0, 1]', '[-1, 1]'])
@pytest.mark.parametrize(
  ('layout', 'channels'),
  [
    ('grey', 1),
    *(('channels last', count) for count in (1, 3, 4, 12)),
    *(('channels first', count) for count in (3, 4, 12)),
    ('a stack of grey ones', 4),
    ('a stack, channels last', 6),
    ('a stack, channels first', 6),
  ],
)
def test_images_of_any_layout_are_seen_as_they_are(layout, channels, values):
  pixels = picture(channels)
  low, high, dtype = {
    'uint8': (0, 255, np.uint8),
    'float in [0, 255]': (0, 255, np.float32),
    'float in [0, 1]': (0, 1, np.float64),
    '[-1, 1]': (-1, 1, np.float32),
  }[values]
  given = LAYOUTS[layout](pixels)
  given = (given / 255 * (high - low) + low if dtype != np.uint8 else given).astype(dtype)
  space = taken(spaces.Box(low, high, given.shape, dtype))
  assert space.spec == structs.Observation(structs.ArraySpec((20, 30, channels), np.uint8))
  np.testing.assert_array_equal(space.read(given).frame, pixels)
  assert '20 x 30 pixels' in str(space)


def test_images_are_scaled_by_area_and_several_put_together():
  space = taken(
    spaces.Dict(
      {'a': spaces.Box(0, 255, (40, 60, 3), np.uint8), 'b': spaces.Box(0, 1, (4, 80, 90))}
    )
  )
  a = np.repeat(np.repeat(picture(3), 2, 0), 2, 1)
  frame = space.read({'a': a, 'b': np.full((4, 80, 90), 0.2, np.float32)}).frame
  assert frame.shape == space.spec.frame.shape == (20, 30, 7)
  np.testing.assert_array_equal(frame[..., :3], picture(3))
  assert (frame[..., 3:] == 51).all()


@pytest.mark.parametrize(
  ('space', 'said'),
  [
    (spaces.Box(-np.inf, np.inf, (5, 5)), '25 numbers'),
    (spaces.Box(0, 1, (5, 5)), '25 numbers'),
    (spaces.Box(0, 255, (9,), np.uint8), '9 numbers'),
    (spaces.Box(-np.inf, np.inf, (20, 30, 3)), 'the same two bounds (shape (20, 30, 3))'),
    (spaces.Box(0, 255, (8, 8, 111), np.uint8), 'channels, 12 at most (shape (8, 8, 111))'),
  ],
)
def test_what_is_not_an_image_is_numbers_and_says_so(space, said):
  ours = taken(space)
  assert ours.spec.frame == structs.ArraySpec((int(np.prod(space.shape)),), np.float32)
  assert said in str(ours)
  value = np.arange(np.prod(space.shape)).reshape(space.shape) % 7
  np.testing.assert_array_equal(ours.read(value.astype(space.dtype)).frame, value.ravel())


def test_images_may_be_declared_numbers_or_codes():
  space = spaces.Box(0, 255, (7, 7, 3), np.uint8)
  codes = np.random.default_rng(0).integers(structs.NUM_CODES, size=(7, 7, 3), dtype=np.uint8)
  assert taken(space).spec.frame.shape == (20, 30, 3)
  seen = taken(space, 'codes').read(codes)
  np.testing.assert_array_equal(seen.frame, codes)
  seen = taken(space, 'numbers').read(codes)
  np.testing.assert_array_equal(seen.frame, codes.ravel())
  with pytest.raises(ValueError, match=f'code {structs.NUM_CODES}'):
    taken(space, 'codes').read(np.full((7, 7, 3), structs.NUM_CODES, np.uint8))


def test_a_dict_is_taken_apart():
  space = spaces.Dict(
    {
      'camera': spaces.Box(0, 255, (20, 30, 3), np.uint8),
      'direction': spaces.Discrete(4, start=10),
      'mission': spaces.Text(50),
      'rest': spaces.Tuple(
        [
          spaces.Box(np.array([-2.0, -np.inf], np.float32), np.array([4.0, np.inf], np.float32)),
          spaces.MultiDiscrete([2, 3]),
          spaces.MultiBinary(2),
          spaces.Text(9),
        ]
      ),
    }
  )
  ours = taken(space)
  value = {
    'camera': picture(3),
    'direction': np.array([11]),
    'mission': 'go to the door',
    'rest': ([3.0, -7.5], [1, 2], [0, 1], 'now'),
  }
  seen = ours.read(value)
  np.testing.assert_array_equal(seen.frame, picture(3))
  assert seen.numbers.tolist() == [0, 1, 0, 0, 3.0, -7.5, 0, 1, 0, 0, 1, 0, 1]
  assert seen.instruction == b'go to the door now'
  assert ours.spec == structs.Observation(
    structs.ArraySpec((20, 30, 3), np.uint8),
    structs.ArraySpec((), np.bytes_),
    structs.ArraySpec((13,), np.float32),
  )
  # Only the numbers of the Box have bounds of their own.
  assert ours.bounds.low.tolist() == [-1] * 4 + [-2, -np.inf] + [-1] * 7
  assert ours.bounds.high.tolist() == [1] * 4 + [4, np.inf] + [1] * 7
  for word in ('camera', 'direction', 'rest/0', 'rest/1', 'one-hot', 'instruction encoder'):
    assert word in str(ours)


def test_a_text_alone_has_a_frame_of_one_number():
  ours = taken(spaces.Text(20))
  assert ours.spec.frame.shape == ours.read('left').frame.shape == (1,)
  assert ours.read('left').instruction == b'left'


@pytest.mark.parametrize(
  ('space', 'message'),
  [
    (spaces.Sequence(spaces.Discrete(2)), 'Wrap the environment'),
    (spaces.Dict({'deep': spaces.Tuple([spaces.Graph(spaces.Box(0, 1), None)])}), 'deep/0'),
    (spaces.Discrete(10**7), '10_000_000 numbers'),
  ],
)
def test_what_an_agent_can_not_take_is_refused_with_a_way_forward(space, message):
  with pytest.raises(ConfigurationError, match=message):
    taken(space)


BOX = spaces.Box(-1, 1, (2,))
IMAGE = spaces.Box(0, 1, (20, 30, 3))


@pytest.mark.parametrize(
  ('space', 'value', 'message'),
  [
    (BOX, [0.0, np.nan], 'nan'),
    (BOX, [np.inf, 0.0], 'inf'),
    (BOX, [0.0, 0.0, 0.0], r'shape \(3,\)'),
    (IMAGE, np.full((20, 30, 3), np.nan), 'nan'),
    (IMAGE, np.zeros((3, 20, 30)), r'shape \(3, 20, 30\)'),
    (spaces.Discrete(3), 3, 'observation is 3'),
    (spaces.Text(5), 7, 'not a text'),
    (spaces.Dict({'a': BOX, 'b': BOX}), {'a': [0.0, 0.0]}, 'lacks b'),
  ],
)
def test_an_observation_of_another_space_is_named(space, value, message):
  with pytest.raises(ValueError, match=message):
    taken(space).read(value)


def test_observations_may_be_of_other_types_than_declared():
  assert taken(BOX).read([0, 1]).frame.tolist() == [0.0, 1.0]
  assert taken(BOX).read(np.array([0.5, 1], np.float64)).frame.dtype == np.float32
  space = taken(spaces.Box(0, 255, (20, 30, 3), np.uint8))
  np.testing.assert_array_equal(space.read(picture(3).astype(np.float64)).frame, picture(3))
  assert taken(spaces.Discrete(3)).read(np.int64(2)).frame.tolist() == [0, 0, 1]


@pytest.mark.parametrize('high', [1, 100])
def test_bytes_with_other_bounds_than_255_are_scaled_by_them(high):
  pixels = (picture(3).astype(int) * high // 255).astype(np.uint8)
  frame = taken(spaces.Box(0, high, pixels.shape, np.uint8)).read(pixels).frame
  assert np.abs(frame - pixels * (255 / high)).max() < 0.51


@pytest.mark.parametrize('channels', [1, 2, 4, 5, 8, 9, 12])
def test_any_number_of_channels_is_scaled(channels):
  pixels = picture(channels)
  space = taken(spaces.Box(0, 255, pixels.shape, np.uint8), height=13, width=11)
  frame = space.read(pixels).frame
  assert frame.shape == space.spec.frame.shape == (13, 11, channels)
  each = [
    taken(spaces.Box(0, 255, (20, 30), np.uint8), height=13, width=11).read(pixels[..., i]).frame
    for i in range(channels)
  ]
  np.testing.assert_array_equal(frame, np.concatenate(each, -1))


@pytest.mark.parametrize('value', [5.0, -0.5])
def test_pixels_outside_of_their_bounds_are_refused(value):
  space = taken(spaces.Dict({'view': spaces.Box(0, 1, (20, 30, 3))}))
  image = np.ones((20, 30, 3), np.float32)
  image[0, 0, 0] = 1.0001  # As by rounding.
  assert (space.read({'view': image}).frame == 255).all()
  image[3, 4, 1] = value
  with pytest.raises(ValueError, match='view has values outside of its bounds, 0 and 1'):
    space.read({'view': image})


@pytest.mark.parametrize('value', [(4, 0), (0, -1), (3, 0)])
def test_codes_of_several_kinds_are_refused_out_of_their_range(value):
  space = taken(spaces.MultiDiscrete([3, 3]))
  assert space.read(np.array([2, 0])).frame.tolist() == [0, 0, 1, 1, 0, 0]
  with pytest.raises(ValueError, match='MultiDiscrete'):
    space.read(np.array(value))


def test_a_discrete_of_billions_is_refused_without_making_an_array_of_it():
  with pytest.raises(ConfigurationError, match='come to 1_000_000_000_000 numbers'):
    taken(spaces.Discrete(10**12))
