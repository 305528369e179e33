import logging as standard_logging
import os

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import saved_config
from impala_tf.training import checkpoint_files, checkpoints
from impala_tf.training.checkpoints import Checkpointer, CheckpointError, RunState
from tests import config_test as configurations


class Agent(tf.Module):
  def __init__(self, features, value):
    super().__init__()
    self.weights = tf.Variable(tf.fill([2, features], value))
    self.layers = [tf.Variable(value + 1.0), tf.Variable([value + 2.0])]


class Learner(tf.Module):
  """As `learner.Learner` to a checkpoint: an agent, slots, counters, and attributes that are no
  variables.
  """

  def __init__(self, features=3, value=0.0):
    super().__init__()
    self.agent = Agent(features, value)
    self.optimizer = tf.Module()
    self.optimizer.mean_squares = [
      tf.Variable(tf.fill(v.shape, value + 5.0)) for v in self.agent.trainable_variables
    ]
    self.frames = tf.Variable(0, dtype=tf.int64, trainable=False)
    self.updates = tf.Variable(0, dtype=tf.int64, trainable=False)
    self._settings = {'discounting': 0.99, 'reward_clipping': 'abs_one'}


def values(*modules):
  return [v.numpy().tolist() for module in modules for v in module.variables]


def make(directory, value=0.0, features=3, seed=0):
  learner, run = Learner(features, value), RunState(seed)
  return learner, run, Checkpointer(str(directory), learner=learner, run=run)


def save_three(directory):
  """Checkpoints 1, 2, 3 of a run, at 100, 200, 300 frames."""
  learner, run, checkpointer = make(directory, value=7.0, seed=11)
  for i in range(1, 4):
    learner.frames.assign(100 * i)
    checkpointer.save()
  return learner, run


def truncate(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_bit(path):
  content = bytearray(path.read_bytes())
  content[10] ^= 1
  path.write_bytes(content)


DATA, INDEX = 'data-00000-of-00001', 'index'
DAMAGES = {
  'data cut short': lambda path: truncate(path / f'ckpt-3.{DATA}'),
  'data empty': lambda path: (path / f'ckpt-3.{DATA}').write_bytes(b''),
  'data missing': lambda path: (path / f'ckpt-3.{DATA}').unlink(),
  'one bit wrong': lambda path: flip_bit(path / f'ckpt-3.{DATA}'),
  'index cut short': lambda path: truncate(path / f'ckpt-3.{INDEX}'),
  'index empty': lambda path: (path / f'ckpt-3.{INDEX}').write_bytes(b''),
  'index missing': lambda path: (path / f'ckpt-3.{INDEX}').unlink(),
  'both missing': lambda path: [(path / f'ckpt-3.{suffix}').unlink() for suffix in (DATA, INDEX)],
}


@pytest.fixture
def warnings(caplog):
  caplog.set_level(standard_logging.WARNING)
  return lambda: [record.getMessage() for record in caplog.records if record.name == 'absl']


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
    with pytest.raises(CheckpointError, match=r"Can't write checkpoint .*ckpt-1"):
      checkpointer.save()


class TestRunState:
  def test_each_start_has_a_seed_of_its_own(self, tmp_path):
    _, run, checkpointer = make(tmp_path, seed=4)
    assert run.start() == [4, 1]
    checkpointer.save()
    _, run, checkpointer = make(tmp_path, seed=4)
    checkpointer.restore_latest()
    assert run.start() == [4, 2]


class TestDamage:
  @pytest.mark.parametrize('damage', DAMAGES)
  def test_falls_back_loudly_to_the_newest_intact_one(self, tmp_path, warnings, damage):
    save_three(tmp_path)
    DAMAGES[damage](tmp_path)
    learner, run, checkpointer = make(tmp_path)
    assert checkpointer.restore_latest() is True
    assert int(learner.frames) == 200
    assert int(run.seed) == 11
    np.testing.assert_array_equal(learner.agent.weights, np.full([2, 3], 7.0))
    assert any(str(tmp_path / 'ckpt-3') in message for message in warnings())
    assert any(str(tmp_path / 'ckpt-2') in message for message in warnings())

  def test_intact_checkpoints_give_no_warning(self, tmp_path, warnings):
    save_three(tmp_path)
    make(tmp_path)[2].restore_latest()
    assert warnings() == []

  @pytest.mark.parametrize('damage', DAMAGES)
  def test_later_saves_are_newer_than_the_damaged_one(self, tmp_path, warnings, damage):
    save_three(tmp_path)
    DAMAGES[damage](tmp_path)
    learner, _, checkpointer = make(tmp_path)
    checkpointer.restore_latest()
    learner.frames.assign(250)
    checkpointer.save()
    new_learner, _, new_checkpointer = make(tmp_path)
    seen = len(warnings())
    new_checkpointer.restore_latest()
    assert int(new_learner.frames) == 250
    assert len(warnings()) == seen

  def test_a_save_that_died_before_its_index(self, tmp_path, warnings):
    save_three(tmp_path)
    (tmp_path / f'ckpt-4.{DATA}').write_bytes((tmp_path / f'ckpt-3.{DATA}').read_bytes())
    learner, _, checkpointer = make(tmp_path)
    assert checkpointer.restore_latest() is True
    assert int(learner.frames) == 300
    assert any('ckpt-4' in message for message in warnings())
    assert checkpointer.save() == str(tmp_path / 'ckpt-5')

  @pytest.mark.parametrize('content', [b'', b'model_checkpoint_pa', b'\xff\xfe\x00', b'[' * 9999])
  def test_a_damaged_state_file_loses_nothing(self, tmp_path, warnings, content):
    save_three(tmp_path)
    (tmp_path / 'checkpoint').write_bytes(content)
    learner, _, checkpointer = make(tmp_path)
    assert checkpointer.restore_latest() is True
    assert int(learner.frames) == 300
    assert any(str(tmp_path / 'checkpoint') in message for message in warnings())
    # It is whole again.
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / 'ckpt-3')

  @pytest.mark.parametrize('value', [np.nan, np.inf])
  @pytest.mark.parametrize('part', ['weights', 'slots'])
  def test_weights_that_are_not_finite_are_passed_over(self, tmp_path, warnings, part, value):
    learner, run = save_three(tmp_path)
    variable = learner.agent.weights if part == 'weights' else learner.optimizer.mean_squares[0]
    variable.assign(tf.fill(variable.shape, value))
    Checkpointer(str(tmp_path), learner=learner, run=run).save()
    learner, _, checkpointer = make(tmp_path)
    assert checkpointer.restore_latest() is True
    assert int(learner.frames) == 300
    assert any('ckpt-4' in message and 'not finite' in message for message in warnings())

  def test_a_save_in_progress_is_no_checkpoint(self, tmp_path, warnings):
    save_three(tmp_path)
    (tmp_path / 'ckpt-4_temp').mkdir()
    (tmp_path / 'ckpt-4_temp' / 'part-00000-of-00001.data-00000-of-00001').write_bytes(b'half')
    learner, _, checkpointer = make(tmp_path)
    checkpointer.restore_latest()
    assert int(learner.frames) == 300
    assert warnings() == []

  def test_what_a_killed_save_left_goes_with_the_next_start(self, tmp_path):
    save_three(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    for suffix in (DATA, INDEX):  # It was killed before the oldest went.
      (tmp_path / f'ckpt-0.{suffix}').write_bytes((tmp_path / f'ckpt-1.{suffix}').read_bytes())
    (tmp_path / 'ckpt-4_temp').mkdir()
    (tmp_path / 'ckpt-4_temp' / 'part-00000-of-00001.data-00000-of-00001').write_bytes(b'half')
    (tmp_path / 'score.json.0123abcd.tmp').write_text('half')
    (tmp_path / 'ckpt-my_own_temp').mkdir()
    make(tmp_path)[2].restore_latest()
    assert {path.name for path in tmp_path.iterdir()} == names | {'ckpt-my_own_temp'}

  def test_the_only_sound_one_stays(self, tmp_path):
    save_three(tmp_path)
    _, _, checkpointer = make(tmp_path)
    for number in (4, 5, 6):
      (tmp_path / f'ckpt-{number}.{DATA}').write_bytes(b'half')
    assert checkpointer.restore_latest() is True
    assert (tmp_path / f'ckpt-3.{INDEX}').exists()
    assert not (tmp_path / f'ckpt-2.{INDEX}').exists()
    assert make(tmp_path)[2].restore_latest() is True

  def test_none_readable(self, tmp_path):
    save_three(tmp_path)
    for path in tmp_path.glob('*.data*'):
      truncate(path)
    learner, run, checkpointer = make(tmp_path)
    before = values(learner, run)
    with pytest.raises(CheckpointError) as error:
      checkpointer.restore_latest()
    assert all(str(tmp_path / f'ckpt-{i}') in str(error.value) for i in (1, 2, 3))
    assert '--logdir' in str(error.value)
    assert values(learner, run) == before

  def test_no_checkpoint_of_this_format(self, tmp_path):
    tf.raw_ops.SaveV2(
      prefix=str(tmp_path / 'ckpt-1'),
      tensor_names=['x'],
      shape_and_slices=[''],
      tensors=[tf.ones([])],
    )
    with pytest.raises(CheckpointError, match='no object graph'):
      make(tmp_path)[2].restore_latest()

  def test_index_is_written_last_but_for_the_state_file(self, tmp_path, monkeypatch):
    # Neither may be there when the data can't take its place, here for a folder of that name.
    monkeypatch.setattr(checkpoint_files, 'candidates', lambda _: [])
    (tmp_path / f'ckpt-1.{DATA}' / 'in the way').mkdir(parents=True)
    with pytest.raises(CheckpointError):
      make(tmp_path)[2].save()
    assert not (tmp_path / f'ckpt-1.{INDEX}').exists()
    assert not (tmp_path / 'checkpoint').exists()


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
    with pytest.raises(CheckpointError, match='ckpt-4 is of another agent'):
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
    with pytest.raises(CheckpointError, match=f'ckpt-1 .*\n  {name}: .* there, {value} now'):
      self.restore(tmp_path, **{name: value})

  def test_those_of_earlier_versions_are_taken(self, tmp_path):
    save_three(tmp_path)
    assert self.restore(tmp_path, learning_rate=0.5) == 300

  def test_an_evaluation_refuses_one_of_another_run(self, tmp_path):
    self.save(tmp_path)
    saved_config.save(str(tmp_path), configurations.make(num_actors=9))
    assert checkpoints.load_weights(str(tmp_path), Agent(3, 0.0)).frames == 7
    saved_config.save(str(tmp_path), configurations.make(level_name='seaquest'))
    with pytest.raises(CheckpointError, match='level_name: my_level there, seaquest now'):
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
    with pytest.raises(CheckpointError, match=r'No checkpoint in .*--logdir'):
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
