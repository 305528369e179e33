"""The trials of a sweep: who gets which, and what becomes of those whose worker dies. A real
journal and real locks throughout.
"""

import concurrent.futures
import fcntl
import signal
import subprocess
import sys

import optuna
import pytest

from impala_tf.config import ConfigurationError
from impala_tf.sweeps import search_space, study
from impala_tf.sweeps.definition import Sweep
from impala_tf.system import locks

SPACE = search_space.TABLE_D1


def open_study(path, num_trials=4, prune=False):
  return study.Study(str(path), Sweep({}, SPACE, num_trials), prune)


def states(opened):
  return [trial.state for trial in opened.trials()]


def test_trials_are_those_that_were_drawn_and_nothing_is_written_to_show_them(tmp_path):
  opened = open_study(tmp_path)
  names = ['trial_000', 'trial_001', 'trial_002', 'trial_003']
  assert [trial.name for trial in opened.trials()] == names
  assert [t.hyper_parameters for t in opened.trials()] == search_space.draw(SPACE, 4, seed=1)
  assert states(opened) == ['waiting'] * 4
  assert list(tmp_path.iterdir()) == []
  opened.claim().finish(1.0)
  assert states(open_study(tmp_path, num_trials=6)) == ['finished'] + ['waiting'] * 5


def test_tools_of_optuna_find_the_same_values(tmp_path):
  space = search_space.parse(
    [
      'batch_size=log_uniform(1,64)',
      'clip_global_norm=categorical(none,40)',
      'decay=uniform(0.5,0.9)',
    ]
  )
  sweep = Sweep({}, space, num_trials=3)
  opened = study.Study(str(tmp_path), sweep)
  while (claim := opened.claim()) is not None:
    claim.finish(float(claim.trial.number))
  storage = optuna.storages.journal.JournalFileBackend(str(tmp_path / study.JOURNAL_NAME))
  kept = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(storage))
  assert [trial.params for trial in kept.get_trials()] == sweep.samples()
  assert kept.best_value == 2.0


def test_each_trial_goes_to_one_worker_and_ends_once(tmp_path):
  one, two = open_study(tmp_path), open_study(tmp_path)
  first, second, third = one.claim(), two.claim(), one.claim()
  assert [claim.trial.number for claim in (first, second, third)] == [0, 1, 2]
  assert states(two) == ['running'] * 3 + ['waiting']
  first.finish(3.5)
  second.fail('Error: too bad')
  third.prune(-1.0)
  assert states(two) == ['finished', 'failed', 'pruned', 'waiting']
  assert [trial.value for trial in two.trials()] == [3.5, None, -1.0, None]
  assert two.trials()[1].message == 'Error: too bad'
  last = two.claim()
  assert last.trial.number == 3
  assert one.claim() is None


def test_trials_that_failed_wait_again_if_wanted(tmp_path):
  one, two = open_study(tmp_path, num_trials=2), open_study(tmp_path, num_trials=2)
  one.claim().finish(1.0)
  one.claim().fail('Error: too bad')
  one.retry_failed()
  two.retry_failed()
  assert states(two) == ['finished', 'waiting']
  again = two.claim()
  assert (again.trial.number, again.trial.message) == (1, '')
  assert states(one) == ['finished', 'running']
  assert one.claim() is None
  again.finish(2.0)
  assert [trial.value for trial in one.trials()] == [1.0, 2.0]


def test_what_another_worker_has_retried_meanwhile_does_not_wait_again(tmp_path, monkeypatch):
  late, early = open_study(tmp_path, num_trials=1), open_study(tmp_path, num_trials=1)
  early.claim().fail('Error: too bad')
  seen = late.trials()
  early.retry_failed()
  early.claim().finish(2.0)
  with monkeypatch.context() as patched:
    patched.setattr(late, 'trials', lambda: seen)
    late.retry_failed()
  assert states(late) == ['finished']


def test_what_ended_while_a_worker_looked_for_trials_is_not_its(tmp_path, monkeypatch):
  late, early = open_study(tmp_path, num_trials=2), open_study(tmp_path, num_trials=2)
  seen = late.trials()
  early.claim().finish(1.0)
  monkeypatch.setattr(late, 'trials', lambda: seen)
  claim = late.claim()
  assert claim.trial.number == 1
  claim.finish(2.0)
  assert late.claim() is None  # And it holds no lock of what it can't have.
  assert not (tmp_path / 'trial_002').exists()
  assert [trial.value for trial in early.trials()] == [1.0, 2.0]


def test_a_trial_of_a_dead_worker_waits_once_its_run_has_ended(tmp_path):
  opened = open_study(tmp_path, num_trials=2)
  first = opened.claim()
  first.lock.close()
  # From here on, another process and its run hold the lock.
  program = f"""
import subprocess, sys, time
from impala_tf.system import locks
lock = locks.claim({str(tmp_path / first.trial.name)!r})
subprocess.Popen([sys.executable, '-c', 'input()'], pass_fds=[lock.fileno()])
print('locked', flush=True)
time.sleep(600)
"""
  with subprocess.Popen(
    [sys.executable, '-c', program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
  ) as worker:
    assert worker.stdout.readline() == b'locked\n'
    assert states(opened) == ['running', 'waiting']
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    # What is left of the run still saves.
    assert states(opened) == ['running', 'waiting']
    worker.stdin.close()
    worker.stdout.read()

  assert states(opened) == ['waiting', 'waiting']
  again = opened.claim()
  assert again.trial == first.trial
  again.finish(5.0)
  assert [trial.value for trial in opened.trials()] == [5.0, None]


def test_released_trials_remember_how_often_they_were_killed_until_they_are_retried(tmp_path):
  opened = open_study(tmp_path)
  for kills in range(3):
    claim = opened.claim()
    assert (claim.trial.number, claim.trial.kills) == (0, kills)
    claim.release(kills + 1)
  opened.claim().release()
  claim = opened.claim()
  assert claim.trial.kills == 3
  claim.fail('too often')
  opened.retry_failed()
  assert opened.claim().trial.kills == 0


def test_workers_at_the_same_time_never_claim_the_same(tmp_path):
  """Locks belong to open files, so that threads stand for processes."""
  claimed = []

  def end_all():
    opened = open_study(tmp_path, num_trials=20)
    while (claim := opened.claim()) is not None:
      claimed.append(claim.trial.number)
      claim.finish(1.0)

  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    for future in [pool.submit(end_all) for _ in range(3)]:
      future.result(timeout=120)
  assert sorted(claimed) == list(range(20))
  assert states(open_study(tmp_path, num_trials=20)) == ['finished'] * 20


@pytest.mark.parametrize('prune', [False, True])
def test_only_what_is_worse_than_the_median_is_pruned_and_only_if_wanted(tmp_path, prune):
  opened = open_study(tmp_path, num_trials=7, prune=prune)
  for value in range(5):  # Optuna's rule needs five finished trials.
    claim = opened.claim()
    assert not claim.should_prune(2, float(value))
    claim.finish(float(value))
  good, bad = opened.claim(), opened.claim()
  assert not good.should_prune(2, 2.5)
  assert not bad.should_prune(1, None)
  assert bad.should_prune(2, 1.5) == prune
  assert (good.steps, bad.steps) == (2, 2)
  bad.release()
  assert opened.claim().steps == 2


def test_a_late_worker_does_not_change_what_another_made_of_its_trial(tmp_path):
  cut_off, opened = open_study(tmp_path), open_study(tmp_path)
  lost = cut_off.claim()
  fcntl.flock(
    lost.lock, fcntl.LOCK_UN
  )  # As where a file system gives up the locks of a machine it can't reach.
  opened.claim().finish(5.0)
  lost.fail('too late')
  assert (opened.trials()[0].state, opened.trials()[0].value) == ('finished', 5.0)


def test_a_line_that_a_full_disk_tore_is_dropped(tmp_path):
  open_study(tmp_path).claim().finish(1.0)
  path = tmp_path / study.JOURNAL_NAME
  whole = path.read_bytes()
  path.write_bytes(whole + whole.splitlines()[-1][:20])
  opened = open_study(tmp_path)
  opened.claim().finish(2.0)
  assert path.read_bytes().startswith(whole)
  assert states(open_study(tmp_path)) == ['finished', 'finished', 'waiting', 'waiting']


def test_a_journal_that_is_none_is_refused(tmp_path):
  (tmp_path / study.JOURNAL_NAME).write_text('nonsense\nnonsense\n')
  with pytest.raises(ConfigurationError, match=str(tmp_path / study.JOURNAL_NAME)):
    open_study(tmp_path).trials()


@pytest.mark.usefixtures('without_locks')
def test_a_folder_without_locks_is_refused(tmp_path):
  with pytest.raises(ConfigurationError, match=str(tmp_path)):
    locks.check_supported(str(tmp_path))
