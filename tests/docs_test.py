"""What the documents and the Kubernetes manifest tell users to type exists."""

import pathlib
import re
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).parent.parent
FILES = (
  'README.md',
  'CONTRIBUTING.md',
  'atari57/README.md',
  'dmlab30/README.md',
  'results/README.md',
  'docs/kubernetes.yaml',
  *(f'docs/{path.name}' for path in sorted((ROOT / 'docs').glob('*.md'))),
)
# Flags of other programs in the same lines.
OTHERS = {
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


@pytest.fixture(scope='module')
def known_flags():
  known = set()
  for command in (
    ['run_experiment.py', '--helpfull'],
    ['-m', 'impala_tf.launch', '--help'],
    ['-m', 'impala_tf.benchmark', '--help'],
    ['-m', 'impala_tf.paper', '--help'],
  ):
    shown = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    known |= set(re.findall(r'--(?:\[no\])?(\w+)', shown.stdout))
  # Those of the other commands as they are written down, since to load them all takes long.
  for folder in ('impala_tf', 'atari57', 'dmlab30', 'tests'):
    for path in (ROOT / folder).glob('*.py'):
      known |= set(re.findall(r"(?:DEFINE_\w+|add_argument)\(\s*'(?:--)?(\w+)'", path.read_text()))
  return known


@pytest.mark.parametrize('name', FILES)
def test_flags_exist(known_flags, name):
  text = (ROOT / name).read_text()
  used = set(re.findall(r'--([a-z][\w-]*)', text)) - OTHERS
  assert used
  assert used <= known_flags, used - known_flags


@pytest.mark.parametrize('name', [name for name in FILES if name.endswith('.md')])
def test_links_and_modules_exist(name):
  text = (ROOT / name).read_text()
  for target in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', text):
    assert ((ROOT / name).parent / target).exists(), target
  for module in re.findall(r'python -m ([\w.]+)', text):
    found = ROOT / module.replace('.', '/')
    assert found.with_suffix('.py').exists() or module == 'pytest', module


def test_readme_has_the_two_commands_and_the_references_of_its_anchors():
  text = (ROOT / 'README.md').read_text()
  first = re.findall(r'^    (.*)$', text, re.MULTILINE)[:2]
  assert 'run_experiment.py --level_name=pong' in first[0]
  assert '-m pytest' in first[1]
  for path, anchor in re.findall(r'\]\(([^)#:]*)#([^)]+)\)', text):
    headings = re.findall(r'^#+ (.*)$', (ROOT / (path or 'README.md')).read_text(), re.MULTILINE)
    assert anchor in {re.sub(r'[^\w\- ]', '', heading).lower().replace(' ', '-') for heading in headings}


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
    assert all(f'$({variable["name"]})' in ' '.join(arguments) or 'value' in variable for variable in container['env'])
