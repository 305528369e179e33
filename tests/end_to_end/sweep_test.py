"""Whole sweeps of the small task: real processes, a real study, and a sudden end in the middle."""

import csv
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from impala_tf import saved_config
from impala_tf.config import ConfigurationError
from impala_tf.sweeps import command as sweeps
from impala_tf.sweeps import search_space
from tests.support.run_files import read_episodes

ROOT = pathlib.Path(__file__).parents[2]
RUNNER = 'tests.support.catch_experiment'
FRAMES = 12_000


def definition(num_trials=3, **given):
  return {
    'given': {'level_name': 'catch', 'total_environment_frames': FRAMES, 'num_actors': 2, **given},
    'space': {'learning_rate': 'log_uniform(0.0005,0.02)', 'epsilon': 'categorical(0.1,0.001)'},
    'num_trials': num_trials,
    'sweep_seed': 4,
  }


def start(logdir, log, sweep, **arguments):
  arguments = {'parallel': 2, 'runner': RUNNER, **arguments}
  program = f'import sys; from impala_tf.sweeps import command as sweeps; sys.exit(sweeps.run({str(logdir)!r}, {sweep!r}, **{arguments!r}))'
  return subprocess.Popen(
    [sys.executable, '-c', program], stdout=log, stderr=subprocess.STDOUT, cwd=ROOT
  )


def trials_of(logdir, sweep):
  return sweeps.open_study(str(logdir), sweep)[0].trials()


def wait_until(condition, log, seconds=600):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline, log.read_text()
    time.sleep(0.2)


def interrupt(logdir, log, sweep, finished):
  """Starts a sweep, and kills it when so many trials are finished and another one has trained for a
  while.
  """

  def half_way():
    # Opened once: opening takes the lock of the study, and time.
    if not studies and (logdir / sweeps.FILE_NAME).exists():
      studies.append(sweeps.open_study(str(logdir), sweep)[0])
    trials = studies[0].trials() if studies else []
    trained = [
      t for t in trials if t.state == 'running' and list((logdir / t.name).glob('ckpt-*.index'))
    ]
    return trained and sum(t.state == 'finished' for t in trials) >= finished

  studies = []
  with open(log, 'ab') as file:
    process = start(logdir, file, sweep)
    try:
      wait_until(lambda: half_way() or process.poll() is not None, log)
      assert process.poll() is None, log.read_text()
      process.kill()
      return process.wait(60)
    finally:
      process.kill()


def go_on(logdir, log, sweep):
  """Starts a sweep and waits for its end."""
  with open(log, 'ab') as file:
    process = start(logdir, file, sweep)
    try:
      assert process.wait(600) == 0, log.read_text()
    finally:
      process.kill()


def files_of(folder):
  return {
    path.name: path.stat().st_mtime_ns
    for path in folder.iterdir()
    if path.name.startswith(('ckpt', 'log', 'episodes'))
  }


def check_killed_and_resumed(tmp_path, sweep, finished):
  """Kills a sweep and goes on with it; returns the trials in the end."""
  logdir, log = tmp_path / 'sweep', tmp_path / 'log.txt'
  assert interrupt(logdir, log, sweep, finished) == -signal.SIGKILL
  before = trials_of(logdir, sweep)
  done = [trial for trial in before if trial.state == 'finished']
  assert len(done) >= finished
  files = {trial.name: files_of(logdir / trial.name) for trial in done}
  under_way = [
    t for t in before if t.state == 'running' and list((logdir / t.name).glob('ckpt-*.index'))
  ]
  assert under_way
  go_on(logdir, log, sweep)

  trials = trials_of(logdir, sweep)
  assert [trial.state for trial in trials] == ['finished'] * sweep['num_trials']
  space = {name: search_space.parse_one(name, form) for name, form in sweep['space'].items()}
  assert [trial.hyper_parameters for trial in trials] == search_space.draw(
    space, sweep['num_trials'], sweep['sweep_seed']
  )
  # Nothing of a finished trial was touched.
  assert {trial.name: files_of(logdir / trial.name) for trial in done} == files
  assert [trials[trial.number].value for trial in done] == [trial.value for trial in done]
  for trial in trials:
    folder = logdir / trial.name
    settings = saved_config.load(str(folder))
    assert {
      name: getattr(settings, name) for name in trial.hyper_parameters
    } == trial.hyper_parameters
    rows = read_episodes(folder)
    assert FRAMES * 0.9 < int(rows[-1]['frames']) <= FRAMES + 160
    last = [float(row['episode_return']) for row in rows[-100:]]
    assert trial.value == pytest.approx(sum(last) / 100)
  # What was under way went on from its last checkpoint: its worker's death told it to save.
  for trial in under_way:
    assert 'Going on from frame' in (logdir / trial.name / 'log.txt').read_text()
  return trials


def test_a_killed_sweep_goes_on_without_losing_or_repeating_a_trial(tmp_path):
  trials = check_killed_and_resumed(tmp_path, definition(checkpoint_interval=1.0), finished=1)
  logdir = tmp_path / 'sweep'
  with open(logdir / 'report' / 'trials.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert [float(row['final_return']) for row in rows] == [trial.value for trial in trials]
  for name in ('sorted_returns.png', 'best.png'):
    assert (logdir / 'report' / name).read_bytes().startswith(b'\x89PNG')
  # More trials of the same sweep; the table shows all.
  log = tmp_path / 'more.txt'
  go_on(logdir, log, definition(num_trials=4, checkpoint_interval=9.0))
  assert 'trial_003  finished' in log.read_text()
  assert 'trial_000 runs' not in log.read_text()


def test_a_folder_that_no_file_system_has_is_refused():
  with pytest.raises(ConfigurationError, match='gs://bucket/sweep is no folder'):
    sweeps.run('gs://bucket/sweep', {'space': {}, 'given': {}})
