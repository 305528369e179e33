"""Programs of the tutorials do what the text says; their commands are checked by docs_test.py."""

import re

import gymnasium
import numpy as np
import tensorflow as tf
from gymnasium.utils import env_checker

from impala_tf.config.options import import_reference
from impala_tf.environments import suites
from tests.support.processes import ROOT

TUTORIALS = ROOT / 'docs/tutorials'


def write(name, folder):
  """Writes the program of a tutorial to the file that its text names; returns the text."""
  text = (TUTORIALS / name).read_text()
  (file,) = re.findall(r'^into `(\w+\.py)`|Put this into `(\w+\.py)`', text, re.MULTILINE)
  (program,) = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
  (folder / ''.join(file)).write_text(program)
  return text


def test_the_corridor_is_an_environment_and_a_level(tmp_path, monkeypatch):
  text = write('environment.md', tmp_path)
  monkeypatch.syspath_prepend(str(tmp_path))
  (level_name,) = set(re.findall(r'--level_name=(\S+)', text))
  environment = gymnasium.make(level_name.removeprefix('gymnasium:'), render_mode='rgb_array')
  env_checker.check_env(environment.unwrapped)
  environment.reset(seed=1)
  assert environment.render().shape == (32, 256, 3)

  suite, config = suites.resolve(level_name)
  suite.check(config)
  corridor = suite.make_environment(level_name, 1, True, config)()
  corridor.reset()
  transition = corridor.step(1)
  steps = 1
  while not transition.finished:
    transition = corridor.step(1)
    steps += 1
  assert transition.reward == 1.0
  assert steps <= 7
  corridor.close()


def test_the_torso_takes_frames_and_keeps_its_variables(tmp_path, monkeypatch):
  text = write('torso.md', tmp_path)
  monkeypatch.syspath_prepend(str(tmp_path))
  (agent,) = set(re.findall(r'--agent=(\w+:\w+)', text))
  torso = import_reference('agent', agent)()
  features = torso(tf.constant(np.random.default_rng(1).integers(0, 255, (2, 84, 84, 4)), tf.uint8))
  assert features.shape == (2, 256)
  assert len(torso.trainable_variables) == 6
