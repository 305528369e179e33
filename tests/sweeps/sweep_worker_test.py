"""What a worker makes of the end of a trial's process; study and process are stand-ins."""

import subprocess

import pytest

from impala_tf import saved_config
from impala_tf.sweeps import sweep_worker
from impala_tf.sweeps.study import Trial
from impala_tf.training import episode_log
from tests.support import catch


class Study:
  """Writes down what it is told, and whether the HParams page was told before."""

  def __init__(self, folder):
    self.tape = []
    self._folder = folder

  def __getattr__(self, name):
    return lambda trial, *args, **kwargs: self.tape.append(
      (name, *args, *kwargs.values(), len(list(self._folder.glob('*.hparams'))))
    )


class Process:
  def __init__(self, code, logdir):
    self._code = code
    self.logdir = str(logdir)

  def poll(self):
    return self._code

  def last_lines(self):
    return 'Error: why'


@pytest.mark.parametrize(
  ('code', 'kills', 'has_episodes', 'bad', 'told'),
  [
    (0, 0, True, False, ('finish', 2.0, 1)),
    (0, 0, True, True, ('finish', 2.0, 1)),  # It was faster than the request to stop.
    (0, 0, False, False, ('fail', 'It ended before an episode of each level did.', 1)),
    (1, 0, True, False, ('fail', 'Error: why', 1)),
    (143, 0, True, True, ('prune', 2.0, 1)),
    (143, 0, True, False, ('release', True, 0)),
    (-9, 2, True, False, ('release', True, 0)),
    (-9, 3, True, False, ('fail', 'Error: why', 1)),
  ],
)
def test_the_end_of_a_trial(tmp_path, code, kills, has_episodes, bad, told):
  trial = Trial(0, {'learning_rate': 0.1}, 'running', None, '', kills, 0)
  folder = tmp_path / trial.name
  folder.mkdir()
  saved_config.save(str(folder), catch.CONFIG)
  if has_episodes:
    (folder / episode_log.FILE_NAME).write_text(
      ','.join(episode_log.COLUMNS) + '\n5,catch,1.0,7\n9,catch,3.0,7\n'
    )
  study = Study(folder)
  worker = sweep_worker.Worker(study, str(tmp_path), {}, parallel=1, heartbeat_seconds=1)
  worker._processes[trial] = Process(code, folder)
  if bad:
    worker._to_prune.add(trial)
  worker._conclude()
  assert study.tape == [told]
  assert worker._processes == {}


def test_a_trial_that_is_refused_ends_the_sweep(tmp_path):
  trial = Trial(0, {'learning_rate': 0.1}, 'running', None, '', 0, 0)
  study = Study(tmp_path)
  worker = sweep_worker.Worker(study, str(tmp_path), {}, parallel=1, heartbeat_seconds=1)
  worker._processes[trial] = Process(1, tmp_path / trial.name)
  with pytest.raises(sweep_worker.RefusedError, match='trial_000 was refused:\nError: why'):
    worker._conclude()
  assert study.tape == [('release', 0)]


class Judge:
  """Finds a trial bad at its second report, and writes down all reports."""

  def __init__(self):
    self.tape = []

  def should_prune(self, trial, step, value):
    self.tape.append((step, value))
    return step == 2


class Stoppable(Process):
  """Runs until it is stopped, and then, if it is deaf, goes on."""

  def __init__(self, logdir, deaf=False):
    super().__init__(None, logdir)
    self.stops = 0
    self._deaf = deaf

  def stop(self):
    self.stops += 1

  def wait(self, seconds):
    if self._deaf:
      raise subprocess.TimeoutExpired('run', seconds)


def running(tmp_path, study, number=0, prune=False, deaf=False):
  """A worker with a trial that runs: the worker, the trial and its process."""
  trial = Trial(number, {'learning_rate': 0.1}, 'running', None, '', 0, number)
  worker = sweep_worker.Worker(
    study, str(tmp_path), {}, parallel=1, heartbeat_seconds=1, prune=prune
  )
  worker._processes[trial] = Stoppable(tmp_path / trial.name, deaf)
  return worker, trial, worker._processes[trial]


@pytest.mark.parametrize('prune', [False, True])
def test_a_bad_trial_is_stopped_by_what_it_had_come_to_at_each_twentieth(tmp_path, prune):
  judge = Judge()
  worker, trial, process = running(tmp_path, judge, prune=prune)
  folder = tmp_path / trial.name
  folder.mkdir()
  saved_config.save(str(folder), catch.CONFIG)  # 120,000 frames.
  rows = [(6_000, 1.0), (11_000, 3.0), (12_000, 5.0), (17_000, 99.0)]
  lines = [','.join(episode_log.COLUMNS), *(f'{frames},catch,{value},7' for frames, value in rows)]
  (folder / episode_log.FILE_NAME).write_text('\n'.join(lines) + '\n')
  for _ in range(2):
    worker._look_for_bad_ones()
    assert judge.tape == ([(1, 1.0), (2, 3.0)] if prune else [])
    assert process.stops == prune
    assert worker._to_prune == ({trial} if prune else set())


def test_a_trial_that_another_worker_has_taken_over_is_stopped(tmp_path):
  study = Study(tmp_path)
  worker, trial, process = running(tmp_path, study)
  worker._give_up([trial])
  assert (process.stops, worker._processes, study.tape) == (1, {}, [])


def test_what_does_not_end_in_time_is_not_given_to_others(tmp_path):
  study = Study(tmp_path)
  worker, _, deaf = running(tmp_path, study, deaf=True)
  other, _, process = running(tmp_path, study, number=1)
  worker._processes |= other._processes
  worker._stop_all()
  assert (deaf.stops, process.stops) == (1, 1)
  assert study.tape == [('release', 0)]
