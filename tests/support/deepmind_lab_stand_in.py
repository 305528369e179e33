"""Stands in for the module `deepmind_lab` in tests: the real one's signatures, errors and pitfalls,
and no engine.

    folder = install(tmp_path, tapes=GOLDEN_TAPES)   # then put `folder` on sys.path or PYTHONPATH

A level that has a tape plays that; any other is a script: its n-th step, counted over all episodes
of an instance, gives a frame filled with n modulo 256 and the reward n + a / 10 for action a.
Settings lie in a file beside the installed module, since environment variables do not reach
processes that are forked from a server; what was played is written down beside them. This file
imports nothing of the project.
"""

import csv
import ctypes
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import tempfile
import time
import zipfile

import numpy as np

_SETTINGS = 'deepmind_lab_stand_in.json'
_JOURNAL = 'deepmind_lab_stand_in.jsonl'
_PREFIX = 'contributed/dmlab30/'
# Table D.2, written down a second time.
NINE_ACTIONS = {
  (0, 0, 0, 1, 0, 0, 0): 0,
  (0, 0, 0, -1, 0, 0, 0): 1,
  (0, 0, -1, 0, 0, 0, 0): 2,
  (0, 0, 1, 0, 0, 0, 0): 3,
  (-20, 0, 0, 0, 0, 0, 0): 4,
  (20, 0, 0, 0, 0, 0, 0): 5,
  (-20, 0, 0, 1, 0, 0, 0): 6,
  (20, 0, 0, 1, 0, 0, 0): 7,
  (0, 0, 0, 0, 1, 0, 0): 8,
}
_HELD_OUT = ('rooms_collect_good_objects_test', 'rooms_exploit_deferred_effects_test')
_NEED_IMAGES = ('psychlab_arbitrary_visuomotor_mapping', 'psychlab_continuous_recognition')
_CONFIG_KEYS = ('width', 'height', 'datasetPath', 'logLevel', 'allowHoldOutLevels', 'mixerSeed')
_OBSERVATIONS = ('RGB_INTERLEAVED', 'INSTR')


def install(
  folder,
  *,
  tapes=None,
  check_actions=False,
  episode_steps=5,
  num_maps=3,
  instruction_type='str',
  compile_seconds=0.0,
  fail=(),
  kill=None,
  wait=None,
):
  """Writes a module `deepmind_lab` that behaves as these settings say.

  Args:
    folder: existing folder to write to.
    tapes: folder with tapes `<level>.npz`, None for scripts only.
    check_actions: whether actions other than the tape's are an error.
    episode_steps: length of a script's episodes.
    num_maps: how many maps a level has; the episode's seed chooses one.
    instruction_type: 'str' or 'bytes'.
    compile_seconds: how long a map takes that is not in the cache.
    fail: names of levels whose second step raises.
    kill: dict from a level's name to a list: the first instance of the level kills its process by
      SIGKILL in that step, the second in the second, and so on.
    wait: dict from a level's name to (step, other level): in that step it waits until a second
      process has begun an episode of the other level. RuntimeError after a minute.

  Returns:
    The folder, as text.
  """
  folder = pathlib.Path(folder)
  table = pathlib.Path(__file__).resolve().parents[2] / 'dmlab30' / 'data' / 'dmlab30.csv'
  with table.open(encoding='utf-8', newline='') as file:
    suite = sorted(
      {row[column] for row in csv.DictReader(file) for column in ('train_level', 'test_level')}
    )
  shutil.copy(__file__, folder / 'deepmind_lab.py')
  settings = {
    'tapes': tapes and str(tapes),
    'check_actions': check_actions,
    'episode_steps': episode_steps,
    'num_maps': num_maps,
    'instruction_type': instruction_type,
    'compile_seconds': compile_seconds,
    'fail': list(fail),
    'kill': kill or {},
    'wait': wait or {},
    'suite': suite,
  }
  (folder / _SETTINGS).write_text(json.dumps(settings))
  (folder / _JOURNAL).write_text('')
  return str(folder)


def journal(folder):
  """Lists what all processes did since the module was installed, as (pid, level, seed); seed None
  for an instance made.
  """
  return [
    tuple(json.loads(line)) for line in (pathlib.Path(folder) / _JOURNAL).read_text().splitlines()
  ]


class Lab:
  """An environment.

  It also keeps `config`, `renderer`, `seeds` of resets, `compiled` maps, and whether it is
  `closed`.
  """

  def __init__(
    self,
    level,
    observations,
    config={},  # noqa: B006
    renderer='software',
    level_cache=None,
    temp_folder='/tmp',
  ):
    if not isinstance(observations, list):
      raise TypeError('observations must be list')
    if not all(isinstance(text, str) for pair in config.items() for text in pair):
      raise TypeError('config must be a dictionary of strings')
    if not isinstance(temp_folder, str):
      raise TypeError('temp_folder must be str')
    if renderer not in ('software', 'hardware'):
      raise RuntimeError(
        f'Failed to set renderer must be "hardware" or "software" actual "{renderer}"!'
      )
    for key in config:
      if key not in _CONFIG_KEYS:
        raise RuntimeError(f'Failed to apply setting \'{key} = {config[key]}\' - "Invalid setting"')
    self._settings = json.loads(pathlib.Path(__file__).with_name(_SETTINGS).read_text())
    self._name = level.removeprefix(_PREFIX)
    if level.startswith(_PREFIX) != (self._name in self._settings['suite']):
      raise RuntimeError(f'Invalid levelName flag \'{level}\' - "Level not found"')
    if self._name in _HELD_OUT and config.get('allowHoldOutLevels') != 'true':
      raise RuntimeError(
        'Failed to init environment - "Set allowHoldOutLevels to play a held-out level"'
      )
    for name in observations:
      if name not in _OBSERVATIONS:
        raise ValueError(f"Unknown observation '{name}'.")
    self._observations = observations
    self._level_cache = level_cache
    self._size = int(config.get('height', '240')), int(config.get('width', '320'))
    self._folder = tempfile.mkdtemp(prefix='dmlab_temp_folder_', dir=temp_folder)
    self._running = False
    self._n = 0
    self._step = 0
    self._tape = self._load_tape()
    self._row = -1  # of the tape, the last one played
    earlier = [
      entry for entry in journal(pathlib.Path(__file__).parent) if entry[1:] == (self._name, None)
    ]
    deaths = self._settings['kill'].get(self._name, [])
    self._last_step = deaths[len(earlier)] if len(earlier) < len(deaths) else None
    self._write_down(None)
    self.config = config
    self.renderer = renderer
    self.seeds = []
    self.compiled = []
    self.closed = False

  def reset(self, episode=-1, seed=None):
    del episode
    if type(seed) is not int:
      raise ValueError(f"'seed' must be int or None, was '{type(seed).__name__}'.")
    if not 0 <= seed < 2**31:
      raise OverflowError('seed is too large for a C int')
    images = self.config.get('datasetPath', '')
    if self._name in _NEED_IMAGES and images != 'dummy' and not os.path.isdir(images):
      raise RuntimeError('Failed to start environment - "datasetPath must name the images"')
    self.seeds.append(seed)
    self._write_down(seed)
    self._compile(random.Random(seed).randrange(self._settings['num_maps']))
    self._step = 0
    self._running = True

  def step(self, action, num_steps=1):
    if not self._running:
      raise RuntimeError('Environment in wrong status to advance.')
    action = self._index(action)
    if num_steps != 4:
      raise RuntimeError(f'{num_steps} frames; the paper has 4')
    self._n += 1
    self._step += 1
    if self._n == self._last_step:
      os.kill(os.getpid(), signal.SIGKILL)
    step, other = self._settings['wait'].get(self._name, (None, ''))
    if self._n == step:
      _wait_for_second_process(other)
    if self._name in self._settings['fail'] and self._step == 2:
      raise ValueError('Failed to advance environment "The script failed"')
    if self._name.startswith('language') and self._step == 2:
      self._compile(self._settings['num_maps'])
    if self._tape is None:
      self._running = self._step < self._settings['episode_steps']
      return float(self._n + action / 10)
    self._row = (self._row + 1) % len(self._tape['actions'])
    if self._settings['check_actions'] and action != self._tape['actions'][self._row]:
      raise RuntimeError(
        f'Action {action} at row {self._row} is not that of the tape, '
        f'{self._tape["actions"][self._row]}'
      )
    self._running = bool(self._tape['running'][self._row])
    return float(self._tape['rewards'][self._row])

  def is_running(self):
    return self._running

  def observations(self):
    if not self._running:
      raise RuntimeError('Environment in wrong status for call to observations()')
    if self._tape is None:
      frame = np.full((*self._size, 3), self._n % 256, np.uint8)
      instruction = f'word{self._n % 3} go' if self._name.startswith('language') else ''
    elif self._row < 0:  # the tape has no frame before its first action
      frame, instruction = np.zeros((*self._size, 3), np.uint8), ''
    else:
      frame, instruction = (
        self._tape['frames'][self._row].copy(),
        self._tape['instructions'][self._row].decode(),
      )
    if self._settings['instruction_type'] == 'bytes':
      instruction = instruction.encode()
    return {
      name: {'RGB_INTERLEAVED': frame, 'INSTR': instruction}[name] for name in self._observations
    }

  def close(self):
    self.closed = True
    shutil.rmtree(self._folder)

  def _index(self, action):
    if not isinstance(action, np.ndarray):
      raise TypeError('action must be a NumPy array')
    if action.ndim != 1 or len(action) != 7:
      raise ValueError('action must have shape (7)')
    if action.dtype != np.intc:
      raise ValueError('action must have dtype np.intc')
    # What lies in memory one after the other, strides ignored.
    return NINE_ACTIONS[tuple((ctypes.c_int * 7).from_address(action.ctypes.data))]

  def _compile(self, number):
    key = f'{self._name}_{hashlib.md5(str(number).encode()).hexdigest()}'
    path = os.path.join(self._folder, f'{len(os.listdir(self._folder))}.pk3')
    if self._level_cache is not None and self._level_cache.fetch(key, path):
      if not _is_map(path, key):
        os._exit(1)  # without a word, as the engine does
      return
    time.sleep(self._settings['compile_seconds'])
    self.compiled.append(key)
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr('maps/map.bsp', key * 100)
    if self._level_cache is not None:
      self._level_cache.write(key, path)

  def _write_down(self, seed):
    with pathlib.Path(__file__).with_name(_JOURNAL).open('a') as file:
      file.write(json.dumps([os.getpid(), self._name, seed]) + '\n')

  def _load_tape(self):
    if not self._settings['tapes']:
      return None
    path = pathlib.Path(self._settings['tapes'], f'{self._name}.npz')
    if not path.exists():
      return None
    with np.load(path) as tape:
      return dict(tape)


def _wait_for_second_process(level):
  end = time.monotonic() + 60
  folder = pathlib.Path(__file__).parent
  while (
    len({pid for pid, name, seed in journal(folder) if (name, seed is None) == (level, False)}) < 2
  ):
    if time.monotonic() > end:
      raise RuntimeError(f'{level} was not begun in a second process.')
    time.sleep(0.02)


def _is_map(path, key):
  try:
    with zipfile.ZipFile(path) as archive:
      return archive.read('maps/map.bsp').decode() == key * 100
  except (OSError, KeyError, zipfile.BadZipFile):
    return False
