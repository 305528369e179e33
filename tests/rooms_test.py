"""The rooms of the project: which import which, which load no TensorFlow, and how large they are.

`FLOORS` is the order of the rooms, from what knows nothing of the others to what knows them all.
"""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

from tests.support.processes import ROOT

# A room imports rooms on the lines above its own, and none of its own line. A room is a module or
# package of `impala_tf`, or a package or module beside it.
FLOORS = """
  errors structs
  system
  config files
  agent
  environments
  cli saved_config
  acting
  transport
  learning
  training
  evaluation
  reports
  cluster
  curves launch sweeps
  pbt
  paper benchmark
  atari57 dmlab30
  __main__
  run_experiment
"""

# Rooms, and single modules of others, that load no TensorFlow when they are imported: commands that
# only check flags start in a fifth of a second, and processes of environments, and those that speak
# for a crowd of actors, stay small. Functions may import what needs it.
WITHOUT_TENSORFLOW = """
  impala_tf errors structs system config files cli saved_config
  environments evaluation.command evaluation.evaluate evaluation.results reports curves launch
  sweeps.report sweeps.worker pbt.folder pbt.report pbt.rules paper.run paper.report cluster.trainer
  benchmark.conversation benchmark.crowd
  atari57 dmlab30 run_experiment
"""

MAX_ENTRIES = 25
MAX_LINES = 360


def modules(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """The product's modules and packages by their dotted names."""
  paths = [root / 'run_experiment.py']
  for package in ('impala_tf', 'atari57', 'dmlab30'):
    paths += (root / package).rglob('*.py')
  dotted = {'.'.join(path.relative_to(root).with_suffix('').parts): path for path in paths}
  return {name.removesuffix('.__init__'): path for name, path in sorted(dotted.items())}


def imports(root: pathlib.Path) -> dict[str, set[str]]:
  """Returns the product's modules that each module imports, in functions as well."""
  known = modules(root)
  found = {}
  for name, path in known.items():
    targets = set()
    tree = ast.parse(path.read_text())
    # The package itself is the door to all: its functions may import what they need.
    for node in tree.body if name == 'impala_tf' else ast.walk(tree):
      if isinstance(node, ast.Import):
        targets |= {alias.name for alias in node.names}
      elif isinstance(node, ast.ImportFrom):
        assert not node.level, f'{path}: relative imports hide which room is meant.'
        members = {f'{node.module}.{alias.name}' for alias in node.names}
        targets |= {member if member in known else node.module for member in members}
    found[name] = {t for t in targets if t.split('.')[0] in ('tests', *_beside(known))} - {name}
  return found


def _beside(known):
  return {name.split('.')[0] for name in known}


def room(module: str) -> str:
  """The room that a module is in; of `impala_tf` itself its own name."""
  first, *rest = module.split('.')
  return rest[0] if first == 'impala_tf' and rest else first


def arrows_back_up(root: pathlib.Path) -> set[tuple[str, str]]:
  """Pairs of modules whose first one imports the second, from a floor above it or beside it."""
  floors = [line.split() for line in FLOORS.strip().splitlines()]
  floor = {name: i for i, line in enumerate(floors, 1) for name in line} | {'impala_tf': 0}
  return {
    (name, target)
    for name, targets in imports(root).items()
    for target in targets
    if room(name) != room(target) and floor.get(room(target), len(floor)) >= floor[room(name)]
  }


def circles(root: pathlib.Path) -> set[str]:
  """Modules that import themselves by way of others, and those between two such circles."""
  left = imports(root)

  # A module that imports none of those left, or is imported by none of them, is in no circle.
  while True:
    imported = set().union(*left.values())
    inner = {name for name, targets in left.items() if name in imported and targets & left.keys()}
    if inner == left.keys():
      return inner
    left = {name: left[name] & inner for name in inner}


def with_tensorflow(root: pathlib.Path) -> set[str]:
  """Modules declared free of TensorFlow that load it all the same, found where there is none."""
  done = subprocess.run(
    [sys.executable, '-m', 'tests.support.without_tensorflow', *_declared(root)],
    cwd=root,
    env={**os.environ, 'PYTHONPATH': f'{root}:{ROOT}'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return set(done.stdout.split())


def _declared(root):
  """Modules declared free of TensorFlow, those in declared rooms among them."""
  known = [name for name in modules(root) if not name.endswith('.__main__')]
  free = set(WITHOUT_TENSORFLOW.split())
  return [name for name in known if {room(name), name.removeprefix('impala_tf.')} & free]


def too_long(root: pathlib.Path) -> set[str]:
  """Files of more lines than a module should have."""
  return {
    str(path.relative_to(root))
    for path in modules(root).values()
    if len(path.read_text().splitlines()) > MAX_LINES
  }


def untyped(root: pathlib.Path) -> set[str]:
  """Public functions and methods, as 'file: name', that lack the type of an argument or result."""
  found = set()

  def visit(node, path):
    for child in ast.iter_child_nodes(node):
      is_public = not getattr(child, 'name', '').startswith('_') or child.name == '__init__'
      if isinstance(child, ast.ClassDef) and is_public:
        visit(child, path)
      elif isinstance(child, ast.FunctionDef) and is_public:
        arguments = [*child.args.posonlyargs, *child.args.args, *child.args.kwonlyargs]
        types = [a.annotation for a in arguments if a.arg not in ('self', 'cls')]
        if child.name != '__init__':
          types.append(child.returns)
        if None in types:
          found.add(f'{path.relative_to(root)}: {child.name}')

  for path in modules(root).values():
    visit(ast.parse(path.read_text()), path)
  return found


def with_autograph(root: pathlib.Path) -> set[str]:
  """Uses of tf.function, as 'file:line', that let AutoGraph rewrite Python code.

  It takes a second of each start, and writes files into the folder for temporary files, which a
  process that is killed leaves there.
  """
  found = set()
  for path in modules(root).values():
    nodes = list(ast.walk(ast.parse(path.read_text())))
    calls = [n for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) == 'tf.function']
    without = [c for c in calls if 'autograph=False' in map(ast.unparse, c.keywords)]
    uses = [n for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n) == 'tf.function']
    sound = {call.func for call in without}
    found |= {f'{path.relative_to(root)}:{use.lineno}' for use in uses if use not in sound}
  return found


def entries(root: pathlib.Path) -> list[str]:
  """Lists what `ls impala_tf` shows."""
  return sorted(p.name for p in (root / 'impala_tf').iterdir() if p.name != '__pycache__')


def test_each_module_is_in_a_declared_room():
  rooms = {room(name) for name in modules(ROOT)} - {'impala_tf'}
  assert rooms <= set(FLOORS.split())


def test_rooms_import_only_what_is_below_them():
  assert not arrows_back_up(ROOT)


def test_no_module_imports_itself_by_way_of_others():
  assert not circles(ROOT)


def test_what_is_declared_free_of_tensorflow_is_there():
  known = modules(ROOT)
  there = {room(name) for name in known} | {name.removeprefix('impala_tf.') for name in known}
  assert set(WITHOUT_TENSORFLOW.split()) <= there
  assert set(FLOORS.split()) <= there


def test_rooms_declared_free_of_tensorflow_do_not_load_it():
  assert not with_tensorflow(ROOT)


def test_nothing_is_rewritten_by_autograph():
  assert not with_autograph(ROOT)


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
  assert len(with_autograph(root)) == 1
  sound = text.replace('@tf.function\n', '@tf.function(autograph=False)\n')
  sound = sound.replace('(len)', '(len, autograph=False)').replace('=[])', '=[], autograph=False)')
  assert not with_autograph(_plant(tmp_path, {'impala_tf/agent/networks.py': sound}))


def test_rooms_and_modules_are_of_a_size_to_be_read():
  assert len(entries(ROOT)) <= MAX_ENTRIES
  assert not too_long(ROOT)


def test_public_signatures_have_types():
  assert not untyped(ROOT)


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
  assert not arrows_back_up(root)
  assert not circles(root)
  assert not with_tensorflow(root)
  assert not too_long(root)
  assert not untyped(root)


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
  found = arrows_back_up(_plant(tmp_path, {name: text}))
  arrow = arrow or ('agent.networks', 'training')
  assert [tuple(m.removeprefix('impala_tf').removeprefix('.') for m in pair) for pair in found] == [
    arrow
  ]


def test_a_circle_in_one_room_is_found(tmp_path):
  files = {
    'impala_tf/agent/networks.py': 'from impala_tf.agent import heads',
    'impala_tf/agent/heads.py': 'from impala_tf.agent.networks import x',
  }
  found = circles(_plant(tmp_path, files))
  assert found == {'impala_tf.agent.heads', 'impala_tf.agent.networks'}


@pytest.mark.parametrize(
  'text',
  ['import tensorflow', 'from impala_tf.agent import networks', 'import sonnet as snt'],
)
def test_tensorflow_in_a_room_declared_free_of_it_is_found(tmp_path, text):
  root = _plant(tmp_path, {'impala_tf/environments/batch.py': text})
  assert with_tensorflow(root) == {'impala_tf.environments.batch'}


def test_a_module_of_too_many_lines_is_found(tmp_path):
  root = _plant(tmp_path, {'dmlab30/suite.py': '\n' * (MAX_LINES + 1)})
  assert too_long(root) == {'dmlab30/suite.py'}


@pytest.mark.parametrize(
  'text', ['def f(x) -> None: ...', 'class A:\n  def f(self): ...', 'def f(x: int): ...']
)
def test_a_public_signature_without_types_is_found(tmp_path, text):
  assert untyped(_plant(tmp_path, {'dmlab30/suite.py': text})) == {'dmlab30/suite.py: f'}
