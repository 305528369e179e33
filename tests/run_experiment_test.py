"""The command line, as a user has it: real processes, the real emulator."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parent.parent
TINY = ('--level_name=Pong', '--batch_size=2', '--unroll_length=5', '--num_actors=2', '--envs_per_actor=2')


def command(*flags):
  return [sys.executable, str(ROOT / 'run_experiment.py'), *flags]


def run(*flags, timeout=120):
  return subprocess.run(command(*flags), capture_output=True, text=True, timeout=timeout, check=False)


def start(log, *flags):
  return subprocess.Popen(command(*flags), stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def wait_for(condition, what, seconds=120):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline, f'still no {what}'
    time.sleep(0.1)


def processes_of_session(session):
  """Ids of the processes in a session, the forkserver's children among them."""
  found = []
  for stat in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      fields = stat.read_text().rsplit(')', 1)[1].split()
    except OSError:
      continue
    if int(fields[3]) == session and fields[0] != 'Z':
      found.append(int(stat.parent.name))
  return found


def frames_of(log):
  """The frames in the newest line of progress, as text; None before the first."""
  lines = [line for line in log.read_text().splitlines() if 'frames/s' in line]
  return lines[-1].split('/')[0] if lines else None


def test_trains_stops_on_signals_resumes_and_tests(tmp_path):
  logdir = tmp_path / 'run'
  flags = (*TINY, f'--logdir={logdir}', '--total_environment_frames=100_000_000')
  frames = []
  for number in (signal.SIGINT, signal.SIGTERM):
    log = tmp_path / f'{number.name}.log'
    with open(log, 'w') as file:
      process = start(file, *flags)
      try:
        wait_for(lambda log=log, process=process: frames_of(log) or process.poll() is not None, 'progress')
        # To all processes, as a terminal does: the environments' must leave it to their parent.
        os.killpg(process.pid, number)
        assert process.wait(60) == 128 + number, log.read_text()
      finally:
        process.kill()
    wait_for(lambda process=process: not processes_of_session(process.pid), 'end of all processes', 10)
    assert list(logdir.glob('ckpt-*.index'))
    frames.append(log.read_text())
  assert 'Going on from frame' in frames[1]
  resumed = int(frames[1].split('Going on from frame ')[1].split(',')[0].replace('_', ''))
  assert resumed > 0
  assert resumed % (2 * 5 * 4) == 0
  config = json.loads((logdir / 'config.json').read_text())
  assert (config['level_name'], config['batch_size'], config['learning_rate']) == ('pong', 2, 0.0006)
  with open(logdir / 'episodes.csv', newline='') as file:
    assert csv.DictReader(file).fieldnames == ['frames', 'level', 'episode_return', 'episode_frames']

  played = run(*flags, '--mode=test', '--test_num_episodes=2', '--seed=3')
  assert played.returncode == 0, played.stderr
  assert 'over 2 complete episodes' in played.stdout
  before = sorted(path.name for path in logdir.iterdir())
  other = run(*TINY, f'--logdir={logdir}', '--total_environment_frames=77')
  assert other.returncode == 1
  assert 'total_environment_frames: 100_000_000 in config.json, 77 now' in other.stderr
  assert sorted(path.name for path in logdir.iterdir()) == before


def test_random_policy_scores_what_is_known_of_it():
  played = run('--level_name=pong', '--mode=test', '--random_policy', '--test_num_episodes=16')
  assert played.returncode == 0, played.stderr
  mean = float(played.stdout.split('mean return ')[1].split()[0])
  assert -21 <= mean < -19.5  # the literature has -20.7


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ((), '--level_name is missing'),
    (('--level_name=pnog',), "'pnog' is not one of the 57 Atari games. Did you mean pong?"),
    (('--level_name=pong', '--batch_size=0'), 'batch_size=0 (unrolls in each update) must be at least 1'),
    (('--level_name=pong', '--unroll_length=-3'), 'unroll_length=-3'),
    (('--level_name=pong', '--num_actors=0'), 'num_actors=0'),
    (('--level_name=pong', '--clip_global_norm=often'), '--clip_global_norm=often is neither a number nor none'),
    (('--level_name=pong', '--logdir={file}/below'), "Can't write in the log directory"),
    (('--level_name=pong', '--logdir={empty}', '--mode=test'), 'Train first'),
  ],
)
def test_bad_input_is_refused_in_a_sentence(tmp_path, flags, message):
  (tmp_path / 'file').write_text('in the way')
  places = {'file': tmp_path / 'file', 'empty': tmp_path / 'empty'}
  refused = run(*(flag.format(**places) for flag in flags))
  assert refused.returncode == 1
  assert message in refused.stderr
  assert 'Traceback' not in refused.stderr


def test_help_names_every_hyper_parameter():
  shown = run('--helpfull').stdout
  for name in ('learning_rate', 'clip_global_norm', 'entropy_cost', 'envs_per_actor', 'test_num_episodes', 'logdir'):
    assert f'--{name}' in shown or f'--[no]{name}' in shown
