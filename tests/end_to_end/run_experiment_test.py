"""The command line, as a user has it: real processes, the real emulator."""

import csv
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from tests.support import experiment, processes
from tests.support.processes import ROOT, wait_until

TINY = (
  '--level_name=Pong',
  '--batch_size=2',
  '--unroll_length=5',
  '--num_actors=2',
  '--envs_per_actor=2',
)


def run(module, *flags):
  command = [sys.executable, '-m', module, *flags]
  return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)


def train_until_signalled(number, log, logdir, *flags):
  """Trains until the next checkpoint, sends a signal, and returns what was printed."""
  before = set(logdir.glob('ckpt-*.index'))
  with open(log, 'w') as file:
    process = processes.start_following(
      *('run_experiment', '--checkpoint_interval=0.5', *flags),
      stdout=file,
      stderr=subprocess.STDOUT,
    )
  try:
    wait_until(
      lambda: set(logdir.glob('ckpt-*.index')) - before or process.poll() is not None, 'progress'
    )

    # To all processes, as a terminal does: the environments' must leave it to their parent.
    os.killpg(process.pid, number)
    assert process.wait(60) == 128 + number, log.read_text()
  finally:
    process.kill()
  wait_until(lambda: not processes.of_sessions([process.pid]), 'end of all processes', 10)
  return log.read_text()


def test_trains_stops_on_signals_resumes_and_tests(tmp_path, capsys):
  logdir = tmp_path / 'run'
  flags = (*TINY, f'--logdir={logdir}', '--total_environment_frames=100_000_000')
  for number in (signal.SIGINT, signal.SIGTERM):
    printed = train_until_signalled(number, tmp_path / f'{number.name}.log', logdir, *flags)
    assert list(logdir.glob('ckpt-*.index'))
    assert str(logdir) in printed.splitlines()[-1]

  # Of the second start.
  (resumed,) = re.findall(r'from frame ([\d_]+)', printed)
  assert int(resumed) > 0
  assert int(resumed) % (2 * 5 * 4) == 0
  config = json.loads((logdir / 'config.json').read_text())
  assert (config['level_name'], config['batch_size'], config['learning_rate']) == (
    'pong',
    2,
    0.0006,
  )
  with open(logdir / 'episodes.csv', newline='') as file:
    columns = csv.DictReader(file).fieldnames
  assert columns == ['frames', 'level', 'episode_return', 'episode_frames']

  assert experiment.main(*flags, '--mode=export') == 0
  assert f'{logdir}/saved_model' in capsys.readouterr().out
  assert (logdir / 'saved_model' / 'saved_model.pb').exists()
  assert experiment.main(*flags, '--mode=test', '--test_num_episodes=2', '--seed=3') == 0
  assert 'over 2 complete episodes' in capsys.readouterr().out

  before = sorted(path.name for path in logdir.iterdir())
  assert experiment.main(*TINY, f'--logdir={logdir}', '--total_environment_frames=77') == 1
  assert 'total_environment_frames: 100_000_000' in capsys.readouterr().err
  assert sorted(path.name for path in logdir.iterdir()) == before


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ((), '--level_name'),
    (('--level_name=pong', '--renderer=hardwear'), 'renderer'),
    (('--level_name=pong', '--logdir={file}/below'), '{file}/below'),
  ],
)
def test_the_command_ends_with_what_was_wrong_and_no_traceback(tmp_path, given, message):
  (tmp_path / 'file').write_text('in the way')
  refused = run('run_experiment', *(flag.format(file=tmp_path / 'file') for flag in given))
  assert refused.returncode == 1
  assert message.format(file=tmp_path / 'file') in refused.stderr
  assert 'Traceback' not in refused.stderr


@pytest.mark.parametrize(
  ('module', 'names'),
  [
    ('run_experiment', ('level_name', 'learning_rate', 'logdir')),
    ('atari57.evaluate', ('logdir', 'baseline', 'episodes', 'envs_per_process', 'record_video')),
  ],
)
def test_help_names_the_flags(module, names):
  shown = run(module, '--help').stdout
  for name in names:
    assert f'--{name}:' in shown


def test_a_command_that_loads_tensorflow_for_its_checks_prints_its_own_lines_only(tmp_path):
  flags = ('--methods=impala_shallow', '--levels=pong', f'--logdir={tmp_path}')
  done = run('impala_tf.paper', 'commands', 'table4', *flags)
  assert done.returncode == 0
  assert done.stderr == ''
  assert {line.split()[0] for line in done.stdout.splitlines()} <= {'#', 'python'}
