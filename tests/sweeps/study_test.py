"""The trials of a sweep: who gets which, and what becomes of those whose worker dies. A real
database throughout.
"""

import errno
import fcntl
import multiprocessing
import shutil
import time

import pytest

from impala_tf.config import ConfigurationError
from impala_tf.sweeps import search_space, study

SPACE = search_space.TABLE_D1
SAMPLES = search_space.draw(SPACE, 4, seed=1)


def open_study(path, heartbeat=1, **arguments):
  opened = study.Study(str(path), '', heartbeat, **arguments)
  opened.add_missing(SPACE, SAMPLES)
  return opened


def states(opened):
  return [trial.state for trial in opened.trials()]


def test_trials_are_added_once_with_what_was_drawn(tmp_path):
  open_study(tmp_path)
  opened = open_study(tmp_path)
  assert [trial.hyper_parameters for trial in opened.trials()] == SAMPLES
  assert [trial.name for trial in opened.trials()] == [
    'trial_000',
    'trial_001',
    'trial_002',
    'trial_003',
  ]
  opened.add_missing(SPACE, search_space.draw(SPACE, 6, seed=1))
  assert [trial.number for trial in opened.trials()] == list(range(6))
  assert states(opened) == ['waiting'] * 6


def test_other_kinds_of_value_come_back_as_they_were(tmp_path):
  space = search_space.parse(
    [
      'batch_size=log_uniform(1,64)',
      'clip_global_norm=categorical(none,40)',
      'decay=uniform(0.5,0.9)',
    ]
  )
  samples = search_space.draw(space, 8, seed=0)
  opened = study.Study(str(tmp_path), '', 1)
  opened.add_missing(space, samples)
  assert [trial.hyper_parameters for trial in opened.trials()] == samples
  assert {type(trial.hyper_parameters['batch_size']) for trial in opened.trials()} == {int}


def test_each_trial_goes_to_one_worker_and_ends_once(tmp_path):
  one, two = open_study(tmp_path), open_study(tmp_path)
  first, second, third = one.claim(), two.claim(), one.claim()
  assert [first.number, second.number, third.number] == [0, 1, 2]
  one.finish(first, 3.5)
  two.fail(second, 'Error: too bad')
  one.prune(third, -1.0)
  assert states(two) == ['finished', 'failed', 'pruned', 'waiting']
  assert [trial.value for trial in two.trials()] == [3.5, None, -1.0, None]
  assert two.trials()[1].message == 'Error: too bad'
  assert two.claim().number == 3
  assert one.claim() is None
  one.retry_failed()
  assert one.claim().number == 1
  assert one.trials()[1].message == ''
  assert states(one) == ['finished', 'running', 'pruned', 'running']


def test_a_trial_of_a_silent_worker_is_taken_up_again(tmp_path):
  # The silent one is slow to take others for dead, so that this test may be slow, too.
  silent, lively = open_study(tmp_path, heartbeat=60), open_study(tmp_path)
  lost, kept = silent.claim(), lively.claim()
  deadline = time.monotonic() + 30
  while states(lively)[0] != 'waiting':
    assert lively.beat([kept]) == []
    assert time.monotonic() < deadline
    time.sleep(0.3)
  again = lively.claim()
  assert (again.number, again.hyper_parameters) == (lost.number, lost.hyper_parameters)
  assert again.attempt != lost.attempt
  # Not dead after all: it is told, and can't change the result of the one who has the trial now.
  assert silent.beat([lost]) == [lost]
  silent.finish(lost, 100.0)
  silent.fail(lost, 'too late')
  silent.release(lost, was_killed=True)
  lively.finish(again, 5.0)
  assert [trial.value for trial in lively.trials()] == [5.0, None, None, None]
  assert states(lively) == ['finished', 'running', 'waiting', 'waiting']


def test_a_worker_that_dies_while_it_hands_a_trial_back_loses_nothing(tmp_path, monkeypatch):
  dying, other = open_study(tmp_path), open_study(tmp_path)
  trial = dying.claim()
  monkeypatch.setattr(dying, '_add_again', lambda condition: None)
  dying.release(trial)
  assert states(other)[0] == 'failed'
  other.beat([])
  assert states(other)[0] == 'waiting'


def test_released_trials_wait_and_remember_how_often_they_were_killed(tmp_path):
  opened = open_study(tmp_path)
  for kills in range(3):
    trial = opened.claim()
    assert (trial.number, trial.kills) == (0, kills)
    opened.release(trial, was_killed=True)
  trial = opened.claim()
  opened.release(trial)
  assert opened.claim().kills == 3


def _claim_all(path, numbers):
  opened = study.Study(path, '', 60)
  while (trial := opened.claim()) is not None:
    numbers.put(trial.number)


def test_processes_never_claim_the_same(tmp_path):
  samples = search_space.draw(SPACE, 30, seed=1)
  study.Study(str(tmp_path), '', 60).add_missing(SPACE, samples)
  context = multiprocessing.get_context('spawn')
  numbers = context.Queue()
  workers = [context.Process(target=_claim_all, args=(str(tmp_path), numbers)) for _ in range(2)]
  for worker in workers:
    worker.start()
  claimed = [numbers.get(timeout=60) for _ in samples]
  for worker in workers:
    worker.join()
    assert worker.exitcode == 0
  assert sorted(claimed) == list(range(30))
  assert numbers.empty()


@pytest.mark.parametrize('prune', [False, True])
def test_only_what_is_worse_than_the_median_is_pruned_and_only_if_wanted(tmp_path, prune):
  opened = open_study(tmp_path, heartbeat=60, prune=prune)
  opened.add_missing(SPACE, search_space.draw(SPACE, 7, seed=1))
  for value in range(5):  # Optuna's rule needs five finished trials.
    trial = opened.claim()
    assert not opened.should_prune(trial, 1, float(value))
    opened.finish(trial, float(value))
  good, bad = opened.claim(), opened.claim()
  assert not opened.should_prune(good, 1, 2.5)
  assert opened.should_prune(bad, 1, 1.5) == prune


def test_sweeps_in_one_database_are_kept_apart(tmp_path):
  url = f'sqlite:///{tmp_path}/shared.db'
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()

  def open_in(name, num_samples):
    opened = study.Study(str(tmp_path / name), url, 60)
    opened.add_missing(SPACE, SAMPLES[:num_samples])
    return opened

  first = open_in('a', 3)
  first.finish(first.claim(), 1.0)
  assert states(open_in('b', 2)) == ['waiting', 'waiting']
  assert states(open_in('a', 3)) == ['finished', 'waiting', 'waiting']
  assert not (tmp_path / 'a' / 'study.db').exists()
  # A folder that was emptied has a new sweep.
  shutil.rmtree(tmp_path / 'a')
  (tmp_path / 'a').mkdir()
  assert states(open_in('a', 3)) == ['waiting'] * 3


def test_a_database_that_is_none_is_refused(tmp_path):
  with pytest.raises(ConfigurationError, match=r"Can't open the study in nonsense"):
    study.Study(str(tmp_path), 'nonsense', 1)
  with pytest.raises(ConfigurationError) as refusal:
    study.Study(str(tmp_path), 'nonsense://me:sec/ret@server/db', 1)
  assert 'nonsense://me:***@server/db' in str(refusal.value)
  assert 'ret@' not in str(refusal.value)


def test_a_folder_without_locks_is_refused(tmp_path, monkeypatch):
  def refuse(*unused):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(fcntl, 'flock', refuse)
  with pytest.raises(
    ConfigurationError, match=f"{tmp_path}.* can't be locked .*Give a --logdir on another"
  ):
    study.Study(str(tmp_path), '', 1)


def test_a_worker_is_taken_for_dead_after_three_heartbeats(tmp_path):
  storage = open_study(tmp_path, heartbeat=7)._storage
  assert (storage.get_heartbeat_interval(), storage.grace_period) == (7, 21)
