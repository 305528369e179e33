"""The rooms of the project: which import which, which load no TensorFlow, how large they are."""

import pytest

from tests.support import rooms
from tests.support.processes import ROOT


def test_each_module_is_in_a_declared_room():
  there = {rooms.room(name) for name in rooms.modules(ROOT)}
  assert there - {'impala_tf'} <= set(rooms.FLOORS.split())


def test_rooms_import_only_what_is_below_them():
  assert not rooms.arrows_back_up(ROOT)


def test_no_module_imports_itself_by_way_of_others():
  assert not rooms.circles(ROOT)


def test_what_is_declared_free_of_tensorflow_is_there():
  known = rooms.modules(ROOT)
  there = {rooms.room(name) for name in known} | {name.removeprefix('impala_tf.') for name in known}
  assert set(rooms.WITHOUT_TENSORFLOW.split()) <= there
  assert set(rooms.FLOORS.split()) <= there


def test_rooms_declared_free_of_tensorflow_do_not_load_it():
  assert not rooms.with_tensorflow(ROOT)


def test_nothing_is_rewritten_by_autograph():
  assert not rooms.with_autograph(ROOT)


@pytest.mark.parametrize(
  'text',
  [
    'import tensorflow as tf\n@tf.function\ndef f():\n  pass',
    'import tensorflow as tf\nf = tf.function(len)',
    'import tensorflow as tf\n@tf.function(input_signature=[])\ndef f():\n  pass',
  ],
)
def test_what_autograph_would_rewrite_is_found(tmp_path, text):
  root = _plant(tmp_path, {'impala_tf/agent/networks.py': text})
  assert len(rooms.with_autograph(root)) == 1
  sound = text.replace('@tf.function\n', '@tf.function(autograph=False)\n')
  sound = sound.replace('(len)', '(len, autograph=False)').replace('=[])', '=[], autograph=False)')
  assert not rooms.with_autograph(_plant(tmp_path, {'impala_tf/agent/networks.py': sound}))


def test_rooms_and_modules_are_of_a_size_to_be_read():
  assert len(rooms.entries(ROOT)) <= rooms.MAX_ENTRIES
  assert not rooms.too_long(ROOT)


def test_public_signatures_have_types():
  assert not rooms.untyped(ROOT)


def _plant(root, files):
  """A small project in which everything is in order, but for `files`."""
  sound = {
    'impala_tf/__init__.py': '',
    'impala_tf/config.py': 'import math',
    'impala_tf/agent/__init__.py': '',
    'impala_tf/agent/networks.py': 'import tensorflow as tf\nfrom impala_tf import config',
    'impala_tf/environments/__init__.py': '',
    'impala_tf/environments/batch.py': 'def f() -> None:\n  from impala_tf.agent import networks',
    'impala_tf/training/__init__.py': '',
    'impala_tf/training/loop.py': 'from impala_tf.environments import batch',
    'impala_tf/cluster/__init__.py': '',
    'atari57/__init__.py': '',
    'dmlab30/__init__.py': '',
    'run_experiment.py': 'import atari57',
  }
  for name, text in (sound | files).items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  return root


def test_a_sound_project_passes(tmp_path):
  root = _plant(tmp_path, {})
  assert not rooms.arrows_back_up(root)
  assert not rooms.circles(root)
  assert not rooms.with_tensorflow(root)
  assert not rooms.too_long(root)
  assert not rooms.untyped(root)


@pytest.mark.parametrize(
  ('name', 'text', 'arrow'),
  [
    ('impala_tf/training/loop.py', 'import impala_tf.cluster', ('training.loop', 'cluster')),
    ('impala_tf/agent/networks.py', 'def f():\n  from impala_tf import training', None),
    ('impala_tf/config.py', 'from atari57 import games', ('config', 'atari57')),
    ('impala_tf/training/loop.py', 'import dmlab30', ('training.loop', 'dmlab30')),
    ('impala_tf/config.py', 'from tests.support import catch', ('config', 'tests.support')),
    ('impala_tf/__init__.py', 'from impala_tf import config', ('', 'config')),
    ('atari57/games.py', 'import dmlab30', ('atari57.games', 'dmlab30')),
    ('dmlab30/suite.py', 'from atari57 import x', ('dmlab30.suite', 'atari57')),
    ('dmlab30/suite.py', 'import run_experiment', ('dmlab30.suite', 'run_experiment')),
  ],
)
def test_an_arrow_back_up_is_found(tmp_path, name, text, arrow):
  found = rooms.arrows_back_up(_plant(tmp_path, {name: text}))
  arrow = arrow or ('agent.networks', 'training')
  assert [tuple(m.removeprefix('impala_tf').removeprefix('.') for m in pair) for pair in found] == [
    arrow
  ]


def test_a_circle_in_one_room_is_found(tmp_path):
  files = {
    'impala_tf/agent/networks.py': 'from impala_tf.agent import heads',
    'impala_tf/agent/heads.py': 'from impala_tf.agent.networks import x',
  }
  found = rooms.circles(_plant(tmp_path, files))
  assert found == {'impala_tf.agent.heads', 'impala_tf.agent.networks'}


@pytest.mark.parametrize(
  'text',
  ['import tensorflow', 'from impala_tf.agent import networks', 'import sonnet as snt'],
)
def test_tensorflow_in_a_room_declared_free_of_it_is_found(tmp_path, text):
  root = _plant(tmp_path, {'impala_tf/environments/batch.py': text})
  assert rooms.with_tensorflow(root) == {'impala_tf.environments.batch'}


def test_a_module_of_too_many_lines_is_found(tmp_path):
  root = _plant(tmp_path, {'dmlab30/suite.py': '\n' * (rooms.MAX_LINES + 1)})
  assert rooms.too_long(root) == {'dmlab30/suite.py'}


@pytest.mark.parametrize(
  'text', ['def f(x) -> None: ...', 'class A:\n  def f(self): ...', 'def f(x: int): ...']
)
def test_a_public_signature_without_types_is_found(tmp_path, text):
  assert rooms.untyped(_plant(tmp_path, {'dmlab30/suite.py': text})) == {'dmlab30/suite.py: f'}
