"""Checkpoints: saved whole, restored whole or refused."""

import os

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import saved_config
from impala_tf.training import checkpoints
from impala_tf.training.checkpoints import Checkpointer, CheckpointError, RunState
from tests.support import configurations
from tests.support.checkpoint_files import DATA, Agent, Learner, make, save_three, truncate, values


class TestSaveAndRestore:
  def test_nothing_to_restore(self, tmp_path):
    learner, run, checkpointer = make(tmp_path)
    before = values(learner, run)
    assert checkpointer.restore_latest() is False
    assert values(learner, run) == before

  def test_restores_everything(self, tmp_path):
    learner, run, checkpointer = make(tmp_path, value=7.0, seed=2**31 - 1)
    run.start()
    learner.frames.assign(2**40)
    learner.updates.assign(2**33)
    checkpointer.save()
    new_learner, new_run, new_checkpointer = make(tmp_path)
    assert new_checkpointer.restore_latest() is True
    assert values(new_learner, new_run) == values(learner, run)
    assert int(new_learner.frames) == 2**40
    assert int(new_run.seed) == 2**31 - 1

  def test_restores_the_newest(self, tmp_path):
    save_three(tmp_path)
    learner, _, checkpointer = make(tmp_path)
    checkpointer.restore_latest()
    assert int(learner.frames) == 300

  def test_newest_is_by_number_and_not_by_name(self, tmp_path):
    learner, _, checkpointer = make(tmp_path)
    for i in range(1, 12):
      learner.frames.assign(i)
      path = checkpointer.save()
    assert path == str(tmp_path / 'ckpt-11')
    new_learner, _, new_checkpointer = make(tmp_path)
    new_checkpointer.restore_latest()
    assert int(new_learner.frames) == 11

  def test_keeps_three_also_over_a_resume(self, tmp_path):
    save_three(tmp_path)
    _, _, checkpointer = make(tmp_path)
    checkpointer.restore_latest()
    assert checkpointer.save() == str(tmp_path / 'ckpt-4')
    assert sorted(path.name for path in tmp_path.glob('*.index')) == [
      'ckpt-2.index',
      'ckpt-3.index',
      'ckpt-4.index',
    ]

  def test_tensorflow_itself_can_load_it(self, tmp_path):
    save_three(tmp_path)
    learner = Learner()
    status = tf.train.Checkpoint(learner=learner).restore(tf.train.latest_checkpoint(str(tmp_path)))
    status.assert_nontrivial_match()
    np.testing.assert_array_equal(learner.agent.weights, np.full([2, 3], 7.0))
    assert int(learner.frames) == 300

  def test_restores_what_is_reached_in_two_ways(self, tmp_path):
    save_three(tmp_path)
    # As by a later version of the program: the checkpoint does not know the way that is found
    # first.
    old, learner, run = Learner(), tf.Module(), RunState(0)
    learner.trained = list(old.agent.trainable_variables)
    learner.agent, learner.optimizer, learner.frames, learner.updates = (
      old.agent,
      old.optimizer,
      old.frames,
      old.updates,
    )
    assert Checkpointer(str(tmp_path), learner=learner, run=run).restore_latest()
    np.testing.assert_array_equal(learner.agent.weights, np.full([2, 3], 7.0))

  @pytest.mark.parametrize('name', ['br[a]ck', 'back\\slash', 'a*b?', ' ~a,b=c%d{e}$HOME\u00e4'])
  def test_a_folder_of_any_name_is_itself(self, tmp_path, name):
    directory = tmp_path / name
    directory.mkdir()
    save_three(directory)
    learner, _, checkpointer = make(directory)
    assert checkpointer.restore_latest() is True
    assert int(learner.frames) == 300
    assert checkpointer.save() == str(directory / 'ckpt-4')
    assert len(list(directory.glob('*.index'))) == 3
    assert checkpoints.load_weights(str(directory), Agent(3, 0.0)).frames == 300

  def test_works_in_a_folder_that_only_tensorflow_knows(self):
    directory = 'ram://checkpoints_test'
    tf.io.gfile.makedirs(directory)
    learner, _, checkpointer = make(directory)
    learner.frames.assign(5)
    checkpointer.save()
    new_learner, _, new_checkpointer = make(directory)
    assert new_checkpointer.restore_latest()
    assert int(new_learner.frames) == 5

  def test_failed_save(self, tmp_path):
    directory = tmp_path / 'logs'
    directory.mkdir()
    _, _, checkpointer = make(directory)
    directory.rmdir()
    directory.write_text('not a folder')
    with pytest.raises(CheckpointError, match='ckpt-1'):
      checkpointer.save()


class TestRunState:
  def test_each_start_has_a_seed_of_its_own(self, tmp_path):
    _, run, checkpointer = make(tmp_path, seed=4)
    assert run.start() == [4, 1]
    checkpointer.save()
    _, run, checkpointer = make(tmp_path, seed=4)
    checkpointer.restore_latest()
    assert run.start() == [4, 2]


class TestForeign:
  @pytest.fixture
  def saved(self, tmp_path):
    save_three(tmp_path)
    return tmp_path

  def refused(self, directory, learner, run=None):
    run = run or RunState(0)
    before = values(learner, run)
    with pytest.raises(CheckpointError) as error:
      Checkpointer(str(directory), learner=learner, run=run).restore_latest()
    assert values(learner, run) == before
    assert str(directory / 'ckpt-3') in str(error.value)
    assert '--logdir' in str(error.value)
    return str(error.value)

  def test_other_shapes(self, saved):
    message = self.refused(saved, Learner(features=4))
    assert 'learner/agent/weights is float32(2, 3) there, float32(2, 4) here' in message
    assert 'layers' not in message

  def test_other_type(self, saved):
    learner = Learner()
    learner.frames = tf.Variable(0, dtype=tf.int32)
    assert 'learner/frames is int64() there, int32() here' in self.refused(saved, learner)

  def test_variable_not_in_the_checkpoint(self, saved):
    learner = Learner()
    learner.agent.core = tf.Variable(tf.zeros([9]))
    message = self.refused(saved, learner)
    assert 'not in the checkpoint: learner/agent/core float32(9,)' in message
    assert 'only in' not in message

  def test_variable_only_in_the_checkpoint(self, saved):
    learner = Learner()
    del learner.agent.weights
    message = self.refused(saved, learner)
    assert 'only in the checkpoint: learner/agent/weights float32(2, 3)' in message
    assert 'not in' not in message

  def test_object_only_in_the_checkpoint(self, saved):
    learner = Learner()
    with pytest.raises(CheckpointError, match='only in the checkpoint: run/seed int64'):
      Checkpointer(str(saved), learner=learner).restore_latest()
    assert int(learner.frames) == 0

  def test_long_lists_are_cut(self, saved):
    learner = Learner()
    learner.agent.more = [tf.Variable(0.0) for _ in range(20)]
    assert 'and 12 more' in self.refused(saved, learner)

  def test_does_not_fall_back_over_it(self, saved):
    # The newest is another agent's, older ones are not: neither restore nor silence would be right.
    make(saved, features=4)[2].save()
    with pytest.raises(CheckpointError, match='ckpt-4'):
      make(saved)[2].restore_latest()


class TestConfiguration:
  def save(self, directory, **changes):
    learner, run, _ = make(directory)
    learner.frames.assign(7)
    Checkpointer(str(directory), configurations.make(**changes), learner=learner, run=run).save()

  def restore(self, directory, **changes):
    learner, run, _ = make(directory)
    config = configurations.make(**changes)
    Checkpointer(str(directory), config, learner=learner, run=run).restore_latest()
    return int(learner.frames)

  def test_that_of_the_run_is_restored_and_kept(self, tmp_path):
    self.save(tmp_path)
    assert self.restore(tmp_path) == 7
    assert self.restore(tmp_path, num_actors=9, checkpoint_interval=5.0) == 7

  @pytest.mark.parametrize(
    ('name', 'value'),
    [('learning_rate', 0.5), ('batch_size', 7), ('level_name', 'seaquest'), ('seed', 9)],
  )
  def test_that_of_another_configuration_is_refused(self, tmp_path, name, value):
    self.save(tmp_path)
    with pytest.raises(CheckpointError, match=f'ckpt-1 .*\n  {name}: .* {value} '):
      self.restore(tmp_path, **{name: value})

  def test_those_of_earlier_versions_are_taken(self, tmp_path):
    save_three(tmp_path)
    assert self.restore(tmp_path, learning_rate=0.5) == 300

  def test_an_evaluation_refuses_one_of_another_run(self, tmp_path):
    self.save(tmp_path)
    saved_config.save(str(tmp_path), configurations.make(num_actors=9))
    assert checkpoints.load_weights(str(tmp_path), Agent(3, 0.0)).frames == 7
    saved_config.save(str(tmp_path), configurations.make(level_name='seaquest'))
    with pytest.raises(CheckpointError, match=r'level_name: my_level .* seaquest'):
      checkpoints.load_weights(str(tmp_path), Agent(3, 0.0))


class TestLoadWeights:
  def test_restores_the_agent_and_nothing_else(self, tmp_path):
    save_three(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    agent = Agent(3, 0.0)
    loaded = checkpoints.load_weights(str(tmp_path), agent)
    assert loaded.frames == 300
    assert os.path.exists(loaded.path + '.index')
    assert values(agent) == values(Agent(3, 7.0))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

  def test_falls_back(self, tmp_path, warnings):
    save_three(tmp_path)
    truncate(tmp_path / f'ckpt-3.{DATA}')
    assert checkpoints.load_weights(str(tmp_path), Agent(3, 0.0)).frames == 200
    assert warnings()

  @pytest.mark.parametrize('directory', ['.', 'missing'])
  def test_no_checkpoint(self, tmp_path, directory):
    with pytest.raises(CheckpointError, match='--logdir'):
      checkpoints.load_weights(str(tmp_path / directory), Agent(3, 0.0))

  def test_another_agent(self, tmp_path):
    save_three(tmp_path)
    agent = Agent(4, 0.0)
    agent.core = tf.Variable(0.0)
    del agent.layers
    before = values(agent)
    with pytest.raises(CheckpointError) as error:
      checkpoints.load_weights(str(tmp_path), agent)
    assert 'learner/agent/weights is float32(2, 3) there, float32(2, 4) here' in str(error.value)
    assert 'not in the checkpoint: learner/agent/core' in str(error.value)
    assert 'only in the checkpoint: learner/agent/layers/0' in str(error.value)
    assert 'optimizer' not in str(error.value)
    assert values(agent) == before

  def test_no_learner_in_it(self, tmp_path):
    Checkpointer(str(tmp_path), run=RunState(0)).save()
    with pytest.raises(CheckpointError, match='not in the checkpoint: learner/agent/layers/0'):
      checkpoints.load_weights(str(tmp_path), Agent(3, 0.0))


def test_the_frames_of_a_checkpoint_are_read_without_a_variable(tmp_path, monkeypatch):
  learner, _, checkpointer = make(tmp_path)
  learner.frames.assign(2**40)
  checkpointer.save()
  monkeypatch.setattr(tf, 'Variable', lambda *unused, **given: pytest.fail('It takes the cards.'))
  assert checkpoints.frames_in(str(tmp_path)) == 2**40
  with pytest.raises(CheckpointError, match='No checkpoint in'):
    checkpoints.frames_in(str(tmp_path / 'elsewhere'))
