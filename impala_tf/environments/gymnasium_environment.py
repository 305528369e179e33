"""A Gymnasium environment as `base.Environment`."""

import collections
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from impala_tf import errors, structs
from impala_tf.config import ConfigurationError
from impala_tf.environments import base, gymnasium_spaces

_OLD_API = (
  "It seems to have the interface of the old Gym: Gymnasium's `reset` returns (observation, info) "
  'and `step` (observation, reward, terminated, truncated, info).'
)


class WrongOutputError(errors.UserError, ValueError):
  """An observation or a reward is not as the environment's space says, or not finite."""


class GymnasiumEnvironment:
  """An environment with discrete actions.

  What its observations become is in `gymnasium_spaces`. The last images are stacked along the
  channels, the newest last. An episode that is cut by its time limit is marked so, and the value of
  its last observation counts.

  Attributes:
    space: `gymnasium_spaces.ObservationSpace`.
    frames_per_second: of films, the environment's own number where it has one, for each of its
      steps.
    max_episode_steps: time limit in steps of its own, None if it has none that Gymnasium knows.
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
    image_values: str = 'pixels',
    repeat_action_probability: float = 0.0,
    max_episode_steps: int = 0,
    env_kwargs: Mapping[str, Any] | None = None,
  ):
    """Makes the environment.

    Args:
      name: what `gymnasium.make` takes.
      seed: of its first reset, from which all later ones follow.
      num_action_repeats: how often each action is taken; the rewards are added up.
      frame_stack: number of images in an observation.
      height: of images, pixels.
      width: of images, pixels.
      image_values: as for `gymnasium_spaces.ObservationSpace`.
      repeat_action_probability: with which the environment takes the action before instead.
      max_episode_steps: its steps after which an episode is cut, 0 for its own limit.
      env_kwargs: arguments of its constructor.

    Raises:
      ConfigurationError: if its actions are not discrete, or its observations not for an agent.
      Exception: of any class, if it can't be made.
    """
    environment: gymnasium.Env = gymnasium.make(
      name, max_episode_steps=max_episode_steps or None, **(env_kwargs or {})
    )
    actions = environment.action_space
    if not isinstance(actions, gymnasium.spaces.Discrete):
      raise ConfigurationError(
        f'{name} has the actions {actions}; the policy chooses among discrete ones only. Wrap the '
        'environment so that it has a Discrete of the actions to choose from.'
      )

    if repeat_action_probability:
      environment = gymnasium.wrappers.StickyAction(environment, repeat_action_probability)
    self._environment = environment
    self._name = name
    render_fps = float(environment.metadata.get('render_fps') or 30)
    self.frames_per_second = render_fps / num_action_repeats
    self._first_action = int(actions.start)
    self._num_action_repeats = num_action_repeats
    self._seed: int | None = seed
    self._episodes = self._steps = 0

    self.num_actions = int(actions.n)
    self.max_episode_steps = environment.spec and environment.spec.max_episode_steps
    self.space = gymnasium_spaces.ObservationSpace(
      environment.observation_space, image_values=image_values, height=height, width=width
    )
    self.observation_spec = self.space.spec
    self._frames: collections.deque | None = None
    if self.space.is_image:
      self._frames = collections.deque(maxlen=frame_stack)
      *sides, channels = self.space.spec.frame.shape
      frame = structs.ArraySpec((*sides, channels * frame_stack), np.uint8)
      self.observation_spec = self.space.spec._replace(frame=frame)

  def reset(self) -> structs.Observation:
    """Starts an episode. The older images of a stack are black.

    Raises:
      WrongOutputError: for an observation that is not of its space, or not finite.
    """
    self._episodes += 1
    self._steps = 0
    result = self._environment.reset(seed=self._seed)
    self._seed = None
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
      raise WrongOutputError(f'{self._name}: `reset` returned {type(result).__name__}. {_OLD_API}')
    observation = self._read(result[0])
    if self._frames is not None:
      black = np.zeros_like(observation.frame)
      self._frames.extend([black] * (self._frames.maxlen or 0))
    return self._stacked(observation)

  def step(self, action: int) -> base.Transition:
    """Repeats an action until the episode ends.

    Raises:
      WrongOutputError: for an observation or a reward that is not as it should be, or not finite.
    """
    total = 0.0
    for _ in range(self._num_action_repeats):
      result = self._take(self._first_action + action)
      self._steps += 1
      if not isinstance(result, tuple) or len(result) != 5:
        raise WrongOutputError(f'{self._name}: `step` returned {_size(result)}. {_OLD_API}')
      observation, reward, terminated, truncated, _ = result
      total += self._number(reward)
      if terminated or truncated:
        break

    over = bool(terminated or truncated)
    return base.Transition(
      self._stacked(self._read(observation)),
      total,
      over,
      over,
      truncated=bool(truncated and not terminated),
    )

  def render(self) -> np.ndarray:
    """Returns a picture of now, uint8 [height, width, 3] with even sides, as films need them.

    Raises:
      WrongOutputError: if the environment gives none.
    """
    picture = self._environment.render()
    if not (isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.shape[2] == 3):
      raise WrongOutputError(
        f'{self._name} gives no pictures: `render` returned {type(picture).__name__} in its mode '
        f'{self._environment.render_mode!r}.'
      )
    height, width = (side - side % 2 for side in picture.shape[:2])
    return np.asarray(picture[:height, :width], np.uint8)

  def close(self) -> None:
    """Closes it."""
    self._environment.close()

  def _take(self, action):
    try:
      return self._environment.step(action)
    except ValueError as error:
      if 'to unpack' not in str(error):
        raise
      # A wrapper of Gymnasium's own takes the five apart before they arrive here.
      raise WrongOutputError(f'{self._name}: `step`: {error}. {_OLD_API}') from error

  def _read(self, observation):
    try:
      return self.space.read(observation)
    except ValueError as error:
      raise WrongOutputError(f'{self._where()} gave a wrong observation: {error}') from error

  def _number(self, reward):
    try:
      number = float(np.asarray(reward, np.float64).item())
    except (TypeError, ValueError) as error:
      raise WrongOutputError(
        f'{self._where()} gave the reward {reward!r}, not a number.'
      ) from error
    if not np.isfinite(number):
      raise WrongOutputError(f'{self._where()} gave the reward {number}, which is not finite.')
    return number

  def _where(self):
    return f'{self._name}, at step {self._steps} of episode {self._episodes},'

  def _stacked(self, observation):
    if self._frames is None:
      return observation
    self._frames.append(observation.frame)
    return observation._replace(frame=np.concatenate(self._frames, axis=-1))


def _size(result):
  return f'{len(result)} values' if isinstance(result, tuple) else type(result).__name__
