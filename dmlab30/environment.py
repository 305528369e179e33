"""DeepMind Lab levels as the paper's agents saw them (Tables D.2 and D.3).

DeepMind Lab is a native program with a Python module that users build themselves; this module
imports it when the first environment is made. It never lets go of Python's interpreter lock, and
must not be forked while an environment lives: give each environment a process of its own.
"""

import importlib.util
import os
import shutil
import tempfile
from typing import Any

import numpy as np
import psutil

from dmlab30 import level_cache, levels
from impala_tf import structs
from impala_tf.config import ConfigurationError
from impala_tf.environments import base

# Table D.2. Each is a row of: look left/right and down/up in pixels a frame, strafe left/right,
# move back/forward, fire, jump, crouch. DeepMind Lab takes C integers and reads seven of them in a
# row, for any strides of the array.
ACTIONS = np.array(
  [
    (0, 0, 0, 1, 0, 0, 0),  # forward
    (0, 0, 0, -1, 0, 0, 0),  # backward
    (0, 0, -1, 0, 0, 0, 0),  # strafe left
    (0, 0, 1, 0, 0, 0, 0),  # strafe right
    (-20, 0, 0, 0, 0, 0, 0),  # look left
    (20, 0, 0, 0, 0, 0, 0),  # look right
    (-20, 0, 0, 1, 0, 0, 0),  # forward and look left
    (20, 0, 0, 1, 0, 0, 0),  # forward and look right
    (0, 0, 0, 0, 1, 0, 0),  # fire
  ],
  np.intc,
  order='C',
)
ACTIONS.flags.writeable = False

# Of tests, as in the authors' code: DeepMind Lab mixes it into every seed, so that tests show what
# training never does.
TEST_MIXER_SEED = 0x600D5EED

_FRAME, _INSTRUCTION = 'RGB_INTERLEAVED', 'INSTR'
_SCRIPTS = 'baselab/game_scripts/levels'  # In the installed package.
_FOLDER_PREFIX = 'environment_'
_HOW_TO_INSTALL = (
  'It is built from source: https://github.com/google-deepmind/lab, `python/pip_package`; with '
  'Python 3.13 `pip install dmlab-gym && dmlab-gym build` does it in a container. '
  'dmlab30/README.md says more.'
)


def check_installed(level: str = 'this level') -> None:
  """Raises ConfigurationError, which names a level, if there is no module `deepmind_lab`. It is not
  imported.
  """
  if importlib.util.find_spec('deepmind_lab') is None:
    raise ConfigurationError(
      f'DeepMind Lab, which {level} runs on, is not installed. {_HOW_TO_INSTALL}'
    )


def check_script(name: str) -> None:
  """Raises ConfigurationError if there is no level script of that name.

  Args:
    name: as `levels.script` gives it. The engine looks for it among its own scripts, unless it ends
      in `.lua`: then it is the path of a file.
  """
  spec = importlib.util.find_spec('deepmind_lab')
  folder = os.path.join(os.path.dirname((spec and spec.origin) or ''), _SCRIPTS)
  is_path = name.endswith('.lua')
  path = name if is_path else f'{folder}/{name}.lua'
  # Other builds have their scripts elsewhere.
  if (is_path or os.path.isdir(folder)) and not os.path.exists(path):
    raise ConfigurationError(
      f'There is no level script {name!r}: {path} does not exist. Correct --level_name; a script '
      "outside of DeepMind Lab's folder is given by its path with .lua."
    )


def observation_spec(height: int, width: int) -> structs.Observation:
  """Returns the observations of a `DMLabEnvironment`: uint8 [height, width, 3] and a string."""
  return structs.Observation(
    structs.ArraySpec((height, width, 3), np.uint8), structs.ArraySpec((), np.bytes_)
  )


class DMLabEnvironment:
  """One level, a `base.Environment`. The instruction is empty in levels without language.

  Every episode has a seed of its own. There is no frame after the last step of an episode.
  """

  num_actions = len(ACTIONS)

  def __init__(
    self,
    level: str,
    seed: int,
    *,
    is_test: bool = False,
    num_action_repeats: int = 4,
    height: int = 72,
    width: int = 96,
    dataset_path: str = '',
    renderer: str = 'software',
    cache: level_cache.LevelCache | None = None,
    temp_folder: str | None = None,
  ):
    """Loads the level.

    Args:
      level: a name from `levels.find`.
      seed: non-negative int, of the generator that gives each episode its seed.
      is_test: whether to play the version for tests, with held-out objects and seeds.
      num_action_repeats: engine frames a step.
      height: of an observation, pixels.
      width: of an observation, pixels.
      dataset_path: folder with the images that two levels need, 'dummy' for plain colours, '' if
        there is none.
      renderer: 'software' or 'hardware'.
      cache: of compiled maps, or None.
      temp_folder: existing folder in which to make one for the engine's files, and in which those
        of environments whose processes were killed are removed; the system's by default, where
        nothing is removed.

    Raises:
      ConfigurationError: if DeepMind Lab is not installed or can't be imported.
      RuntimeError: by DeepMind Lab, if it doesn't know the level or a setting.
    """
    self.observation_spec = observation_spec(height, width)
    self._num_action_repeats = num_action_repeats
    self._random = np.random.default_rng(seed)
    self._cache = cache
    self._observation: structs.Observation | None = None
    self._lab: Any = None  # The engine, until `close`.

    # As in the authors' code: by default the engine tells standard output what it loads.
    config: dict[str, Any] = {'width': width, 'height': height, 'logLevel': 'WARN'}
    if dataset_path:
      # The engine need not have this process's working folder.
      config['datasetPath'] = (
        dataset_path if dataset_path == 'dummy' else os.path.abspath(dataset_path)
      )

    if is_test:
      config |= {'allowHoldOutLevels': 'true', 'mixerSeed': TEST_MIXER_SEED}
    module = _import_deepmind_lab()

    # DeepMind Lab leaves its files behind when its process is killed.
    if temp_folder:
      _remove_folders_of_the_dead(temp_folder)
    self._folder = tempfile.mkdtemp(prefix=f'{_FOLDER_PREFIX}{os.getpid()}_', dir=temp_folder)
    try:
      self._lab = module.Lab(
        levels.script(level, is_test),
        [_FRAME, _INSTRUCTION],
        config={name: str(value) for name, value in config.items()},
        renderer=renderer,
        level_cache=cache,
        temp_folder=self._folder,
      )
    except BaseException:
      self.close()
      raise

  def reset(self) -> structs.Observation:
    """Starts an episode, which can take seconds: the level may have to be compiled."""
    self._lab.reset(seed=int(self._random.integers(2**31)))
    return self._observe()

  def step(self, action: int) -> base.Transition:
    """Repeats an action, a row of `ACTIONS`. ValueError if there is no such action."""
    if not 0 <= action < self.num_actions:
      raise ValueError(f'Action {action} is not in 0..{self.num_actions - 1}.')
    reward = self._lab.step(ACTIONS[action], num_steps=self._num_action_repeats)
    finished = not self._lab.is_running()
    # After its end an episode does not show anything; the observation before takes its place.
    observation = self._observation if finished else self._observe()
    assert observation is not None
    return base.Transition(observation, float(reward), done=finished, finished=finished)

  def render(self) -> np.ndarray:
    """Returns the last frame that the agent saw, uint8 [height, width, 3], both even for films."""
    assert self._observation is not None, 'It was not reset.'
    frame = self._observation.frame
    height, width, _ = frame.shape
    return frame[: height // 2 * 2, : width // 2 * 2]

  def statistics(self) -> dict[str, int]:
    """Returns counters of the cache of compiled maps by name; empty without one."""
    if self._cache is None:
      return {}
    return {f'level_cache/{name}': count for name, count in self._cache.statistics().items()}

  def close(self) -> None:
    """Ends the engine and removes its files; does nothing the second time."""
    lab, self._lab = self._lab, None
    try:
      if lab is not None:
        lab.close()
    finally:
      shutil.rmtree(self._folder, ignore_errors=True)

  def _observe(self):
    values = self._lab.observations()
    instruction = values[_INSTRUCTION]
    # Builds differ in which of the two it is.
    instruction = instruction.encode() if isinstance(instruction, str) else bytes(instruction)
    self._observation = structs.Observation(values[_FRAME], instruction)
    return self._observation


def make(
  level: str, seed: int, *, level_cache_dir: str, level_cache_max_gigabytes: float, **settings
) -> DMLabEnvironment:
  """Makes a `DMLabEnvironment` with a level cache of its own, unless `level_cache_dir` is empty;
  `settings` as there.
  """
  cache = (
    level_cache.LevelCache(level_cache_dir, level_cache_max_gigabytes) if level_cache_dir else None
  )
  return DMLabEnvironment(level, seed, cache=cache, **settings)


def _remove_folders_of_the_dead(temp_folder):
  for name in os.listdir(temp_folder):
    if name.startswith(_FOLDER_PREFIX) and not psutil.pid_exists(
      int(name.removeprefix(_FOLDER_PREFIX).split('_')[0])
    ):
      shutil.rmtree(
        os.path.join(temp_folder, name), ignore_errors=True
      )  # another one may be at it, too


def _import_deepmind_lab():
  check_installed()
  try:
    import deepmind_lab
  except ImportError as error:
    raise ConfigurationError(
      f'DeepMind Lab is installed but can not be imported: {error}. It needs the package dm_env; '
      'if it lacks `imp`, it is of a version for Python before 3.12. '
      f'{_HOW_TO_INSTALL}'
    ) from error
  return deepmind_lab
