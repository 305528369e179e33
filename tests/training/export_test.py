"""Exported agents against the agents themselves."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tree

from atari57 import suite as atari57_suite
from atari57.suite import AtariSuite
from impala_tf import files, structs
from impala_tf.agent import agents
from impala_tf.training import checkpoints, export
from tests.support import catch, run_files

MEMORY = dataclasses.replace(catch.CONFIG, level_name='catch_with_memory')
LOAD = """
import numpy as np, sys, tensorflow as tf
act = tf.saved_model.load(sys.argv[1]).signatures['serving_default']
outputs = act(frame=np.full([4, 8, 5, 1], 7, np.uint8))
action, logits = outputs['action'], outputs['policy_logits']
print(sorted(outputs), action.shape, action.dtype.name, logits.numpy()[3].tolist())
foreign = ('impala_tf', 'sonnet', 'tensorflow_probability')
assert not [name for name in sys.modules if name.startswith(foreign)]
"""


def frames(*leading):
  return (
    np.random.default_rng(0)
    .integers(256, size=(*leading, catch.ROWS, catch.COLUMNS, 1))
    .astype(np.uint8)
  )


def test_a_program_without_this_project_gets_the_agents_policy(tmp_path):
  suite = catch.CatchSuite()
  run = run_files.make_run(suite, catch.CONFIG, tmp_path / 'run', frames=640)
  assert export.export(suite, catch.CONFIG, run, str(tmp_path / 'model')).frames == 640
  script = [sys.executable, '-c', LOAD, str(tmp_path / 'model')]
  done = subprocess.run(
    script, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
  )
  assert done.returncode == 0, done.stderr
  names, logits = done.stdout.split(' (4,) int32 ')
  assert names == "['action', 'baseline', 'policy_logits']"
  agent = agents.for_suite(suite, catch.CONFIG)
  checkpoints.load_weights(run, agent)
  frame = np.full([1, 1, 8, 5, 1], 7, np.uint8)
  step_outputs = structs.StepOutput(
    np.zeros([1, 1], np.float32), np.zeros([1, 1], bool), (), (), structs.Observation(frame)
  )
  expected, _ = agent.unroll(np.zeros([1, 1], np.int32), step_outputs, ())
  np.testing.assert_allclose(eval(logits), expected.policy_logits[0, 0], rtol=1e-5)


@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_an_exported_agent_is_float32_for_any_machine(tmp_path, precision):
  atari, settings = (
    AtariSuite(),
    dataclasses.replace(
      atari57_suite.SUITE.configure('pong', agent='shallow'), precision=precision
    ),
  )
  export.export(
    atari, settings, run_files.make_run(atari, settings, tmp_path / 'run'), str(tmp_path / 'model')
  )
  act = tf.saved_model.load(str(tmp_path / 'model')).signatures['serving_default']
  graph = str(act.graph.as_graph_def())
  assert 'DT_FLOAT' in graph
  assert 'DT_BFLOAT16' not in graph


def test_actions_are_sampled_from_the_policy(tmp_path):
  suite = catch.CatchSuite()
  export.export(
    suite,
    catch.CONFIG,
    run_files.make_run(suite, catch.CONFIG, tmp_path / 'run'),
    str(tmp_path / 'model'),
  )
  act = tf.saved_model.load(str(tmp_path / 'model')).signatures['serving_default']
  outputs = act(frame=tf.constant(np.repeat(frames(1), 3000, axis=0)))
  shares = np.bincount(outputs['action'], minlength=3) / 3000
  np.testing.assert_allclose(shares, tf.nn.softmax(outputs['policy_logits'][0]), atol=0.05)


def test_memory_is_carried_by_the_caller(tmp_path):
  suite = catch.CatchSuite()
  run = run_files.make_run(suite, MEMORY, tmp_path / 'run')
  export.export(suite, MEMORY, run, str(tmp_path / 'model'))
  act = tf.saved_model.load(str(tmp_path / 'model')).signatures['serving_default']
  agent = agents.for_suite(suite, MEMORY)
  checkpoints.load_weights(run, agent)
  seen = frames(5, 2)
  state = {f'state_{i}': tf.zeros([2, 32]) for i in range(2)}
  logits = []
  for frame in seen:
    outputs = act(frame=tf.constant(frame), **state)
    logits.append(outputs['policy_logits'])
    state = {name: outputs[name] for name in state}
  step_outputs = structs.StepOutput(
    np.zeros([5, 2], np.float32), np.zeros([5, 2], bool), (), (), structs.Observation(seen)
  )
  expected, last = agent.unroll(np.zeros([5, 2], np.int32), step_outputs, agent.initial_state(2))
  np.testing.assert_allclose(logits, expected.policy_logits, atol=1e-5)
  for tensor, wanted in zip(state.values(), tree.flatten(last), strict=True):
    np.testing.assert_allclose(tensor, wanted, atol=1e-5)
  assert np.abs(logits[0] - logits[-1]).max() > 1e-4


def test_inputs_are_what_the_agent_sees():
  spec = structs.Observation(
    structs.ArraySpec((72, 96, 3), np.uint8), structs.ArraySpec((), np.bytes_)
  )
  agent = agents.make_agent(
    9, 'shallow', use_lstm=True, use_last_action_and_reward=True, use_instruction=True
  )
  agent.build(spec)
  act = export.Policy(agent, spec).act
  (inputs,) = [act.input_signature]
  assert [s.name for s in inputs] == [
    'frame',
    'instruction',
    'last_action',
    'last_reward',
    'state_0',
    'state_1',
  ]
  given = [
    np.zeros([1, 72, 96, 3], np.uint8),
    [b'go left'],
    np.array([2], np.int32),
    np.array([0.5], np.float32),
  ]
  state = [np.ones([1, 256], np.float32)] * 2
  logits = act(*given, *state)['policy_logits']
  for index, other in (
    (1, [b'go right']),
    (2, np.array([3], np.int32)),
    (3, np.array([-0.5], np.float32)),
  ):
    assert not np.allclose(
      act(*given[:index], other, *given[index + 1 :], *state)['policy_logits'], logits
    )


def test_a_run_without_checkpoint_is_refused(tmp_path):
  with pytest.raises(checkpoints.CheckpointError, match=str(tmp_path)):
    export.export(catch.CatchSuite(), catch.CONFIG, str(tmp_path), str(tmp_path / 'model'))
  assert not (tmp_path / 'model').exists()


def test_a_folder_that_can_not_be_written_is_an_error_of_storage(tmp_path):
  suite = catch.CatchSuite()
  run = run_files.make_run(suite, catch.CONFIG, tmp_path / 'run')
  (tmp_path / 'file').touch()
  with pytest.raises(files.StorageError, match=f'{tmp_path}/file/model'):
    export.export(suite, catch.CONFIG, run, str(tmp_path / 'file' / 'model'))
