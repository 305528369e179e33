"""An environment whose rewards and frames say what happened in which step of its episodes."""

import numpy as np

from impala_tf import structs
from impala_tf.environments import base

LENGTH = 5  # steps of an episode


class FiveSteps:
  """Its rewards tell time and action: 100 * (step of the episode) + action. A life is lost at step
  3 of 5.

  Frames are filled with 10 * episode + step, steps after the action; the instruction says the same.
  """

  num_actions = 4

  def __init__(
    self,
    first_episode=0,
    *,
    with_instruction=False,
    closed=None,
    error=None,
    finished_only=False,
    limit=None,
  ):
    if error:
      raise ValueError(error)
    self._episode = first_episode - 1
    self._with_instruction = with_instruction
    self._closed = closed
    self._finished_only = finished_only
    self._limit = limit
    text = structs.ArraySpec((), np.bytes_) if with_instruction else ()
    self.observation_spec = structs.Observation(structs.ArraySpec((2, 3, 1), np.uint8), text)

  def reset(self):
    self._episode += 1
    self._time = 0
    return self._observe()

  def step(self, action):
    assert self._time < LENGTH, 'stepped after the end'
    self._time += 1
    truncated = self._time == self._limit
    finished = self._time == LENGTH or truncated
    done = self._time == 3 or (finished and not self._finished_only)
    reward = float(100 * self._time + action)
    return base.Transition(self._observe(), reward, done, finished, truncated)

  def close(self):
    if self._closed is not None:
      self._closed.append(self._episode)

  def _observe(self):
    number = 10 * self._episode + self._time
    text = b'at %d' % number if self._with_instruction else ()
    return structs.Observation(np.full((2, 3, 1), number, np.uint8), text)
