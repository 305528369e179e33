"""The rooms of the project: which import which, which load no TensorFlow, and how large they are.

`FLOORS` is the order of the rooms, from what knows nothing of the others to what knows them all.
"""

import ast
import os
import pathlib
import subprocess
import sys

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
