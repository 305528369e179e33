"""The command on DeepMind Lab's levels, in a process of its own."""

import subprocess
import sys

from tests.support import deepmind_lab_stand_in as stand_in
from tests.support import experiment
from tests.support.processes import ROOT
from tests.support.run_files import read_episodes


def command(modules, home, *flags):
  return subprocess.run(
    [sys.executable, str(ROOT / 'run_experiment.py'), *flags],
    env={'PATH': '', 'PYTHONPATH': str(modules), 'HOME': str(home)},
    cwd=home,
    capture_output=True,
    text=True,
    timeout=600,
    check=False,
  )


def test_the_command_trains_and_tests_with_the_users_level_cache(
  install, modules, tmp_path, monkeypatch, capsys
):
  install()
  flags = ('--level_name=rooms_watermaze', '--num_actors=2', '--batch_size=2', '--unroll_length=5')
  flags += ('--total_environment_frames=200',)
  trained = command(modules, tmp_path, *flags)
  assert trained.returncode == 0, trained.stderr
  assert read_episodes(tmp_path / 'runs' / 'rooms_watermaze')
  cached = list((tmp_path / '.cache' / 'impala_tf' / 'dmlab30').iterdir())
  assert cached
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', str(tmp_path))
  assert experiment.main(*flags, '--mode=test', '--test_num_episodes=2') == 0
  played = capsys.readouterr().out
  assert 'rooms_watermaze, agent after 200 frames: ' in played
  assert 'over 2 complete episodes' in played


def test_the_command_refuses_levels_without_their_images(install, modules, tmp_path):
  install()
  refused = command(modules, tmp_path, '--level_name=dmlab30')
  assert refused.returncode == 1
  for level in ('psychlab_arbitrary_visuomotor_mapping', 'psychlab_continuous_recognition'):
    assert level in refused.stderr
  assert 'https://bradylab.ucsd.edu' in refused.stderr
  assert 'Traceback' not in refused.stderr
  assert not (tmp_path / 'runs').exists()
  assert stand_in.journal(modules) == []
