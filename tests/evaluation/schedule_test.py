"""How levels are divided among processes, and what happens to several that are played at once."""

import concurrent.futures
import os
import signal
import threading
import types

import numpy as np
import pytest

from impala_tf.environments import py_process, suites
from impala_tf.evaluation import play, schedule
from impala_tf.pbt import lineage
from impala_tf.training.episodes import Episode

RUN = play.EvaluatedRun('', types.SimpleNamespace(num_action_repeats=4, seed=1))


class Player:
  """Stands for `play.Player`: what it plays is a function of the share."""

  def __init__(self, function):
    self.episodes = 0
    self.closed = threading.Event()
    self.play = function

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.closed.set()


def jobs_of(*names):
  shares = {name: [play.Share(RUN, name, [1], 1, 1)] for name in names}
  return [schedule.Job(RUN, name, shares[name]) for name in names]


def divide(num_shares, level='maze', **settings):
  how = {'num_episodes': 5, 'envs_per_process': 2, 'seed': 7, **settings}
  return schedule.divide(RUN, level, num_shares, **how)


def test_episodes_and_videos_are_divided_alike():
  shares = divide(2, videos=['1', '2', '3'])
  assert [share.num_episodes for share in shares] == [3, 2]
  assert [share.num_environments for share in shares] == [2, 2]
  assert [list(share.videos) for share in shares] == [['1', '2'], ['3']]
  assert all(share.run is RUN and share.level == 'maze' for share in shares)
  assert [share.num_environments for share in divide(1, envs_per_process=8)] == [5]
  assert [share.num_episodes for share in divide(9)] == [1] * 5


def test_seeds_differ_between_evaluations_levels_and_shares():
  shares = divide(3) + divide(3, level='arena') + divide(3, seed=8)
  seeds = [tuple(np.random.SeedSequence(share.seed).generate_state(4)) for share in shares]
  assert len(set(seeds)) == 9
  assert [share.seed for share in divide(3)] == [share.seed for share in shares[:3]]


def test_a_result_has_the_episodes_of_all_shares_in_their_order():
  job = schedule.Job(RUN, 'maze', divide(2))
  first = [Episode(0, float(n), 10 * n) for n in (1, 2, 3)]
  second = [Episode(0, float(n), 10 * n) for n in (4, 5)]
  kept = []
  ended = threading.Event()

  def share(share):
    if share.num_episodes == 2:
      ended.set()
      return second
    assert ended.wait(60)
    return first

  assert schedule.play_all(Player(share), [job], 2, lambda job: kept.append(job.result())) == 0
  (result,) = kept
  assert result.returns == [1, 2, 3, 4, 5]
  assert result.episode_frames == [40, 80, 120, 160, 200]
  assert (result.agent, result.environments, result.training_seed) == ('random', 4, 1)


@pytest.mark.parametrize(('architecture', 'method'), [('a3c', 'A3C'), ('impala', 'IMPALA')])
@pytest.mark.parametrize('is_member', [False, True])
def test_a_result_names_the_method_of_its_agent(tmp_path, architecture, method, is_member):
  if is_member:
    lineage.append(str(tmp_path), lineage.Event(evaluation=0, frames=0, hyper_parameters={}))
  given = {'architecture': architecture, 'num_learners': 1 + (architecture == 'impala')}
  _, config = suites.resolve('pong', batch_size=1, envs_per_actor=1, **given)
  job = schedule.Job(play.EvaluatedRun(str(tmp_path), config, agent='agent'), 'pong', [])
  job.episodes[0] = [Episode(0, 1.0, 10)]
  assert (job.result().method, job.result().is_of_population) == (method, is_member)
  assert job.result().num_learners == given['num_learners']


def test_as_many_shares_as_there_are_processes_are_played_at_once():
  both = threading.Barrier(2)
  schedule.play_all(Player(lambda share: both.wait(60)), jobs_of('a', 'b'), 2, lambda job: job.name)

  at_work = threading.Lock()

  def alone(share):
    assert at_work.acquire(blocking=False)
    at_work.release()

  schedule.play_all(Player(alone), jobs_of(*'abcdef'), 1, lambda job: job.name)


def test_a_failure_ends_what_is_still_played():
  def share(share):
    if share.level == 'bad':
      raise py_process.ProcessError('no maze')
    assert player.closed.wait(60)

  player, kept = Player(share), []
  with pytest.raises(py_process.ProcessError, match='no maze'):
    schedule.play_all(player, jobs_of('good', 'bad'), 2, lambda job: kept.append(job.name))
  assert kept == []


def test_all_levels_that_are_finished_are_kept_before_an_error_is_raised(monkeypatch):
  wait, kept = concurrent.futures.wait, []
  monkeypatch.setattr(concurrent.futures, 'wait', lambda pending, **unused: wait(pending))

  def share(share):
    if share.level == 'bad':
      raise py_process.ProcessError('no maze')

  with pytest.raises(py_process.ProcessError, match='no maze'):
    schedule.play_all(
      Player(share), jobs_of('bad', 'good', 'better'), 3, lambda job: kept.append(job.name)
    )
  assert sorted(kept) == ['better', 'good']


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_keeps_what_is_finished(number, capsys):
  kept = []

  def keep(job):
    kept.append(job.name)
    os.kill(os.getpid(), number)
    return f'{job.name} is finished'

  player = Player(lambda share: share.level == 'short' or player.closed.wait(60))
  code = schedule.play_all(player, jobs_of('short', 'long', 'waiting'), 2, keep)
  assert code == 128 + number
  assert kept == ['short']
  assert capsys.readouterr().out == 'short is finished\n'
