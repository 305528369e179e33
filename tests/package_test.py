"""`import impala_tf`: train, load an agent, act."""

import os

import numpy as np
import pytest
import sonnet as snt

import impala_tf
from impala_tf.agent import agents
from impala_tf.config import ConfigurationError
from impala_tf.learning import vtrace
from impala_tf.system import machine
from impala_tf.training import loop
from tests.support import catch


class Noting(loop.Callback):
  frames = []  # noqa: RUF012

  def on_update(self, frames, *_):
    self.frames.append(frames)


def test_trains_with_named_callbacks_and_the_agent_that_is_loaded_acts(tmp_path, monkeypatch):
  monkeypatch.setattr(machine, 'configure_tensorflow', lambda *_: None)
  Noting.frames.clear()
  given = {'total_environment_frames': 320, 'callbacks': 'tests.package_test:Noting'}
  assert impala_tf.train('tests.support.catch:catch_with_memory', str(tmp_path), **given) == 0
  assert Noting.frames == [160, 320]

  agent = impala_tf.load_agent(str(tmp_path), greedy=True)
  assert (agent.frames, agent.config.level_name) == (320, 'tests.support.catch:catch_with_memory')
  frame = np.full((catch.ROWS, catch.COLUMNS, 1), 255, np.uint8)
  actions = [agent.act(frame, done=True)]
  first = agent._state
  agent.act(frame)
  assert np.abs(agent._state.hidden - first.hidden).max() > 0  # It remembers its episode,
  actions.append(agent.act(frame, done=True))
  np.testing.assert_allclose(agent._state.hidden, first.hidden, rtol=1e-5)  # and no earlier one.
  assert actions[0] == actions[1]
  assert 0 <= actions[0] < catch.Catch.num_actions


def test_modules_of_rooms_can_be_had_from_the_package():
  from impala_tf import vtrace as short

  assert short is vtrace
  with pytest.raises(AttributeError, match='v_trace'):
    _ = impala_tf.v_trace


def test_no_process_takes_all_of_a_graphics_card():
  assert os.environ['TF_FORCE_GPU_ALLOW_GROWTH'] == 'true'


def test_a_torso_that_is_not_installed_is_named():
  with pytest.raises(ConfigurationError, match="agent='nowhere:Torso'"):
    catch.SUITE.configure('catch', agent='nowhere:Torso')


def test_there_must_be_a_run(tmp_path):
  with pytest.raises(ConfigurationError, match=str(tmp_path)):
    impala_tf.load_agent(str(tmp_path))


def test_a_torso_is_made_by_name():
  parts = {'use_lstm': False, 'use_last_action_and_reward': False, 'use_instruction': False}
  agent = agents.make_agent(3, network='sonnet:Flatten', **parts)
  assert isinstance(agent.torso, snt.Flatten)
