"""Unrolls come back bit by bit as they were before their frames were unstacked."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.config import ConfigurationError
from impala_tf.environments.base import EnvironmentBatch, Transition
from impala_tf.transport import frame_stacks, unroll_queue

HEIGHT, WIDTH = 5, 7


class Stacking:
  """An environment whose observations are stacks as Atari's: noise frames, zeros before the start
  of an episode.
  """

  num_actions = 3
  observation_spec = structs.Observation(structs.ArraySpec((HEIGHT, WIDTH, 4), np.uint8))

  def __init__(self, seed, lengths, life):
    """Episodes last as long as `lengths`, again and again; every `life` steps a life is lost."""
    self._random = np.random.default_rng(seed)
    self._lengths, self._life = lengths, life
    self._episode = -1
    self._stack = collections.deque(maxlen=4)

  def reset(self):
    self._episode += 1
    self._step = 0
    self._stack.extend([np.zeros((HEIGHT, WIDTH), np.uint8)] * 4)
    return self._observe()

  def step(self, action):
    self._step += 1
    finished = self._step == self._lengths[self._episode % len(self._lengths)]
    return Transition(self._observe(), 0.0, finished or self._step % self._life == 0, finished)

  def close(self):
    """Nothing to free."""

  def _observe(self):
    self._stack.append(self._random.integers(1, 256, (HEIGHT, WIDTH), np.uint8))
    return structs.Observation(np.stack(self._stack, -1))


def play(steps, restarts=()):
  """Rows of three environments, [n, steps, ...]; in the given rows their process is restarted."""
  make = lambda: EnvironmentBatch(
    [
      lambda: Stacking(1, [1, 2, 9], life=3),
      lambda: Stacking(2, [4, 1, 1, 1, 6], life=2),
      lambda: Stacking(3, [100], life=5),
    ]
  )
  batch = make()
  rows = [tree.map_structure(np.copy, batch.initial())]
  for t in range(1, steps):
    if t in restarts:
      batch = make()
    output = batch.initial() if t in restarts else batch.step(np.zeros(3, np.int32))
    rows.append(tree.map_structure(np.copy, output))
  return tree.map_structure(lambda *arrays: np.stack(arrays, 1), *rows)


def unrolls_of(rows, first, unroll_length):
  """The `structs.Unroll` of [n, T+1, ...] whose row 0 is row `first`."""
  n = len(rows.reward)
  return tree.map_structure(
    tf.constant,
    structs.Unroll(
      level=np.zeros(n, np.int32),
      policy_version=np.arange(n, dtype=np.int32),
      agent_state=(),
      step_outputs=tree.map_structure(lambda a: a[:, first : first + unroll_length + 1], rows),
      agent_outputs=structs.AgentOutput(
        np.zeros([n, unroll_length + 1], np.int32),
        np.zeros([n, unroll_length + 1, 3], np.float32),
        np.zeros([n, unroll_length + 1], np.float32),
      ),
    ),
  )


def spec_of(unrolls):
  return tree.map_structure(lambda t: tf.TensorSpec(t.shape[1:], t.dtype), unrolls)


def assert_same(ours, expected):
  tree.assert_same_structure(ours, expected)
  for our, their in zip(tree.flatten(ours), tree.flatten(expected), strict=True):
    np.testing.assert_array_equal(our, their)
    assert our.dtype == their.dtype


@pytest.mark.parametrize('unroll_length', [1, 2, 3, 4, 20])
def test_unrolls_come_back_as_they_were(unroll_length):
  rows = play(60, restarts=(13, 14, 41))
  info = rows.info
  # All that can happen does: ends, several within a stack, lives lost, and processes restarted.
  assert info.finished.sum() > 15
  assert (rows.done & ~info.finished & (info.episode_steps > 0)).sum() > 5
  assert ((info.episode_steps == 0) & ~info.finished).sum() == 4 * 3
  stacks = None
  for first in range(60 - unroll_length):
    unrolls = unrolls_of(rows, first, unroll_length)
    if stacks is None:
      stacks = frame_stacks.FrameStacks(spec_of(unrolls), 4)
    unstacked = unroll_queue.as_batch(stacks.unstack_frames(unrolls))
    assert_same(stacks.stack_frames(unstacked), unroll_queue.as_batch(unrolls))


def test_each_frame_is_kept_once():
  unrolls = unrolls_of(play(30), 5, 20)
  stacks = frame_stacks.FrameStacks(spec_of(unrolls), 4)
  unstacked = stacks.unstack_frames(unrolls)
  frame = unstacked.step_outputs.observation.frame
  assert (frame.shape, frame.dtype) == ([3, 20 + 4, HEIGHT, WIDTH], tf.uint8)
  assert spec_of(unstacked) == stacks.unstacked_spec
  np.testing.assert_array_equal(
    frame[:, 4:], unrolls.step_outputs.observation.frame[:, 1:, :, :, 3]
  )


@pytest.mark.parametrize('fault', ['newest first', 'first frame repeated'])
def test_what_is_not_stacked_so_is_refused_and_not_changed_on_the_way(fault):
  rows = play(60)
  frames = rows.observation.frame
  if fault == 'newest first':
    frames = frames[..., ::-1]
  else:  # By many wrappers, in place of zeros.
    frames = frames.copy()
    for age in range(1, 4):
      is_empty = ~frames[..., 3 - age].any((2, 3))
      frames[is_empty, ..., 3 - age] = frames[is_empty, ..., 4 - age]
  rows = rows._replace(observation=rows.observation._replace(frame=frames))
  stacks = frame_stacks.FrameStacks(spec_of(unrolls_of(rows, 0, 40)), 4)
  with pytest.raises(ConfigurationError, match='frame_stack=4'):
    stacks.unstack_frames(unrolls_of(rows, 0, 40))


def test_stacks_are_looked_at_until_an_episode_has_ended():
  rows = play(60, restarts=(30,))
  resets = rows.info.finished | (rows.info.episode_steps == 0)
  stacks = frame_stacks.FrameStacks(spec_of(unrolls_of(rows, 0, 1)), 4)
  seen = False
  for first in range(59):
    stacks.unstack_frames(unrolls_of(rows, first, 1))
    seen |= resets[:, first + 1].any()
    assert stacks._is_checked == seen
  assert seen


def test_unstacked_unrolls_go_through_the_queue():
  unrolls = unrolls_of(play(30, restarts=(9,)), 3, 20)
  stacks = frame_stacks.FrameStacks(spec_of(unrolls), 4)
  queue = unroll_queue.UnrollQueue(stacks.unstacked_spec, capacity=3)
  queue.enqueue_many(stacks.unstack_frames(unrolls))
  assert_same(stacks.stack_frames(queue.dequeue_batch(3)), unroll_queue.as_batch(unrolls))


@pytest.mark.parametrize(('channels', 'frame_stack'), [(3, 1), (4, 1), (2, 2)])
def test_what_is_no_stack_of_four_passes_as_it_is(channels, frame_stack):
  unrolls = unrolls_of(play(30), 3, 20)
  observation = structs.Observation(
    tf.repeat(unrolls.step_outputs.observation.frame[..., :1], channels, axis=-1)
  )
  unrolls = unrolls._replace(step_outputs=unrolls.step_outputs._replace(observation=observation))
  stacks = frame_stacks.FrameStacks(spec_of(unrolls), frame_stack)
  assert stacks.unstacked_spec == spec_of(unrolls)
  assert_same(stacks.unstack_frames(unrolls), unrolls)
  assert_same(stacks.stack_frames(unroll_queue.as_batch(unrolls)), unroll_queue.as_batch(unrolls))
