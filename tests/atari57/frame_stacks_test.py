"""Properties of observations that `impala_tf.transport.frame_stacks` relies on, on real games."""

import functools

import numpy as np
import tensorflow as tf
import tree

from atari57.environment import AtariEnvironment
from impala_tf import structs
from impala_tf.environments import base
from impala_tf.transport import frame_stacks, unroll_queue


def test_stacks_of_games_come_back_as_they_were():
  make = lambda seed, cap: functools.partial(
    AtariEnvironment, 'breakout', seed, max_episode_frames=cap
  )
  # One plays whole games and loses lives, the others' games are cut after a few steps.
  batch = base.EnvironmentBatch([make(1, 108_000), make(2, 150), make(3, 40)])
  random = np.random.default_rng(1)
  rows = [tree.map_structure(np.copy, batch.initial())]
  rows += [
    tree.map_structure(
      np.copy, batch.step(random.integers(batch.num_actions, size=3, dtype=np.int32))
    )
    for _ in range(160)
  ]
  rows = tree.map_structure(lambda *arrays: np.stack(arrays, 1), *rows)
  batch.close()
  assert rows.info.finished.sum() > 20
  assert (rows.done & ~rows.info.finished).sum() > 3 + 2  # The first rows, and lives.
  unroll_length, stacks = 20, None
  for first in range(0, 160, unroll_length):
    step_outputs = tree.map_structure(
      lambda a, first=first: tf.constant(a[:, first : first + unroll_length + 1]), rows
    )
    unrolls = structs.Unroll((), (), (), step_outputs, ())
    if stacks is None:
      spec = tree.map_structure(lambda t: tf.TensorSpec(t.shape[1:], t.dtype), unrolls)
      stacks = frame_stacks.FrameStacks(spec, 4)
    unstacked = stacks.unstack_frames(unrolls)
    unstacked = unstacked._replace(step_outputs=unroll_queue.time_major(unstacked.step_outputs))
    frames = unroll_queue.time_major(stacks.stack_frames(unstacked).step_outputs.observation.frame)
    np.testing.assert_array_equal(frames, step_outputs.observation.frame)
