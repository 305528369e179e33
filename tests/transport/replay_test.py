"""What is replayed is what was there before, drawn uniformly, and counted once."""

import collections
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tree

from atari57 import suite as atari57
from impala_tf import structs
from impala_tf.training import loop
from impala_tf.transport import frame_stacks, replay
from tests.support import catch
from tests.support.run_files import read_episodes, read_scalars

ROWS = 5


def unrolls(numbers, frame_shape=(2, 2, 4)):
  """Unrolls with a leading [n], recognisable by their number in every leaf."""
  numbers = np.asarray(numbers, np.int32)
  n = len(numbers)

  def over_time(dtype, shape=()):
    return np.broadcast_to(numbers.reshape(n, *[1] * (1 + len(shape))), [n, ROWS, *shape]).astype(
      dtype
    )

  return structs.Unroll(
    level=numbers,
    policy_version=numbers,
    agent_state=numbers.astype(np.float32)[:, np.newaxis],
    step_outputs=structs.StepOutput(
      reward=over_time(np.float32) + np.arange(ROWS, dtype=np.float32) / 10,
      done=over_time(np.int32) % 2 == 1,
      truncated=over_time(np.int32) % 4 == 1,
      info=structs.EpisodeInfo(
        over_time(np.float32), over_time(np.int32) + 1, np.zeros([n, ROWS], bool)
      ),
      observation=structs.Observation(
        frame=over_time(np.uint8, frame_shape),
        instruction=np.array([[b'go to %d' % number] * ROWS for number in numbers], object),
      ),
    ),
    agent_outputs=structs.AgentOutput(
      over_time(np.int32), over_time(np.float32, (3,)), over_time(np.float32)
    ),
  )


def spec():
  as_spec = lambda array: tf.TensorSpec(
    array.shape[1:], tf.string if array.dtype == object else array.dtype
  )
  return tree.map_structure(as_spec, unrolls([0]))


def time_major(batch):
  swap = lambda nest: tree.map_structure(lambda array: np.swapaxes(array, 0, 1), nest)
  return batch._replace(
    step_outputs=swap(batch.step_outputs), agent_outputs=swap(batch.agent_outputs)
  )


def test_the_oldest_unrolls_make_room():
  buffer = replay.Buffer(spec(), capacity=5, seed=[1])
  for first in range(0, 12, 3):
    buffer.add(unrolls(range(first, first + 3)))
    assert len(buffer) == min(first + 3, 5)
    kept = set(buffer.sample(500).level.tolist())
    assert kept == set(range(max(0, first - 2), first + 3))
  buffer.add(unrolls(range(100, 109)))
  assert set(buffer.sample(500).level.tolist()) == set(range(104, 109))


def test_drawing_is_uniform_and_differs_by_seed():
  buffer, other = (replay.Buffer(spec(), capacity=20, seed=[seed]) for seed in (1, 2))
  for each in (buffer, other):
    each.add(unrolls(range(20)))
  counts = np.bincount(buffer.sample(20_000).level, minlength=20)
  # 1,000 each, with a standard deviation of 31.
  assert 850 < counts.min() <= counts.max() < 1150
  assert buffer.sample(20).level.tolist() != other.sample(20).level.tolist()


def test_all_of_an_unroll_is_replayed_as_it_was():
  buffer = replay.Buffer(spec(), capacity=4, seed=[1])
  buffer.add(unrolls([3, 5]))
  buffer.add(unrolls([7, 9, 11]))
  drawn = buffer.sample(30)
  expected = unrolls(drawn.level)
  tree.assert_same_structure(drawn, expected)
  for ours, theirs in zip(tree.flatten(drawn), tree.flatten(expected), strict=True):
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype
  assert drawn.step_outputs.observation.frame.dtype == np.uint8


@pytest.mark.parametrize('frame_stack', [1, 4])
def test_new_unrolls_come_first_and_old_ones_behind_them(frame_stack):
  settings = atari57.SUITE.configure(
    'pong', batch_size=6, replay_fraction=0.5, replay_capacity=6, frame_stack=frame_stack
  )
  batches = replay.make(spec(), settings, [1])
  stacks = frame_stacks.FrameStacks(spec(), frame_stack)
  assert batches.spec == stacks.unstacked_spec
  replayed = []
  for k in range(40):
    numbers = [10 + k, 60 + k, 110 + k]
    unstacked = batches.unstack_frames(tree.map_structure(tf.constant, unrolls(numbers)))
    unstacked = tree.map_structure(lambda t: t.numpy(), unstacked)
    batch = batches.complete(tree.map_structure(tf.constant, time_major(unstacked)))
    assert batch.level[:3].numpy().tolist() == numbers
    expected = time_major(unrolls(batch.level.numpy()))
    tree.assert_same_structure(batch, expected)
    for ours, theirs in zip(tree.flatten(batch), tree.flatten(expected), strict=True):
      np.testing.assert_array_equal(ours, theirs)
    allowed = set(numbers) | ({n - 1 for n in numbers} if k else set())
    replayed += [number - 10 - k for number in batch.level[3:].numpy().tolist()]
    assert set(batch.level[3:].numpy().tolist()) <= allowed
  # New and old ones, of all environments.
  assert set(collections.Counter(replayed)) == {-1, 0, 49, 50, 99, 100}


def test_what_is_replayed_follows_from_the_seed_of_the_start():
  settings = dataclasses.replace(
    catch.CONFIG, batch_size=40, replay_fraction=0.5, replay_capacity=20
  )

  def drawn(seed):
    batch = tree.map_structure(tf.constant, time_major(unrolls(range(20))))
    return replay.make(spec(), settings, seed).complete(batch).level[20:].numpy().tolist()

  assert drawn([1, 1]) == drawn([1, 1])
  assert drawn([1, 1]) != drawn([1, 2])


def test_a_run_with_replay_counts_frames_and_episodes_once(tmp_path, capsys):
  settings = dataclasses.replace(
    catch.CONFIG,
    batch_size=16,
    replay_fraction=0.5,
    total_environment_frames=160 * 12,
    checkpoint_interval=1e6,
    summary_interval=1e6,
  )
  suite = catch.CatchSuite()
  assert loop.train(suite, settings, str(tmp_path)) == 0
  assert 'The replay' not in capsys.readouterr().out
  scalars = read_scalars(tmp_path)
  assert scalars['learner/updates'] == [(160 * 12, 12.0)]
  # Eight environments of 240 steps each, in episodes of seven.
  assert len(read_episodes(tmp_path)) == 8 * (240 // 7)
  # Replayed unrolls are old ones.
  assert scalars['learner/replayed_lag_mean'][0][1] > scalars['learner/lag_mean'][0][1]
  longer = dataclasses.replace(settings, total_environment_frames=160 * 12)
  assert loop.train(suite, longer, str(tmp_path)) == 0
  assert 'The replay starts empty' in capsys.readouterr().out
