"""What the documents and the Kubernetes manifest tell users to type exists."""

import pathlib
import re
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).parent.parent
FILES = ('docs/cluster.md', 'docs/kubernetes.yaml', 'docs/scaling.md')
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
  return known


@pytest.mark.parametrize('name', FILES)
def test_flags_exist(known_flags, name):
  text = (ROOT / name).read_text()
  used = set(re.findall(r'--([a-z][\w-]*)', text)) - OTHERS
  assert used
  assert used <= known_flags, used - known_flags


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
