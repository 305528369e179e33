"""A Gymnasium environment as `base.Environment`."""

import collections
from typing import TypeGuard

import cv2
import gymnasium
import numpy as np

from impala_tf import structs
from impala_tf.config import ConfigurationError
from impala_tf.environments import base


class GymnasiumEnvironment:
  """An environment with discrete actions.

  Observations that are images, uint8 [height, width] with 1, 3 or 4 channels or none, are scaled by
  area to the size that is asked for, and the last ones stacked along the channels, the newest last.
  All others are flattened to one vector, float32 [n], in the way of Gymnasium's own wrapper, in
  which a discrete one is one-hot.

  An episode that is cut by its time limit is marked so, and the value of its last observation
  counts.
  """

  def __init__(
    self,
    name: str,
    seed: int,
    *,
    num_action_repeats: int = 1,
    frame_stack: int = 1,
    height: int = 84,
    width: int = 84,
    repeat_action_probability: float = 0.0,
  ):
    """Makes the environment.

    Args:
      name: what `gymnasium.make` takes.
      seed: of its first reset, from which all later ones follow.
      num_action_repeats: how often each action is taken; the rewards are added up.
      frame_stack: number of images in an observation.
      height: of images, pixels.
      width: of images, pixels.
      repeat_action_probability: with which the environment takes the action before instead.

    Raises:
      ConfigurationError: if its actions are not discrete, or its observations neither images nor to
        be flattened.
      gymnasium.error.Error: if it can't be made.
    """
    environment: gymnasium.Env = gymnasium.make(name)
    actions = environment.action_space
    if not isinstance(actions, gymnasium.spaces.Discrete):
      raise ConfigurationError(
        f'{name} has the actions {actions}; the policy chooses among discrete ones only.'
      )
    if repeat_action_probability:
      environment = gymnasium.wrappers.StickyAction(environment, repeat_action_probability)
    self._first_action = int(actions.start)
    self._num_action_repeats = num_action_repeats
    self._seed: int | None = seed
    self._size = (width, height)
    self._images: collections.deque | None = None

    space = environment.observation_space
    if is_image(space):
      channels = (*space.shape, 1)[2]
      cv2.setNumThreads(1)  # A process of environments is one thread's work.
      self._images = collections.deque(maxlen=frame_stack)
      spec = structs.ArraySpec((height, width, channels * frame_stack), np.uint8)
    else:
      if not _is_flattenable(space):
        raise ConfigurationError(
          f'{name} has the observations {space}, which are neither images nor can be made a vector.'
        )
      environment = gymnasium.wrappers.FlattenObservation(environment)
      spec = structs.ArraySpec(environment.observation_space.shape or (), np.float32)
    self._environment = environment
    self.num_actions = int(actions.n)
    self.observation_spec = structs.Observation(spec)

  def reset(self) -> structs.Observation:
    """Starts an episode. The older images of a stack are black."""
    observation, _ = self._environment.reset(seed=self._seed)
    self._seed = None
    if self._images is not None:
      black = np.zeros_like(self._scaled(observation))
      self._images.extend([black] * (self._images.maxlen or 0))
    return self._observe(observation)

  def step(self, action: int) -> base.Transition:
    """Repeats an action until the episode ends."""
    total = 0.0
    for _ in range(self._num_action_repeats):
      observation, reward, terminated, truncated, _ = self._environment.step(
        self._first_action + action
      )
      total += float(reward)
      if terminated or truncated:
        break
    over = bool(terminated or truncated)
    return base.Transition(
      self._observe(observation), total, over, over, truncated=bool(truncated and not terminated)
    )

  def close(self) -> None:
    """Closes it."""
    self._environment.close()

  def _observe(self, observation):
    if self._images is None:
      return structs.Observation(np.asarray(observation, np.float32))
    self._images.append(self._scaled(observation))
    return structs.Observation(np.concatenate(self._images, axis=-1))

  def _scaled(self, image):
    scaled = cv2.resize(image, self._size, interpolation=cv2.INTER_AREA)
    return scaled.reshape(*scaled.shape[:2], -1)  # The library drops a single channel.


def _is_flattenable(space):
  try:
    return space.is_np_flattenable
  except NotImplementedError:  # Spaces that other packages define need not say.
    return False


def is_image(space: gymnasium.Space) -> TypeGuard[gymnasium.spaces.Box]:
  """Returns whether observations of a space are images as `GymnasiumEnvironment` takes them."""
  if not isinstance(space, gymnasium.spaces.Box) or space.dtype != np.uint8:
    return False
  shape = space.shape
  return len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
