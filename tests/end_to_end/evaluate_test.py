"""The commands that evaluate, as users start them."""

import subprocess
import sys

from atari57 import suite as atari
from impala_tf.evaluation import results
from tests.support import catch, run_files
from tests.support.processes import ROOT


def command(module, *flags):
  return subprocess.run(
    [sys.executable, '-m', module, *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=600,
    check=False,
  )


def test_a_suite_with_a_command_of_its_own(tmp_path):
  run = run_files.make_run(
    atari.SUITE, atari.SUITE.configure('road_runner'), tmp_path / 'run', frames=400
  )
  played = command('atari57.evaluate', f'--logdir={run}', '--episodes=2', '--greedy', '--sticky')
  assert played.returncode == 0, played.stderr
  assert 'road_runner: mean return' in played.stdout
  assert 'over 2 complete episodes' in played.stdout
  assert 'lacks 56 of 57 games' in played.stdout
  found = results.load(f'{run}/evaluation')
  assert len(found.levels['road_runner'].returns) == 2
  assert found.protocol['actions'] == 'of the highest probability'
  assert found.protocol['repeat_action_probability'] == 0.25


def test_any_other_suite(tmp_path):
  config = catch.SUITE.configure('tests.support.catch:catch_with_memory')
  run = run_files.make_run(catch.SUITE, config, tmp_path / 'run', frames=400)
  played = command('impala_tf.evaluation', f'--logdir={run}', '--episodes=5')
  assert played.returncode == 0, played.stderr
  assert 'catch_with_memory: mean return' in played.stdout
  assert len(results.load(f'{run}/evaluation').levels['catch_with_memory'].returns) == 5
