"""Callbacks: what watches or changes a run from outside."""

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.training import checkpoints, loop
from tests.support import catch
from tests.support.run_files import read_episodes, read_scalars
from tests.support.short_runs import SHORT


class Halving(loop.Callback):
  """A `loop.Callback` that halves the learning rate after each update, counts, and saves after the
  second.
  """

  def __init__(self):
    self.tape = []

  def bind(self, learner):
    self.tunable = learner.tunable
    self.state = tf.Module(name='halving')
    self.state.learning_rate = learner.tunable.learning_rate
    return {'halving': self.state}

  def start(self, frames):
    self.tape.append(('start', frames, self.tunable.learning_rate.numpy()))

  def on_update(self, frames, metrics, episodes, save):
    self.tunable.learning_rate.assign(self.tunable.learning_rate / 2)
    self.tape.append((frames, self.tunable.learning_rate.numpy(), len(episodes)))
    if frames == 320:
      save()
      raise RuntimeError('killed')


def test_a_callback_changes_the_learner_and_is_saved_with_it(tmp_path, monkeypatch):
  suite, callback = catch.CatchSuite(), Halving()
  # As if killed: nothing is saved on the way out.
  original, saves = checkpoints.Checkpointer.save, []
  monkeypatch.setattr(
    checkpoints.Checkpointer,
    'save',
    lambda self: saves.append(0) or (original(self) if len(saves) < 2 else None),
  )
  with pytest.raises(RuntimeError, match='killed'):
    loop.train(suite, SHORT, str(tmp_path), [callback])
  np.testing.assert_allclose([row[1] for row in callback.tape[1:]], [0.0015, 0.00075], rtol=1e-6)
  assert [row[0] for row in callback.tape] == ['start', 160, 320]
  assert sum(row[2] for row in callback.tape[1:]) == len(read_episodes(tmp_path)) > 0

  monkeypatch.setattr(checkpoints.Checkpointer, 'save', original)
  for path in tmp_path.glob('events*'):
    path.unlink()
  resumed = Halving()
  assert loop.train(suite, SHORT, str(tmp_path), [loop.Callback(), resumed]) == 0
  assert resumed.tape[0][:2] == ('start', 320)
  np.testing.assert_allclose(resumed.tape[0][2], 0.00075, rtol=1e-6)
  assert len(resumed.tape) == 1 + 10
  rates = [rate for _, rate in read_scalars(tmp_path)['learner/learning_rate']]
  # What the last update used: the eleventh halving, and the decay has left a twelfth.
  np.testing.assert_allclose(rates[-1], 0.003 / 2**11 / 12, rtol=1e-5)


class Refusing(loop.Callback):
  """Does not go with the run."""

  def start(self, frames):
    raise ValueError('This run is not for me.')


def test_a_callback_that_refuses_at_the_start_leaves_no_checkpoint(tmp_path):
  with pytest.raises(ValueError, match='not for me'):
    loop.train(catch.CatchSuite(), SHORT, str(tmp_path), callbacks=[Refusing()])
  assert not list(tmp_path.glob('ckpt*'))
