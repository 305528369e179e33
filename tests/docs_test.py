"""Commands, flags and links of the documents and the Kubernetes manifest exist."""

import ast
import functools
import itertools
import re
import textwrap

import pytest
import yaml

from impala_tf.config import Config, sizes
from impala_tf.environments import suites
from impala_tf.system import machine
from tests.support import rooms
from tests.support.processes import ROOT

FILES = (
  'README.md',
  'CONTRIBUTING.md',
  'atari57/README.md',
  'dmlab30/README.md',
  'results/README.md',
  'pretrained/README.md',
  'docs/kubernetes.yaml',
  *(str(path.relative_to(ROOT)) for path in sorted((ROOT / 'docs').rglob('*.md'))),
)
# Flags of other programs in the same lines.
OTHERS = {
  'enable_bzlmod',
  'enable_workspace',
  'cxxopt',
  'dist',
  'nodes',
  'replicas',
  'ntasks',
  'nodelist',
  'exclude',
  'no-cache-dir',
  'job-name',
  'ntasks-per-node',
  'exclusive',
  'signal',
  'requeue',
  'pid',
}


# Documents without a flag.
WITHOUT_FLAGS = ('docs/how_it_works.md',)

# A command and its arguments, up to the end of the line or anything else that ends it.
COMMAND = re.compile(
  r'(?:-m (?P<module>(?:impala_tf|atari57|dmlab30|tests)[\w.]*)|run_experiment\.py|impala-tf)'
  r'(?P<rest>[^`&;|>\n]*)'
)
FLAG = re.compile(r'--([a-z][\w-]*)')
# The options of all suites, and that of the suite in docs/extending.md.
CONFIG = {*Config.field_names(), *suites.option_names(), 'num_arms'}
# Modules that define flags for others that call them, by how they do so.
SHARED = {
  'config_flags.define(': CONFIG,
  'trainer.define_flag(': {'cluster'},
  'import role_flags': 'impala_tf/cluster/role_flags.py',
  'evaluation import command': 'impala_tf/evaluation/command.py',
}


@functools.cache
def flags_of(path):
  """Returns the flags of the command in a file, from its text: to load them all takes long."""
  text = (ROOT / path).read_text()
  found = set(re.findall(r"(?:DEFINE_\w+|define_paths?|add_argument)\(\s*'(?:--)?(\w+)'", text))
  if path == 'dmlab30/evaluate.py':
    found |= {'dataset_path', 'level_cache_dir', 'level_cache_max_gigabytes', 'renderer'}
  for call, of in SHARED.items():
    if call in text and of != path:
      found |= of if isinstance(of, set) else flags_of(of)
  return found


def is_flag(name, known):
  return (
    name in known or name.removeprefix('no') in known or name in ('help', 'helpfull', 'verbosity')
  )


@pytest.mark.parametrize('name', FILES)
def test_commands_have_the_flags_they_are_given(name):
  text = (ROOT / name).read_text().replace('\\\n', ' ')
  everything = set().union(*(flags_of(str(path.relative_to(ROOT))) for path in commands()))
  used = set(FLAG.findall(text)) - OTHERS
  assert used or name in WITHOUT_FLAGS
  assert not {flag for flag in used if not is_flag(flag, everything)}
  check_commands(text)


def check_commands(text):
  """Asserts that each command in a text has the flags that it is given."""
  for command in COMMAND.finditer(text):
    path = file_of(command['module']) if command['module'] else 'impala_tf/__main__.py'
    unknown = {flag for flag in FLAG.findall(command['rest']) if not is_flag(flag, flags_of(path))}
    assert not unknown, command[0]


def file_of(module):
  """The file that defines the flags of what `python -m` runs."""
  path = module.replace('.', '/')
  places = (f'{path}/command.py', f'{path}/__main__.py', f'{path}.py')
  return next((place for place in places if (ROOT / place).exists()), places[-1])


def commands():
  return [path for path in ROOT.rglob('*.py') if is_command(path)]


def is_command(path):
  if path.name == 'command.py':
    return (path.parent / '__main__.py').exists()
  return '.venv' not in path.parts and "\nif __name__ == '__main__':\n" in path.read_text()


def test_commands_in_help_are_whole_lines_and_have_the_flags_they_are_given():
  examples = 0
  for path in commands():
    text = (ast.get_docstring(ast.parse(path.read_text())) or '').replace('\\\n', ' ')
    check_commands(text)
    lines = [line.strip() for line in text.splitlines() if line.startswith('    ')]
    if any(line.startswith('python ') for line in lines):
      assert all(line.startswith(('python ', '#')) for line in lines), path
      examples += len(lines)
  assert examples > 40


def test_examples_in_docstrings_are_indented_as_code():
  for path in rooms.modules(ROOT).values():
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        for paragraph in (ast.get_docstring(node) or '').split('\n\n')[1:]:
          assert paragraph.startswith('    ') or not is_code(paragraph), (path, paragraph)


def test_fields_of_a_class_are_listed_as_its_attributes():
  for path in rooms.modules(ROOT).values():
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.ClassDef):
        for paragraph in (ast.get_docstring(node) or '').split('\n\n')[1:]:
          assert not re.match(r'[a-z_]\w*: ', paragraph), (path, paragraph)
          if paragraph.startswith('Attributes:'):
            names = re.findall(r'^  (\w+): ', paragraph, re.MULTILINE)
            assert names, (path, paragraph)
            own = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            own |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
            own |= {n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef)}
            assert {*names} <= own, (path, paragraph)
        assert '\nAttributes:' not in re.sub(r'\n\n+Attributes:', '', ast.get_docstring(node) or '')


def is_code(paragraph):
  try:
    return bool(ast.parse(textwrap.dedent(paragraph)).body)
  except SyntaxError:
    return False


@pytest.mark.parametrize('name', [name for name in FILES if name.endswith('.md')])
def test_links_and_modules_exist(name):
  text = (ROOT / name).read_text()
  for target in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', text):
    assert ((ROOT / name).parent / target).exists(), target
  for module in re.findall(r'python -m ([\w.]+)', text):
    assert (ROOT / file_of(module)).exists() or module == 'pytest', module


@pytest.mark.parametrize('name', [name for name in FILES if name.endswith('.md')])
def test_anchors_exist(name):
  for path, anchor in re.findall(r'\]\(([^)#:]*)#([^)]+)\)', (ROOT / name).read_text()):
    target = (ROOT / name).parent / path if path else ROOT / name
    headings = re.findall(r'^#+ (.*)$', target.read_text(), re.MULTILINE)
    assert anchor in {
      re.sub(r'[^\w\- ]', '', heading).lower().replace(' ', '-') for heading in headings
    }


def test_walks_go_through_functions_that_exist_and_are_short():
  text = _sections((ROOT / 'docs/architecture.md').read_text())['Walks']
  walks = {}
  for name, walk in re.findall(r'^### (.*)\n((?:(?!### ).*\n)*)', text, re.MULTILINE):
    steps = re.findall(r'^\d+\. \*?`([\w/]+\.py)` `(\w+)`', walk, re.MULTILINE)
    found = re.search(
      r'^Handed on by (\d+): ((?:`[\w/]+\.py`\s`\w+`(?:,\s)?)+)', walk, re.MULTILINE
    )
    others = re.findall(r'`([\w/]+\.py)`\s`(\w+)`', found[2]) if found else []
    assert len(others) == int(found[1] if found else 0), name
    walks[name] = (steps, others)
    for file, function in steps + others:
      (path,) = {path for path in (ROOT / 'impala_tf' / file, ROOT / file) if path.exists()}
      assert re.search(rf'(def|class) {function}\b', path.read_text()), (file, function)

  # How many files look at the value or change it, and how many hand it on.
  for name, most in {
    'A frame, from the emulator to the loss': (10, 7),
    '`--learning_rate`, from flag to update': (6, 2),
    "A level's name, to its environment": (5, 6),
    'To change the loss': (2, 0),
  }.items():
    assert all(len(part) <= limit for part, limit in zip(walks[name], most, strict=True)), name
  loss = [ROOT / 'impala_tf/learning' / name for name in ('losses.py', 'vtrace.py')]
  assert sum(len(path.read_text().splitlines()) for path in loss) <= 450

  # Elsewhere in these rooms only several learners have to do with the learning rate.
  listed = {file for file, _ in itertools.chain(*walks['`--learning_rate`, from flag to update'])}
  rooms = ('config', 'cli', 'agent', 'acting', 'transport', 'learning', 'training')
  for path in itertools.chain(*((ROOT / 'impala_tf' / room).glob('*.py') for room in rooms)):
    file = f'{path.parent.name}/{path.name}'
    if re.search(r'\blearning_rate\b', path.read_text()):
      assert file in {*listed, 'learning/multi_device.py'}


def test_the_reading_order_has_all_files_each_after_those_that_it_imports():
  table = _sections((ROOT / 'docs/architecture.md').read_text())['Reading order']
  read, whole = [], set()
  for name, files in re.findall(r'^\| (.+?) \| (.*`) \|$', table, re.MULTILINE):
    room = re.match(r'`(\w+)`:', name)
    package = f'impala_tf.{room[1]}' if room else 'impala_tf'
    whole |= {*re.findall(r'`(\w+)`', files)}
    for file in re.findall(r'`(\w+)\.py`', files):
      read.append(f'{package}.{file}'.removesuffix('.__init__'))

  imported = rooms.imports(ROOT)
  for number, module in enumerate(read):
    assert not imported[module] & {*read[number:]}, module
  paths = rooms.modules(ROOT)
  assert {
    name
    for name, path in paths.items()
    if name.startswith('impala_tf.')
    and path.name not in ('__init__.py', '__main__.py')
    and rooms.room(name) not in whole
  } <= {*read}


def _sections(text):
  return dict(re.findall(r'^## (.*)\n((?:(?!## ).*\n)*)', text, re.MULTILINE))


def test_readme_has_the_two_commands():
  first = re.findall(r'^    (.*)$', (ROOT / 'README.md').read_text(), re.MULTILINE)[:2]
  assert 'run_experiment.py --level_name=pong' in first[0]
  assert '-m pytest' in first[1]


def test_manifest_fences_both_ports_and_numbers_the_actors():
  documents = list(yaml.safe_load_all((ROOT / 'docs/kubernetes.yaml').read_text()))
  by_name = {(d['kind'], d['metadata']['name']): d for d in documents}
  assert len(by_name) == len(documents)
  for part, other in (('learner', 'actor'), ('actor', 'learner')):
    pods = by_name['StatefulSet', f'impala-{part}']['spec']['template']
    (container,) = pods['spec']['containers']
    (port,) = container['ports']
    arguments = container['args']
    assert f'--job_name={part}' in arguments
    assert f'--{part}_address=$(POD_IP):{port["containerPort"]}' in arguments
    policy = by_name['NetworkPolicy', f'impala-{part}']['spec']
    assert policy['podSelector']['matchLabels'] == pods['metadata']['labels']
    (rule,) = policy['ingress']
    assert rule['ports'] == [{'protocol': 'TCP', 'port': port['containerPort']}]
    assert rule['from'] == [{'podSelector': {'matchLabels': {'app': 'impala', 'part': other}}}]
    assert all(
      f'$({variable["name"]})' in ' '.join(arguments) or 'value' in variable
      for variable in container['env']
    )


def _number(pattern, text):
  (found,) = set(re.findall(pattern, text))
  return int(found)


def test_recipes_have_the_lag_that_they_state():
  sections = _sections((ROOT / 'docs/cluster.md').read_text())
  manifest = (ROOT / 'docs/kubernetes.yaml').read_text()
  hosts = re.search(r'for host in ([\d. ]+);', sections['ssh'])[1].split()
  _, config = suites.resolve('pong')
  for processes, flags, said in (
    (len(hosts), sections['ssh'], sections['ssh']),
    (_number(r'--ntasks=(\d+) --exclude', sections['Slurm']), sections['Slurm'], sections['Slurm']),
    (_number(r'replicas: (\d\d)', manifest), manifest, sections['Kubernetes']),
    (_number(r'(\d+) actor processes on', manifest), manifest, manifest),
  ):
    each = _number(r'--num_actors=(\d+)', flags) * _number(r'--envs_per_actor=(\d+)', flags)
    lag = sizes.expected_lag(processes * each, config.fresh_per_batch)
    assert lag <= sizes.MOST_LAG
    assert f' {lag:.0f} updates' in said
    assert said is manifest or f'{each} environments' in said


ROWS_OF_DEFAULTS = {
  'one game: actors x environments, processes of each actor': 'pong',
  'all 57 games': 'atari57',
  'one level of DMLab-30': 'rooms_watermaze',
  'all 30 levels': 'dmlab30',
  'Gymnasium, batches of 8': 'gymnasium:CartPole-v1',
}


def test_the_table_of_defaults_has_them(monkeypatch):
  section = _sections((ROOT / 'docs/scaling.md').read_text())['The policy lag']
  header, _, *rows = [
    line.strip('| ').split(' | ') for line in section.splitlines() if line.startswith('|')
  ]
  assert [row[0] for row in rows[::2]] == list(ROWS_OF_DEFAULTS)
  for row, lags in zip(rows[::2], rows[1::2], strict=True):
    assert lags[0] == 'lag'
    for cores, cell, lag in zip(header[1:], row[1:], lags[1:], strict=True):
      monkeypatch.setattr(machine, 'cores', lambda cores=cores: int(cores.removesuffix(' cores')))
      _, config = suites.resolve(ROWS_OF_DEFAULTS[row[0]])
      hosted = f'{config.num_actors} x {config.envs_per_actor}'
      if config.envs_per_actor > 1:
        hosted += f', {config.processes_per_actor}'
      assert (cell, lag) == (hosted, f'{config.expected_lag:.2g}'), (row[0], cores)


def test_readme_is_short():
  assert len((ROOT / 'README.md').read_text().splitlines()) <= 150


def test_site_has_all_documents():
  text = (ROOT / 'mkdocs.yml').read_text()
  shown = set(re.findall(r': ([\w/]+\.md)$', text, re.MULTILINE))
  there = {name for name in FILES if name.endswith('.md')} | {'CHANGELOG.md'}
  assert shown == there


def test_site_has_what_its_documents_link_to():
  tree = ast.parse((ROOT / 'docs/site.py').read_text())
  (patterns,) = [
    ast.literal_eval(node.value)
    for node in tree.body
    if isinstance(node, ast.Assign) and node.targets[0].id == 'DOCUMENTS'
  ]
  shown = {path for pattern in patterns for path in ROOT.glob(pattern)}
  for name in [name for name in FILES if name.endswith('.md')]:
    for target in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', (ROOT / name).read_text()):
      assert (ROOT / name).parent.joinpath(target).resolve() in shown, (name, target)
