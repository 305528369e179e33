"""A worker of a sweep: what it makes of the end of a trial's run; study and runs are stand-ins."""

import signal
import types
from typing import ClassVar

import pytest

from impala_tf import saved_config
from impala_tf.config import ConfigurationError
from impala_tf.sweeps import dashboard, report, search_space, worker
from impala_tf.sweeps.definition import Sweep
from impala_tf.sweeps.study import Trial
from impala_tf.system import machine, processes
from tests.support import catch, run_files, switch


class Claim:
  """Stands for a `study.Claim`: writes down how the trial ended, and whether the HParams page had
  been written before; is bad at its second step.
  """

  lock = object()

  def __init__(self, number=0, kills=0, is_bad=False):
    self.trial = Trial(number, {'learning_rate': 0.1}, 'running', kills=kills)
    self.is_bad = is_bad
    self.steps = 0
    self.tape = []

  def should_prune(self, step, value):
    self.steps, self.is_bad = step, step == 2
    self.tape.append((step, value))
    return self.is_bad

  def __getattr__(self, name):
    return lambda *args, **kwargs: self.tape.append((name, *args, *kwargs.values()))


class Study:
  """Stands for a `study.Study` with some trials to claim; all others have ended."""

  def __init__(self, *claims):
    self._claims = list(claims)

  def claim(self):
    return self._claims.pop(0) if self._claims else None

  def trials(self):
    return []


class Run:
  """Stands for a `processes.RunProcess` that ends at once with `code`, or when it is stopped."""

  code = 0
  started: ClassVar[list] = []

  def __init__(self, runner, arguments, logdir, lock, environment):
    Run.started.append((self, runner, arguments, logdir, lock))
    self.environment = environment
    self.was_stopped = False
    self._code = Run.code

  def poll(self):
    return self._code

  def stop(self):
    self.was_stopped = True
    self._code = 143

  def wait_or_kill(self, seconds):
    return self._code

  def last_lines(self):
    return 'Error: why'


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
  monkeypatch.setattr(processes, 'RunProcess', Run)
  monkeypatch.setattr(worker, '_POLL_SECONDS', 0.0)
  monkeypatch.setattr(Run, 'started', [])


@pytest.fixture
def pages(monkeypatch):
  """The states of trials that were written for the HParams page."""
  written, write_trial = [], dashboard.write_trial

  def write(folder, trial, *of_its_end):
    written.append(trial.state)
    write_trial(folder, trial, *of_its_end)

  monkeypatch.setattr(dashboard, 'write_trial', write)
  return written


def work(tmp_path, *claims, stop=False, parallel=1, **arguments):
  given = {'level_name': 'catch'}
  worker.Worker(Study(*claims), str(tmp_path), given, parallel=parallel, **arguments).run(stop)


def write_run(folder, rows):
  """The files of a run of catch, which has 120,000 frames; `rows` are frames and returns."""
  folder.mkdir()
  saved_config.save(str(folder), catch.CONFIG)
  if rows:
    run_files.write_episodes(folder, [(frames, 'catch', ret) for frames, ret in rows])


@pytest.mark.parametrize(
  ('code', 'kills', 'has_episodes', 'is_bad', 'end', 'page'),
  [
    (0, 0, True, False, ('finish', 2.0), 'finished'),
    (0, 0, True, True, ('finish', 2.0), 'finished'),  # It was faster than the request to stop.
    (0, 0, False, False, ('fail', 'It ended before an episode of each level did.'), 'failed'),
    (1, 0, True, False, ('fail', 'Error: why'), 'failed'),
    (143, 0, True, True, ('prune', 2.0), 'pruned'),
    (143, 0, True, False, ('release', 1), None),
    (-9, 1, True, False, ('release', 2), None),
  ],
)
def test_the_end_of_a_trial(
  tmp_path, monkeypatch, pages, code, kills, has_episodes, is_bad, end, page
):
  monkeypatch.setattr(Run, 'code', code)
  claim = Claim(kills=kills, is_bad=is_bad)
  write_run(tmp_path / claim.trial.name, [(5, 1.0), (9, 3.0)] if has_episodes else [])
  work(tmp_path, claim, runner='my.runner')
  assert claim.tape == [end]
  assert pages == (['running', page] if page else ['running'])
  ((_, runner, arguments, logdir, lock),) = Run.started
  assert (runner, logdir, lock) == ('my.runner', str(tmp_path / 'trial_000'), claim.lock)
  assert arguments == ['--level_name=catch', '--learning_rate=0.1']


def test_a_trial_that_is_killed_again_and_again_fails_by_the_signal(tmp_path, monkeypatch, pages):
  monkeypatch.setattr(Run, 'code', -signal.SIGKILL)
  claim = Claim(kills=processes.MAX_KILLS - 1)
  write_run(tmp_path / claim.trial.name, [(5, 1.0)])
  work(tmp_path, claim)
  ((deed, message),) = claim.tape
  assert deed == 'fail'
  assert 'SIGKILL' in message
  assert 'Error: why' in message
  assert pages == ['running', 'failed']


@pytest.mark.parametrize('name', ['episodes.csv', 'score.json', 'config.json'])
@pytest.mark.parametrize('content', [b'', b'{"a"\n1,2\n', b'\xff\xfe'])
def test_damage_to_a_trial_costs_that_trial_only(tmp_path, pages, name, content):
  if name == 'episodes.csv' and not content:
    pytest.skip('It has no episodes.')
  damaged, sound = Claim(), Claim(1)
  for claim in (damaged, sound):
    write_run(tmp_path / claim.trial.name, [(5, 1.0), (9, 3.0)])
  (tmp_path / damaged.trial.name / name).write_bytes(content)
  work(tmp_path, damaged, sound, prune=True)
  ((deed, message),) = damaged.tape
  assert deed == 'fail'
  assert str(tmp_path / damaged.trial.name / name) in message
  assert sound.tape == [('finish', 2.0)]
  assert sorted(pages) == ['failed', 'finished', 'running', 'running']


def test_the_page_is_written_before_the_end_is_recorded(tmp_path, pages, monkeypatch):
  claim = Claim()
  monkeypatch.setattr(claim, 'finish', lambda value: claim.tape.append(list(pages)), raising=False)
  write_run(tmp_path / claim.trial.name, [(5, 1.0)])
  work(tmp_path, claim)
  assert claim.tape == [['running', 'finished']]


def test_a_trial_that_is_refused_ends_the_sweep(tmp_path, monkeypatch, pages):
  monkeypatch.setattr(Run, 'code', 1)
  claim = Claim()
  with pytest.raises(worker.RefusedError, match='trial_000 was refused:\nError: why'):
    work(tmp_path, claim, Claim(1))
  assert claim.tape == [('release',)]
  assert len(Run.started) == 1


@pytest.mark.parametrize('prune', [False, True])
def test_a_bad_trial_is_stopped_by_what_it_had_come_to_at_each_twentieth(
  tmp_path, monkeypatch, pages, prune
):
  claim = Claim()
  write_run(
    tmp_path / claim.trial.name, [(6_000, 1.0), (11_000, 3.0), (12_000, 5.0), (17_000, 99.0)]
  )
  monkeypatch.setattr(Run, 'code', None if prune else 0)
  work(tmp_path, claim, prune=prune)
  ended = [(1, 1.0), (2, 3.0), ('prune', 27.0)] if prune else [('finish', 27.0)]
  assert claim.tape == ended


def test_all_runs_are_stopped_and_released_at_a_request_to_end(tmp_path, monkeypatch, pages):
  monkeypatch.setattr(Run, 'code', None)
  claims = [Claim(number) for number in range(3)]
  work(tmp_path, *claims, stop=switch.Switch(5), parallel=2)
  assert [run.was_stopped for run, *_ in Run.started] == [True, True]
  assert [claim.tape for claim in claims] == [[('release',)]] * 2 + [[]]


def test_trials_side_by_side_have_the_shares_that_others_do_not(tmp_path, monkeypatch, pages):
  shares = []

  def environment_of_share(*share):
    shares.append(share)
    return {'SHARE': str(len(shares))}

  claims = [Claim(number) for number in range(6)]
  claims[1].trial.hyper_parameters['num_learners'] = 4
  for claim in claims:
    write_run(tmp_path / claim.trial.name, [(5, 1.0)])
  has_ended = lambda claim: types.SimpleNamespace(has_ended=bool(claim.tape))
  monkeypatch.setattr(machine, 'environment_of_share', environment_of_share)
  monkeypatch.setattr(Study, 'trials', lambda self: list(map(has_ended, claims)))
  # The first one goes on until the third has begun, all others end at once.
  is_first = lambda run: run is Run.started[0][0] and len(Run.started) < 3
  monkeypatch.setattr(Run, 'poll', lambda self: None if is_first(self) else 0)
  work(tmp_path, *claims, parallel=2)
  # Which of how many it is, and its graphics cards; the last is alone.
  assert shares == [(0, 2, 1), (1, 2, 4), (1, 2, 1), (0, 2, 1), (1, 2, 1), (0, 1, 1)]
  assert [run.environment['SHARE'] for run, *_ in Run.started] == list('123456')


class FailingWorker:
  """Stands for a `worker.Worker` of which the trial number 1 fails the first time."""

  failures = 1

  def __init__(self, study, *unused, **unused_too):
    self._study = study

  def run(self, stop):
    while not stop and (claim := self._study.claim()) is not None:
      if claim.trial.number == 1 and FailingWorker.failures:
        FailingWorker.failures -= 1
        claim.fail('Error: NaN')
      else:
        claim.finish(1.0)


def test_a_failed_trial_shows_in_the_exit_code_until_it_is_tried_again(tmp_path, monkeypatch):
  monkeypatch.setattr(worker, 'Worker', FailingWorker)
  monkeypatch.setattr(FailingWorker, 'failures', 1)
  monkeypatch.setattr(report, 'write', lambda *unused: None)
  sweep = Sweep({}, search_space.TABLE_D1, num_trials=3)
  assert worker.run(str(tmp_path), sweep) == 1
  assert worker.run(str(tmp_path), sweep) == 1
  assert worker.run(str(tmp_path), sweep, retry_failed=True) == 0


def test_a_folder_that_no_file_system_has_is_refused():
  with pytest.raises(ConfigurationError, match='gs://bucket/sweep'):
    worker.run('gs://bucket/sweep', Sweep({}, search_space.TABLE_D1))


def test_the_exit_code_says_which_signal_ended_a_sweep(tmp_path, monkeypatch):
  monkeypatch.setattr(worker.Worker, 'run', lambda self, stop: signal.raise_signal(signal.SIGTERM))
  assert worker.run(str(tmp_path), Sweep({}, search_space.TABLE_D1)) == 128 + signal.SIGTERM
  assert not (tmp_path / 'report').exists()


@pytest.mark.usefixtures('without_locks')
def test_a_folder_without_locks_is_refused_before_anything_is_written(tmp_path):
  with pytest.raises(ConfigurationError, match=str(tmp_path)):
    worker.run(str(tmp_path), Sweep({}, search_space.TABLE_D1))
  assert not (tmp_path / 'sweep.json').exists()
