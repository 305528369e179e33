"""What a worker makes of the end of a trial's process; claim and process are stand-ins."""

import subprocess

import pytest

from impala_tf import saved_config
from impala_tf.sweeps import sweep_worker
from impala_tf.sweeps.study import Trial
from impala_tf.training import episode_log
from tests.support import catch


class Claim:
  """Stands for a `study.Claim`: writes down how the trial ended, and whether the HParams page had
  been told before.
  """

  def __init__(self, tmp_path, number=0, kills=0):
    self.trial = Trial(number, {'learning_rate': 0.1}, 'running', kills=kills)
    self.steps = 0
    self.tape = []
    self._folder = tmp_path / self.trial.name

  def __getattr__(self, name):
    return lambda *args, **kwargs: self.tape.append(
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
  ('code', 'kills', 'has_episodes', 'is_bad', 'told'),
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
def test_the_end_of_a_trial(tmp_path, code, kills, has_episodes, is_bad, told):
  claim = Claim(tmp_path, kills=kills)
  folder = tmp_path / claim.trial.name
  folder.mkdir()
  saved_config.save(str(folder), catch.CONFIG)
  if has_episodes:
    (folder / episode_log.FILE_NAME).write_text(
      ','.join(episode_log.COLUMNS) + '\n5,catch,1.0,7\n9,catch,3.0,7\n'
    )
  worker = worker_of(tmp_path, [sweep_worker._Run(claim, Process(code, folder), is_bad)])
  worker._record_ends()
  assert claim.tape == [told]
  assert worker._runs == []


def worker_of(tmp_path, runs, prune=False):
  worker = sweep_worker.Worker(None, str(tmp_path), {}, parallel=1, prune=prune)
  worker._runs = runs
  return worker


def test_a_trial_that_is_refused_ends_the_sweep(tmp_path):
  claim = Claim(tmp_path)
  process = Process(1, tmp_path / claim.trial.name)
  worker = worker_of(tmp_path, [sweep_worker._Run(claim, process)])
  with pytest.raises(sweep_worker.RefusedError, match='trial_000 was refused:\nError: why'):
    worker._record_ends()
  assert claim.tape == [('release', 0)]


class JudgedClaim(Claim):
  """Finds its trial bad at its second step, and writes down all steps."""

  def should_prune(self, step, value):
    self.steps = step
    self.tape.append((step, value))
    return step == 2


class Stoppable(Process):
  """Runs until it is stopped, and then, if it is deaf, continues."""

  def __init__(self, logdir, deaf=False):
    super().__init__(None, logdir)
    self.stops = 0
    self._deaf = deaf

  def stop(self):
    self.stops += 1

  def wait(self, seconds):
    if self._deaf:
      raise subprocess.TimeoutExpired('run', seconds)


def test_a_bad_trial_is_stopped_by_what_it_had_come_to_at_each_twentieth(tmp_path):
  claim = JudgedClaim(tmp_path)
  folder = tmp_path / claim.trial.name
  folder.mkdir()
  saved_config.save(str(folder), catch.CONFIG)  # 120,000 frames.
  rows = [(6_000, 1.0), (11_000, 3.0), (12_000, 5.0), (17_000, 99.0)]
  lines = [','.join(episode_log.COLUMNS), *(f'{frames},catch,{value},7' for frames, value in rows)]
  (folder / episode_log.FILE_NAME).write_text('\n'.join(lines) + '\n')
  run = sweep_worker._Run(claim, Stoppable(folder))
  worker = worker_of(tmp_path, [run])
  for _ in range(2):
    worker._stop_bad_ones()
    assert claim.tape == [(1, 1.0), (2, 3.0)]
    assert run.process.stops == 1
    assert run.is_bad


@pytest.mark.parametrize('prune', [False, True])
def test_trials_are_compared_only_if_wanted(tmp_path, monkeypatch, prune):
  calls = []
  stop = iter([False, True])
  worker = sweep_worker.Worker(Claimless(), str(tmp_path), {}, parallel=1, prune=prune)
  monkeypatch.setattr(worker, '_stop_bad_ones', lambda: calls.append(1))
  worker.run(Switch(stop))
  assert len(calls) == prune


class Claimless:
  """Stands for a `study.Study` whose only trial is another worker's."""

  def claim(self):
    return None

  def trials(self):
    return [Trial(0, {}, 'running')]


class Switch:
  """Is true when the next of some values is."""

  def __init__(self, values):
    self._values = values

  def __bool__(self):
    return next(self._values)


def test_all_runs_are_stopped_and_released_at_a_request_to_end(tmp_path):
  claims = [Claim(tmp_path, number) for number in range(2)]
  # What does not end in time keeps the lock of its folder: nobody gets its trial.
  processes = [Stoppable(tmp_path, deaf=True), Stoppable(tmp_path)]
  worker = worker_of(tmp_path, [*map(sweep_worker._Run, claims, processes)])
  worker.run(stop=True)
  assert [process.stops for process in processes] == [1, 1]
  assert [claim.tape for claim in claims] == [[('release', 0)]] * 2
