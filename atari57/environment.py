"""Atari games as the paper's agents saw them (Table G.1), on the Arcade Learning Environment
itself.

Gymnasium's wrappers are not used. Theirs reset the whole game when a life is lost, which cuts
returns to lives; their environment's defaults are sticky actions and a frame skip of its own under
the wrapper's; and each layer costs time. Here every setting of the emulator is stated.
"""

import collections
import functools

import ale_py
import cv2
import numpy as np

from atari57 import games
from impala_tf import structs
from impala_tf.environments import base

MAX_EPISODE_FRAMES = 108_000  # Half an hour of play.

_NUM_ALL_ACTIONS = 18


class AtariEnvironment:
  """One game. Observations are uint8 [height, width, frame_stack], the newest frame last.

  A frame is the maximum of the last two of the repeated action's emulator frames (objects flicker
  on this console), in grey, scaled by area. After a reset the older frames of the stack are zero.
  Rewards are the game's points.

  The start of an episode is made different by a number of no-operation frames; by default nothing
  else is left to chance.
  """

  def __init__(
    self,
    game: str,
    seed: int,
    *,
    is_test: bool = False,
    full_action_space: bool = False,
    num_action_repeats: int = 4,
    max_noops: int = 30,
    frame_stack: int = 4,
    height: int = 84,
    width: int = 84,
    repeat_action_probability: float = 0.0,
    max_episode_frames: int = MAX_EPISODE_FRAMES,
  ):
    """Loads the game.

    Args:
      game: any spelling that `games.find` knows.
      seed: non-negative int, of the emulator and the number of no-operations.
      is_test: whether the loss of a life is ignored. In training it is `done`, while the game
        continues.
      full_action_space: whether to have the console's 18 actions, as the paper's multi-task agent,
        instead of those that do something in this game, as its experts.
      num_action_repeats: emulator frames a step.
      max_noops: an episode starts with 1..max_noops frames without action, drawn uniformly; 0 for
        none.
      frame_stack: number of frames in an observation.
      height: of an observation, pixels.
      width: of an observation, pixels.
      repeat_action_probability: with which each emulator frame takes the action of the frame before
        ('sticky actions', Machado et al., 2018).
      max_episode_frames: emulator frames, those without action included, after which a game is
        ended.

    Raises:
      ValueError: if the game is unknown or a number is out of its range.
    """
    for name, value, least in (
      ('seed', seed, 0),
      ('num_action_repeats', num_action_repeats, 1),
      ('max_noops', max_noops, 0),
      ('frame_stack', frame_stack, 1),
      ('height', height, 1),
      ('width', width, 1),
      ('max_episode_frames', max_episode_frames, max_noops + 1),
    ):
      if value < least:
        raise ValueError(f'{name} must be at least {least}, not {value}.')

    cv2.setNumThreads(1)  # a process of environments is one thread's work
    emulator_seed, noop_seed = np.random.SeedSequence(seed).generate_state(2)
    self._random = np.random.default_rng(noop_seed)
    self._ale = _load(
      games.find(game).name, int(emulator_seed >> 1), max_episode_frames, repeat_action_probability
    )
    self._actions = (
      _full_actions(self._ale) if full_action_space else self._ale.getMinimalActionSet()
    )
    self._is_test = is_test
    self._num_action_repeats = num_action_repeats
    self._max_noops = max_noops
    self._size = (width, height)
    self._lives = 0
    screen_shape = self._ale.getScreenDims()
    self._screen = np.zeros(screen_shape, np.uint8)
    self._screen_before = np.zeros(screen_shape, np.uint8)
    self._blank = np.zeros((height, width), np.uint8)
    self._stack: collections.deque[np.ndarray] = collections.deque(maxlen=frame_stack)
    self._frame_stack = frame_stack
    self.num_actions = len(self._actions)
    self.observation_spec = structs.Observation(
      structs.ArraySpec((height, width, frame_stack), np.uint8)
    )

  def reset(self) -> structs.Observation:
    """Starts a game and lets its no-operation frames pass."""
    self._ale.reset_game()
    if self._max_noops:
      for _ in range(self._random.integers(1, self._max_noops, endpoint=True)):
        self._ale.act(ale_py.Action.NOOP)
        if self._ale.game_over():
          self._ale.reset_game()
    self._lives = self._ale.lives()
    self._stack.extend([self._blank] * self._frame_stack)
    self._ale.getScreenGrayscale(self._screen)
    return self._observe()

  def step(self, action: int) -> base.Transition:
    """Repeats an action, an index of the action set. ValueError if there is no such action."""
    # The emulator would take an unknown action for none.
    if not 0 <= action < self.num_actions:
      raise ValueError(f'Action {action} is not in 0..{self.num_actions - 1}.')
    chosen = self._actions[action]
    reward = 0
    for remaining in range(self._num_action_repeats - 1, -1, -1):
      # Once the game is over nothing happens any more, and the reward is 0.
      reward += self._ale.act(chosen)
      # With a single repeat this screen stays black.
      if remaining == 1:
        self._ale.getScreenGrayscale(self._screen_before)

    finished = self._ale.game_over()
    self._ale.getScreenGrayscale(self._screen)
    np.maximum(self._screen, self._screen_before, out=self._screen)
    lives = self._ale.lives()
    lost_life = lives < self._lives
    self._lives = lives
    done = finished or (lost_life and not self._is_test)
    return base.Transition(self._observe(), float(reward), done, finished)

  def render(self) -> np.ndarray:
    """Returns the console's screen, uint8 [210 or 250, 160, 3], as of the last frame."""
    return self._ale.getScreenRGB()

  def close(self) -> None:
    """Frees nothing: Python does."""

  def _observe(self):
    self._stack.append(cv2.resize(self._screen, self._size, interpolation=cv2.INTER_AREA))
    return structs.Observation(cv2.merge(self._stack).reshape(self.observation_spec.frame.shape))


@functools.cache  # To load a game takes 0.15 s of a processor.
def num_actions(game: str, full_action_space: bool) -> int:
  """Returns the number of actions that an `AtariEnvironment` of this game will have, 18 with the
  full action space.
  """
  if full_action_space:
    return _NUM_ALL_ACTIONS
  # With the usual cap: the emulator starts double_dunk by playing on until its menu is left, for
  # ever if the game may not last.
  ale = _load(
    games.find(game).name,
    seed=1,
    max_episode_frames=MAX_EPISODE_FRAMES,
    repeat_action_probability=0.0,
  )
  return len(ale.getMinimalActionSet())


def _load(
  rom: str, seed: int, max_episode_frames: int, repeat_action_probability: float
) -> ale_py.ALEInterface:
  ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # it greets on stderr, once a process
  ale = ale_py.ALEInterface()
  ale.setInt('random_seed', seed)
  # The repeats are this module's, which needs the last two frames of them.
  ale.setInt('frame_skip', 1)
  ale.setInt('max_num_frames_per_episode', max_episode_frames)
  ale.setFloat('repeat_action_probability', repeat_action_probability)
  ale.setBool('color_averaging', False)
  ale.setBool('truncate_on_loss_of_life', False)
  path = ale_py.roms.get_rom_path(rom)
  assert path is not None
  ale.loadROM(path)
  return ale


def _full_actions(ale: ale_py.ALEInterface) -> list[ale_py.Action]:
  """Returns the console's 18 actions, or what stands for them in games that do not read the button.

  The emulator lists nine actions for Skiing, those without FIRE, and takes the others for no
  action; the console would move as the stick says. An agent for all games keeps 18 outputs, and
  there FIRE does nothing but leave the stick as it is.
  """
  legal = set(ale.getLegalActionSet())
  actions = []
  for number in range(_NUM_ALL_ACTIONS):
    action = ale_py.Action(number)
    if action not in legal:
      action = ale_py.Action.__members__[action.name.replace('FIRE', '') or 'NOOP']
    actions.append(action)
  return actions
