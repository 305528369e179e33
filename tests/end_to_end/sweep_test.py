"""A whole sweep of the small task: real processes, a real study, and a sudden end in the middle."""

import csv
import dataclasses
import subprocess
import sys
import time

import pytest

from impala_tf import saved_config
from impala_tf.cli import config_flags
from impala_tf.sweeps import definition, search_space, worker
from impala_tf.sweeps.definition import Sweep
from impala_tf.sweeps.study import Study
from tests.support.processes import ROOT
from tests.support.run_files import read_episodes, write_episodes

FRAMES = 8_000
SWEEP = Sweep(
  given={
    'level_name': 'tests.support.catch:catch',
    'total_environment_frames': FRAMES,
    'num_actors': 2,
    'checkpoint_interval': 0.5,
  },
  space=search_space.parse(
    ['learning_rate=log_uniform(0.0005,0.02)', 'epsilon=categorical(0.1,0.001)']
  ),
  num_trials=2,
  sweep_seed=4,
)


def interrupt(logdir, log):
  """Works on the sweep in a folder, and is killed once the second trial has a checkpoint."""
  command = [sys.executable, '-m', 'impala_tf.sweeps', f'--logdir={logdir}']
  command += config_flags.arguments(SWEEP.given)
  command += [f'--{name}={getattr(SWEEP, name)}' for name in ('num_trials', 'sweep_seed')]
  command += [f'--space={name}={form}' for name, form in search_space.as_texts(SWEEP.space).items()]
  with open(log, 'wb') as file:
    process = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT)
  try:
    deadline = time.monotonic() + 300
    while not list(logdir.glob('trial_001/ckpt-*.index')):
      assert process.poll() is None, log.read_text()
      assert time.monotonic() < deadline, log.read_text()
      time.sleep(0.05)
  finally:
    process.kill()
    process.wait()


def finish_first(logdir):
  """Has the first trial finished, as by a worker of before; returns its files and when each was
  changed.
  """
  claim = Study(str(logdir), SWEEP).claim()
  folder = logdir / claim.trial.name
  write_episodes(folder, [(frames, 'catch', 1.0) for frames in range(9, 99, 9)])
  claim.finish(1.0)
  return times_of(folder)


def times_of(folder):
  return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_killed_sweep_resumes_without_losing_or_repeating_a_trial(tmp_path, capfd):
  logdir = tmp_path / 'sweep'
  logdir.mkdir()
  definition.check_or_save(str(logdir), SWEEP)
  first = finish_first(logdir)
  interrupt(logdir, tmp_path / 'log.txt')
  states = [trial.state for trial in Study(str(logdir), SWEEP).trials()]
  assert states[0] == 'finished'
  assert states[1] in ('running', 'waiting')  # Its run saves, or has saved.

  # It has more trials now, and another interval, which changes nothing that is learned.
  sweep = dataclasses.replace(SWEEP, num_trials=3, given=SWEEP.given | {'checkpoint_interval': 9.0})
  assert worker.run(str(logdir), sweep, parallel=2) == 0

  trials = Study(str(logdir), sweep).trials()
  assert [trial.state for trial in trials] == ['finished'] * 3
  assert [trial.hyper_parameters for trial in trials] == sweep.samples()
  assert times_of(logdir / 'trial_000') == first
  assert trials[0].value == 1.0
  for trial in trials[1:]:
    folder = logdir / trial.name
    config = saved_config.load(str(folder))
    drawn = {name: getattr(config, name) for name in trial.hyper_parameters}
    assert drawn == trial.hyper_parameters
    rows = read_episodes(folder)
    assert FRAMES * 0.9 < int(rows[-1]['frames']) <= FRAMES + 160
    last = [float(row['episode_return']) for row in rows[-100:]]
    assert trial.value == pytest.approx(sum(last) / 100)

  # The second trial resumed from its last checkpoint: it saved when its worker died.
  assert 'from frame' in (logdir / 'trial_001' / 'log.txt').read_text()
  assert 'from frame' not in (logdir / 'trial_002' / 'log.txt').read_text()
  printed = capfd.readouterr().out
  assert 'trial_000 runs' not in printed
  assert 'trial_002  finished' in printed
  with open(logdir / 'report' / 'trials.csv', newline='') as file:
    returns = [float(row['final_return']) for row in csv.DictReader(file)]
  assert returns == [trial.value for trial in trials]
  for name in ('sorted_returns.png', 'best.png'):
    assert (logdir / 'report' / name).read_bytes().startswith(b'\x89PNG')
