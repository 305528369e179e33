"""Dice: a suite of three levels for tests of evaluations, of which everything can be asked.

This module imports no TensorFlow at the top, as environment processes load it.
"""

import dataclasses
import functools
import os
import pathlib

import numpy as np

from impala_tf import structs
from impala_tf.config import ConfigurationError, ImageConfig
from impala_tf.environments.base import Transition
from impala_tf.environments.suite import Suite
from tests.support import catch

LEVELS = ('one', 'two', 'three')
CONFIG = ImageConfig(
  **dataclasses.asdict(catch.CONFIG)
  | {'num_action_repeats': 2, 'unroll_length': 3, 'envs_per_actor': 2, 'width': 5, 'height': 8}
)


class Dice:
  """Episodes of `length` steps; a reward is an action plus up to a thousandth from the seed."""

  observation_spec = structs.Observation(structs.ArraySpec((2, 2, 1), np.uint8))
  num_actions = 3

  def __init__(self, level, seed, note, fails, length):
    self._random = np.random.default_rng(seed)
    self._level, self._fails, self._length = level, fails, length
    with open(note, 'a') as file:
      file.write(f'{level} {seed} {os.getpid()}\n')

  def reset(self):
    self._step = 0
    return self._observe()

  def step(self, action):
    if self._fails:
      raise RuntimeError(f'the dice of {self._level} are lost')
    self._step += 1
    finished = self._step == self._length
    return Transition(self._observe(), action + self._random.random() / 1000, finished, finished)

  def close(self):
    pass

  def _observe(self):
    return structs.Observation(np.full((2, 2, 1), self._step % 256, np.uint8))


class DiceSuite(Suite):
  """Notes each environment that is made, `(level, seed, process)`, in a file of `folder`."""

  name = 'dice'
  config_class = ImageConfig
  has_plain_names = True

  def __init__(self, folder, fails=(), length=4, missing=()):
    self._note = pathlib.Path(folder) / 'environments'
    self._fails, self._length, self._missing = fails, length, missing
    self.configs = []

  def made(self):
    if not self._note.exists():
      return []
    rows = [line.split() for line in self._note.read_text().splitlines()]
    return [(level, int(seed), int(process)) for level, seed, process in rows]

  def known_levels(self):
    return (*LEVELS, 'dice')

  def find(self, level):
    return super().find(level.lower())

  def preset(self, level):
    return dataclasses.replace(CONFIG, level_name=level)

  def levels(self, config):
    return LEVELS if config.level_name == 'dice' else (config.level_name,)

  def check_installed(self, config, names=None):
    missing = sorted(set(names or self.levels(config)) & set(self._missing))
    if missing:
      raise ConfigurationError(f'No dice for {missing[0]}.')

  def num_actions(self, config):
    return Dice.num_actions

  def observation_spec(self, config):
    return Dice.observation_spec

  def make_environment(self, level, seed, is_test, config):
    assert is_test
    self.configs.append(config)
    return functools.partial(Dice, level, seed, self._note, level in self._fails, self._length)

  def make_agent(self, config):
    import sonnet as snt
    import tensorflow as tf

    from impala_tf.agent import agents

    layers = [lambda frames: tf.cast(frames, tf.float32), snt.Flatten()]
    torso = snt.Sequential([*layers, *([snt.Linear(5)] if config.agent == 'deep' else [])])
    return agents.Agent(Dice.num_actions, torso)

  def result_name(self, level):
    return f'{level}_test'

  def protocol(self, config):
    return {**super().protocol(config), 'width': config.width}

  def describe(self, result_name, mean):
    return f', {mean:.0f} pips'

  def score_columns(self):
    return {'pips': lambda name, mean: f'{name}: {round(10 * mean)}'}

  def summary(self, level_returns):
    return f'{len(level_returns)} of 3 levels'
