"""Catch whose environments fail on demand.

This module imports no TensorFlow, as environment processes load it.
"""

import functools
import os
import pathlib
import time

from tests.support import catch


class Frail(catch.Catch):
  """Works for some steps, then fails in one of several ways; it leaves a file for each environment
  made.

  It counts its steps, and the environments made, as `statistics`.
  """

  def __init__(self, seed, folder, failure, after):
    """Makes a board.

    Args:
      seed: int.
      folder: str, where a file named after each environment's seed is made.
      failure: 'raise' or 'exit', in a step, 'stuck' hangs in one; 'vast' gives rewards of which the
        squares are infinite in float32; 'reset' raises at the start of an episode; 'construct'
        raises in a constructor, 'hang' hangs in it.
      after: how many steps go well, in each environment; for 'construct' and 'hang', how many
        environments.
    """
    super().__init__(seed)
    made = len(list(pathlib.Path(folder).iterdir()))
    (pathlib.Path(folder) / str(seed)).touch()
    self._failure, self._after = failure, after
    self._steps = 0
    if made >= after and failure == 'construct':
      raise RuntimeError(f'no board number {made}')
    while made >= after and failure == 'hang':
      time.sleep(0.01)

  def reset(self):
    """Starts an episode, or not."""
    if self._failure == 'reset' and self._steps >= self._after:
      raise RuntimeError('no ball')
    return super().reset()

  def step(self, action):
    """Moves the paddle, or not."""
    self._steps += 1
    if self._steps > self._after and self._failure == 'raise':
      raise RuntimeError('the ball is stuck')
    while self._steps > self._after and self._failure == 'stuck':
      time.sleep(0.01)
    if self._steps > self._after and self._failure == 'exit':
      os._exit(7)
    transition = super().step(action)
    return (
      transition._replace(reward=1e30)
      if self._steps > self._after and self._failure == 'vast'
      else transition
    )

  def statistics(self):
    """Counters."""
    return {'steps': self._steps, 'boards': 1, 'broken': 0}


class FrailSuite(catch.CatchSuite):
  """Catch with such environments."""

  def __init__(self, folder, failure, after):
    """See `Frail`."""
    self._arguments = (str(folder), failure, after)

  def make_environment(self, level, seed, is_test, config):
    """A picklable constructor."""
    del level, is_test, config
    return functools.partial(Frail, seed, *self._arguments)
