"""Damaged checkpoints: which one is taken in their place, and what is said."""

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import errors, files
from impala_tf.training import checkpoint_files
from impala_tf.training.checkpoints import Checkpointer, CheckpointError
from tests.support.checkpoint_files import DATA, INDEX, make, save_three, truncate, values


def flip_bit(path):
  content = bytearray(path.read_bytes())
  content[10] ^= 1
  path.write_bytes(content)


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

  def test_a_state_file_that_can_not_be_read_loses_nothing(self, tmp_path, warnings, monkeypatch):
    save_three(tmp_path)

    def refuse(path):
      raise errors.FileError(path, "can't be read")

    monkeypatch.setattr(files, 'read', refuse)  # As of another user's, or on a disk that fails.
    learner, _, checkpointer = make(tmp_path)
    assert checkpointer.restore_latest() is True
    assert int(learner.frames) == 300
    assert any(str(tmp_path / 'checkpoint') in message for message in warnings())

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
