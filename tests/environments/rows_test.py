"""The rows of environments in processes of their own."""

import dataclasses
import functools

import pytest
import tensorflow as tf

from impala_tf.environments import process_group, py_process
from impala_tf.environments import suite as suite_lib
from impala_tf.system import timing
from tests.support import catch
from tests.support.five_steps import FiveSteps


class Suite(suite_lib.Suite):
  """A suite of one counting environment with instructions."""

  def make_environment(self, level, seed, is_test, config):
    return functools.partial(FiveSteps, 2, with_instruction=True)


def test_unrolls_of_a_process_are_tensors_with_its_rows():
  group = process_group.make_environments(
    Suite(), catch.CONFIG, [['any'] * 2] * 2, False, [1], timing.StageTimer()
  )
  with group:
    assert group[1].call('num_actions') == 4

    @tf.function
    def begin(index):
      return group.initial(index)

    @tf.function
    def play(index, actions):
      outputs = [group.step(index, t + 1, actions[t]) for t in range(2)]
      with tf.control_dependencies([outputs[-1].reward]):
        return outputs, group.take(index, 3)

    first = begin(1)
    assert first.observation.frame.shape == (2, 2, 3, 1)
    assert first.observation.instruction.numpy().tolist() == [b'at 20'] * 2
    assert first.done.numpy().tolist() == [True] * 2
    (second, third), unrolls = play(1, tf.constant([[3, 1], [2, 0]]))
    assert second.reward.numpy().tolist() == [103, 101]
    assert third.observation.instruction.numpy().tolist() == [b'at 22'] * 2
    assert unrolls.info.episode_steps.dtype == tf.int32
    assert unrolls.reward.numpy().tolist() == [[0, 103, 202], [0, 101, 200]]
    assert unrolls.observation.instruction.numpy().tolist() == [[b'at 20', b'at 21', b'at 22']] * 2
    assert unrolls.observation.frame[:, :, 0, 0, 0].numpy().tolist() == [[20, 21, 22]] * 2

    # The next one begins with the last row, and leaves what was taken alone.
    _, following = play(1, tf.constant([[0, 0], [0, 0]]))
    assert following.info.episode_steps.numpy().tolist() == [[2, 3, 4]] * 2
    assert unrolls.info.episode_steps.numpy().tolist() == [[0, 1, 2]] * 2


def test_environments_of_a_run_are_alike_over_all_processes():
  class Mixed(Suite):
    """Has a level with other actions."""

    def make_environment(self, level, seed, is_test, config):
      return functools.partial(FiveSteps, with_instruction=level == 'read')

  levels = [['read'], ['look']]
  config = dataclasses.replace(catch.CONFIG, level_name='read')
  with pytest.raises(py_process.ProcessError, match='must be alike'):
    process_group.make_environments(
      Mixed(), config, levels, False, [1], timing.StageTimer()
    ).start()
