"""A package outside of the project: its suite, option, torso and loss by the ordinary commands."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.support.processes import ROOT

OUTSIDE = ROOT / 'tests' / 'outside'
GIVEN = (
  *('--level_name', 'bandit:easy'),  # With blanks, as absl takes it, too.
  *('--num_arms', '2'),
  '--agent=bandit:make_torso',
  '--extra_loss=bandit:more_baseline',
  '--num_actors=1',
  '--envs_per_actor=4',
)
# Before the document's program: environments of its process are as strict as they may be.
STRICT = """
import bandit

step, reset = bandit.Bandit.step, bandit.Bandit.reset

def strict_step(self, action):
  assert not self.is_over, 'It was stepped after its end.'
  transition = step(self, action)
  self.is_over = transition.finished
  return transition

def strict_reset(self):
  self.is_over = False
  return reset(self)

bandit.Bandit.step, bandit.Bandit.reset = strict_step, strict_reset
"""


def run(*command, **options):
  path = f'{options.pop("path", OUTSIDE)}:{ROOT}'
  return subprocess.run(
    [sys.executable, *command],
    env={**os.environ, 'PYTHONPATH': path},
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
    **options,
  )


@pytest.fixture(scope='module', name='trained')
def _trained(tmp_path_factory):
  logdir = tmp_path_factory.mktemp('outside') / 'run'
  done = run('run_experiment.py', *GIVEN, f'--logdir={logdir}', cwd=ROOT)
  assert done.returncode == 0, done.stderr
  return logdir


def test_it_is_trained_and_its_configuration_names_it(trained):
  config = json.loads((trained / 'config.json').read_text())
  assert (config['level_name'], config['num_arms']) == ('bandit:easy', 2)
  assert (config['agent'], config['extra_loss']) == ('bandit:make_torso', 'bandit:more_baseline')
  rows = (trained / 'episodes.csv').read_text().splitlines()[1:]
  assert {row.split(',')[1] for row in rows} == {'easy'}
  # It has found the arm that pays.
  returns = [float(row.split(',')[2]) for row in rows]
  assert sum(returns[-200:]) / 200 > 0.8


def test_it_is_evaluated(trained, tmp_path):
  done = run(
    '-m', 'impala_tf.evaluation', f'--logdir={trained}', f'--output={tmp_path}', '--episodes=4'
  )
  assert done.returncode == 0, done.stderr
  assert len(json.loads((tmp_path / 'results.json').read_text())['levels']['easy']['returns']) == 4


def test_where_it_is_not_installed_one_line_says_so(trained, tmp_path):
  done = run(
    '-m', 'impala_tf.evaluation', f'--logdir={trained}', f'--output={tmp_path}', path=tmp_path
  )
  assert done.returncode == 1
  assert "No module named 'bandit'" in done.stderr
  assert 'Traceback' not in done.stderr


def test_it_is_launched_in_a_cluster_and_resumed(tmp_path):
  given = (*GIVEN, f'--logdir={tmp_path}', '--total_environment_frames=1_000')
  done = run('-m', 'impala_tf.launch', '--num_actor_processes=1', *given, cwd=ROOT)
  assert done.returncode == 0, done.stdout + done.stderr
  assert 'Saved at frame' in done.stdout
  resumed = run('run_experiment.py', *given, cwd=ROOT)
  assert '1_000 frames' in resumed.stdout
  other = run('run_experiment.py', *given, '--num_arms=3', cwd=ROOT)
  assert other.returncode == 1
  assert 'num_arms: 2 ' in other.stderr


def test_it_is_swept_over_its_own_option(tmp_path):
  given = ('--level_name=bandit:easy', '--num_actors=1', f'--logdir={tmp_path}')
  space = ('--space=num_arms=categorical(2,5)', '--num_trials=2', '--parallel=2')
  space += ('--total_environment_frames=400', '--envs_per_actor=4')
  done = run('-m', 'impala_tf.sweeps', *given, *space)
  assert done.returncode == 0, done.stdout + done.stderr
  status = run('-m', 'impala_tf.sweeps', f'--logdir={tmp_path}', '--status')
  assert status.stdout.count('finished') == 2, status.stdout + status.stderr


def test_the_document_has_this_package_and_its_program_runs(tmp_path):
  text = (ROOT / 'docs' / 'extending.md').read_text()
  package, program = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
  assert package == (OUTSIDE / 'bandit.py').read_text()
  assert len(package.splitlines()) <= 60
  program = program.replace('num_arms=2', 'num_arms=2, total_environment_frames=400, num_actors=1')
  done = run('-c', STRICT + program + '\nprint(agent.frames)', cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1] == '400'
