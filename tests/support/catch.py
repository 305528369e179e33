"""Catch: the tests' own small task, an environment and a suite around it,
`--level_name=tests.support.catch:catch`.

A ball falls from the top of a small board; a paddle in the bottom row must be
where it lands. One reward at the end, +1 or -1. This module imports no TensorFlow at the top, as
environment processes load it.
"""

import dataclasses
import functools
import time

import numpy as np

from impala_tf import structs
from impala_tf.config import Config
from impala_tf.environments.base import Transition
from impala_tf.environments.suite import Suite

ROWS, COLUMNS = 8, 5
SLOW_STEP_SECONDS = 0.003  # Of `slow_catch`.

CONFIG = Config(
  level_name='tests.support.catch:catch',
  agent='shallow',
  total_environment_frames=120_000,
  batch_size=8,
  unroll_length=20,
  num_action_repeats=1,
  seed=1,
  entropy_cost=0.003,
  baseline_cost=0.5,
  discounting=0.99,
  reward_clipping='abs_one',
  learning_rate=0.003,
  decay=0.99,
  momentum=0.0,
  epsilon=0.01,
  clip_global_norm=40.0,
  num_actors=2,
  envs_per_actor=4,
  processes_per_actor=1,
)


class Catch:
  """A `base.Environment` with three actions: left, stay, right."""

  observation_spec = structs.Observation(structs.ArraySpec((ROWS, COLUMNS, 1), np.uint8))
  num_actions = 3

  def __init__(self, seed, step_seconds=0.0):
    """Makes a board; `seed` decides where balls start. A step lasts for `step_seconds` at least."""
    self._random = np.random.default_rng(seed)
    self._step_seconds = step_seconds

  def reset(self):
    """Starts an episode."""
    self._row = 0
    self._ball = int(self._random.integers(COLUMNS))
    self._paddle = COLUMNS // 2
    return self._observation()

  def step(self, action):
    """Moves the paddle by `action - 1` and lets the ball fall by a row."""
    time.sleep(self._step_seconds)
    self._paddle = int(np.clip(self._paddle + action - 1, 0, COLUMNS - 1))
    self._row += 1
    over = self._row == ROWS - 1
    reward = (1.0 if self._paddle == self._ball else -1.0) if over else 0.0
    return Transition(self._observation(), reward, done=over, finished=over)

  def close(self):
    """Nothing to give back."""

  def _observation(self):
    frame = np.zeros((ROWS, COLUMNS, 1), np.uint8)
    frame[self._row, self._ball] = 255
    frame[ROWS - 1, self._paddle] = 255
    return structs.Observation(frame)


class CatchSuite(Suite):
  """A suite of three levels."""

  name = 'catch'

  def known_levels(self):
    """Catch, the same slowly, and for an agent with memory."""
    return ('catch', 'slow_catch', 'catch_with_memory')

  def preset(self, level):
    """The same for all."""
    return dataclasses.replace(CONFIG, level_name=level)

  def num_actions(self, config):
    """Left, stay, right."""
    del config
    return Catch.num_actions

  def observation_spec(self, config):
    """The board."""
    del config
    return Catch.observation_spec

  def make_environment(self, level, seed, is_test, config):
    """A picklable constructor; environments of `slow_catch` bound how fast any machine gets through
    a number of frames.
    """
    del is_test, config
    return functools.partial(Catch, seed, SLOW_STEP_SECONDS if level == 'slow_catch' else 0.0)

  def make_agent(self, config):
    """A hidden layer, and an LSTM behind it if the name of the level asks for one."""
    import sonnet as snt
    import tensorflow as tf

    from impala_tf.agent import agents, networks

    layers = [
      lambda frames: tf.cast(frames, tf.float32) / 255.0,
      snt.Flatten(),
      snt.Linear(64),
      tf.nn.relu,
    ]
    core = networks.LSTM(32) if self.levels(config) == ('catch_with_memory',) else None
    return agents.Agent(Catch.num_actions, snt.Sequential(layers), core=core)

  def fitness(self, level_returns):
    """The share of the balls caught, in percent."""
    (returns,) = level_returns.values()
    return float(50 * (1 + np.mean(returns)))


class Noting(CatchSuite):
  """Notes of each environment that is made whether it serves an evaluation, in `is_test`."""

  def __init__(self):
    """Nothing is noted yet."""
    self.is_test = []

  def make_environment(self, level, seed, is_test, config):
    """As `CatchSuite`."""
    self.is_test.append(is_test)
    return super().make_environment(level, seed, is_test, config)


SUITE = CatchSuite()
