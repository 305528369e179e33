"""Processes of environments that are restarted when they fail, real ones throughout; and
requests to end.
"""

import dataclasses
import errno
import os
import signal
import threading

import numpy as np
import pytest
import tensorflow as tf
import tree

from impala_tf.acting import actors, inference, weights
from impala_tf.agent import agents
from impala_tf.environments import process_group, py_process, rows
from impala_tf.system import timing
from tests.support import catch, frail
from tests.support.processes import wait_until

STAY = np.ones(3, np.int32)  # The action of each of a process's three environments.
LEVELS = ['catch', 'catch']


def make(suite, levels=LEVELS, n=3):
  """One process for each level, with `n` environments."""
  return process_group.make_environments(
    suite, catch.CONFIG, [[level] * n for level in levels], False, [1, 1], timing.StageTimer()
  )


def seeds_in(folder):
  return {path.name for path in folder.iterdir()}


def assert_is_fresh(output):
  """First observations of new episodes, without anything of those before."""
  assert output.done.tolist() == [True] * 3
  assert output.reward.tolist() == [0] * 3
  for values in output.info:
    assert values.tolist() == [0] * 3
  assert output.observation.frame[:, 0].any(axis=(1, 2)).all()  # The ball is in the top row.


class TestRestart:
  def test_killed_process_costs_its_episodes_only(self, tmp_path):
    with make(frail.FrailSuite(tmp_path, 'raise', 1000)) as group:
      for process in group:
        process.initial()
        for _ in range(3):
          process.step(1, STAY)
      pids = [process.pid for process in group]
      before = seeds_in(tmp_path)
      os.kill(pids[0], signal.SIGKILL)
      assert_is_fresh(group[0].step(1, STAY))
      assert group[0].pid not in (None, *pids)
      # Three new environments, none of which plays an old one's episodes again.
      assert len(before) == 6
      assert len(seeds_in(tmp_path)) == 9
      assert group[0].step(1, STAY).info.episode_steps.tolist() == [1] * 3
      assert group[1].step(1, STAY).info.episode_steps.tolist() == [4] * 3
      assert group[1].pid == pids[1]
      assert [process.restarts for process in group] == [1, 0]
      assert (group.restarts, group.error) == (1, None)

  @pytest.mark.parametrize('failure', ['raise', 'exit', 'reset'])
  def test_failing_environment_costs_the_episodes_of_its_process(self, tmp_path, failure):
    with make(frail.FrailSuite(tmp_path, failure, 7)) as group:
      pid = group[0].pid
      group[0].initial()
      steps = 6 if failure == 'reset' else 7  # An episode of catch has seven.
      for _ in range(steps):
        group[0].step(1, STAY)
      assert group.restarts == 0
      assert_is_fresh(group[0].step(1, STAY))
      assert group.restarts == 1
      assert group[0].pid != pid
      assert len(seeds_in(tmp_path)) == 9

  def test_death_before_the_first_reset(self):
    with make(catch.CatchSuite()) as group:
      os.kill(group[1].pid, signal.SIGKILL)
      assert_is_fresh(group[1].initial())
      assert group.restarts == 1

  def test_process_that_can_not_be_forked_is_tried_again(self, monkeypatch):
    start, ends = py_process._context.Process.start, [EOFError('unexpected EOF')]

    def start_the_second_time(process):
      if ends:
        raise ends.pop()
      start(process)

    with make(catch.CatchSuite(), ['catch']) as group:
      monkeypatch.setattr(py_process._context.Process, 'start', start_the_second_time)
      os.kill(group[0].pid, signal.SIGKILL)
      assert_is_fresh(group[0].step(1, STAY))
      assert group.restarts == 2

  def test_equal_seeds_make_equal_restarts(self):
    boards = []
    for _ in range(2):
      with make(catch.CatchSuite(), n=16) as group:
        boards.append([group[0].initial().observation.frame.copy()])
        for _ in range(2):
          os.kill(group[0].pid, signal.SIGKILL)
          boards[-1].append(group[0].step(1, np.ones(16, np.int32)).observation.frame.copy())
    np.testing.assert_array_equal(boards[0], boards[1])
    assert len({frame.tobytes() for frame in boards[0]}) == 3

  def test_unroll_goes_on_with_a_fresh_memory(self, tmp_path):
    settings = dataclasses.replace(catch.CONFIG, level_name='catch_with_memory')
    suite = frail.FrailSuite(tmp_path, 'exit', 12)
    agent = agents.for_suite(suite, settings)
    died = 13  # The row of what would have been the thirteenth step.
    with make(suite, ['catch_with_memory'], 3) as group:
      unroller = actors.Unroller(
        inference.LocalInference(agent, weights.PublishedWeights(agent)), group, [[0] * 3], 20
      )
      _, unrolls = unroller.unroll(0, unroller.initial(0))
      assert group.restarts == 1
    row = lambda nest, t: tree.map_structure(lambda x: x[:, t], nest)
    rows = unrolls.step_outputs
    assert_is_fresh(tree.map_structure(lambda x: x.numpy(), row(rows, died)))
    steps = np.array([0, *range(1, 8), *range(1, 6), 0, *range(1, 8)])
    np.testing.assert_array_equal(rows.info.episode_steps, np.tile(steps, (3, 1)))
    np.testing.assert_array_equal(rows.info.finished, np.tile(steps == 7, (3, 1)))
    np.testing.assert_array_equal(rows.done, np.tile((steps == 7) | (steps == 0), (3, 1)))
    # From that row on the agent answers as one that has seen nothing before.
    state = agent.initial_state(3)
    for t in range(died, 20):
      output, state = agent.step(row(unrolls.agent_outputs.action, t), row(rows, t), state)
      np.testing.assert_allclose(
        output.policy_logits, row(unrolls.agent_outputs.policy_logits, t + 1), atol=1e-5
      )


class Slow:
  """Stands for a process; writes into its rows which it is, and what it was told."""

  def __init__(self, number, part, barrier):
    self._number, self._part, self._barrier = number, part, barrier

  def call(self, method, row):
    """Returns only when the others were called as well."""
    self._barrier.wait(timeout=60)
    self._part.row[row].reward[:] = self._number
    self._part.row[row].info.episode_steps[:] = self._part.actions * 10 + row


def test_processes_of_an_actor_work_at_the_same_time_and_keep_their_order():
  barrier = threading.Barrier(3)
  now = 0.0

  def clock():
    nonlocal now
    now += 1.0
    return now

  timer = timing.StageTimer(clock)
  whole = rows.Rows(catch.Catch.observation_spec, 7, 6)
  bounds = ((0, 3), (3, 5), (5, 7))
  processes = [Slow(i, whole.part(*pair), barrier) for i, pair in enumerate(bounds)]
  actor = process_group._Actor(processes, whole, timer)
  first = actor.initial().reward.tolist()
  second = actor.step(5, np.arange(7, dtype=np.int32))
  assert first == second.reward.tolist() == [0, 0, 0, 1, 1, 2, 2]
  assert second.info.episode_steps.tolist() == [10 * i + 5 for i in range(7)]
  # The time of processes that work side by side is not added up.
  assert timer.seconds() == {'environment': 2.0}


def test_a_process_hosts_its_share_of_an_actors_environments_and_takes_no_other_with_it():
  suite = Levels()
  levels = [['a', 'b', 'c', 'a', 'b'], ['c', 'a', 'b', 'c', 'a']]
  group = process_group.make_environments(
    suite, catch.CONFIG, levels, False, [1, 1], timing.StageTimer(), processes_per_actor=2
  )
  with group:
    assert suite.made == [*levels[0], *levels[1]]
    assert len(group) == 4
    step = tf.function(lambda actor, row, actions: group.step(actor, row, actions))
    actions = tf.ones([5], tf.int32)
    assert group.initial(1).reward.shape == [5]
    step(1, 1, actions)
    os.kill(group[3].pid, signal.SIGKILL)
    # The first process of the second actor has two of its environments, the second one three.
    assert step(1, 2, actions).done.numpy().tolist() == [False, False, True, True, True]
    assert group.take(1, 3).info.episode_steps.numpy().T.tolist() == [
      [0] * 5,
      [1] * 5,
      [2, 2, 0, 0, 0],
    ]
    assert [process.restarts for process in group] == [0, 0, 0, 1]
  # What is started again are environments of the same levels.
  assert suite.made[10:] == ['b', 'c', 'a']
  with pytest.raises(tf.errors.OutOfRangeError):
    step(1, 1, actions)


class Levels(catch.CatchSuite):
  """Notes the levels of the environments that are made."""

  def __init__(self):
    self.made = []

  def make_environment(self, level, seed, is_test, config):
    self.made.append(level)
    return super().make_environment(level, seed, is_test, config)


class TestGivingUp:
  def steps_until_error(self, group, most):
    """How many calls of `step` went well, and the error that ended them."""
    group[0].initial()
    for number in range(most):
      try:
        group[0].step(1, STAY)
      except py_process.ProcessError as error:
        return number, error
    return most, None

  def test_process_that_keeps_failing_is_given_up_with_its_last_error(self, tmp_path):
    with make(frail.FrailSuite(tmp_path, 'raise', 10), ['catch']) as group:
      number, error = self.steps_until_error(group, 1000)
      # Ten steps in each of four lives; the first output of the later three answers a step, too.
      assert number == 4 * 10 + 3
      assert group.restarts == 3
      assert len(seeds_in(tmp_path)) == 4 * 3
      assert 'the ball is stuck' in str(error)
      assert 'process of catch was restarted 3 times in a row' in str(error)
      assert group.error is error

  def test_failures_far_apart_are_no_reason(self, tmp_path, monkeypatch):
    monkeypatch.setattr(process_group, '_STEPS_OF_A_SOUND_PROCESS', 20)
    (tmp_path / 'a').mkdir()
    (tmp_path / 'b').mkdir()
    with make(frail.FrailSuite(tmp_path / 'a', 'raise', 20), ['catch']) as group:
      assert self.steps_until_error(group, 150) == (150, None)
      assert group.restarts == 7
    with make(frail.FrailSuite(tmp_path / 'b', 'raise', 18), ['catch']) as group:
      assert self.steps_until_error(group, 150)[0] == 4 * 18 + 3

  def test_error_in_the_first_constructors_is_raised_at_once(self, tmp_path):
    with pytest.raises(py_process.ProcessError, match='no board number 0'):
      make(frail.FrailSuite(tmp_path, 'construct', 0), ['catch'], 1).start()
    assert len(seeds_in(tmp_path)) == 1

  @pytest.mark.parametrize(
    ('error', 'are_too_many'),
    [
      (EOFError('unexpected EOF'), True),
      (BlockingIOError(errno.EAGAIN, 'short'), True),
      (OSError(errno.ENOSPC, 'no room'), False),
    ],
  )
  def test_first_processes_that_can_not_be_forked_are_an_error(
    self, monkeypatch, error, are_too_many
  ):
    def start(process):
      raise error

    monkeypatch.setattr(py_process._context.Process, 'start', start)
    with pytest.raises(py_process.ProcessError, match=error.args[-1]) as refused:
      make(catch.CatchSuite()).start()
    assert ('ulimit -u' in str(refused.value)) == are_too_many

  def test_error_in_later_constructors_counts(self, tmp_path):
    with make(frail.FrailSuite(tmp_path, 'construct', 3), ['catch']) as group:
      group[0].initial()
      os.kill(group[0].pid, signal.SIGKILL)
      with pytest.raises(py_process.ProcessError, match='no board number 5'):
        group[0].step(1, STAY)
      assert group.restarts == 3

  def test_operation_fails_with_the_error(self, tmp_path):
    with (
      make(frail.FrailSuite(tmp_path, 'reset', 0), ['catch']) as group,
      pytest.raises(tf.errors.UnknownError, match='no ball'),
    ):
      tf.function(lambda: group.initial(0))()


class TestClose:
  def test_a_restart_in_another_thread_is_ended(self, tmp_path):
    group = make(frail.FrailSuite(tmp_path, 'hang', 3), ['catch'])
    group.start()
    group[0].initial()
    os.kill(group[0].pid, signal.SIGKILL)
    errors = []

    def step():
      try:
        group[0].step(1, STAY)
      except BaseException as error:
        errors.append(error)

    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    wait_until(lambda: len(seeds_in(tmp_path)) >= 4, 'new process in its constructor')
    pid = group[0].pid
    group.close(0.1)
    thread.join(20)
    assert [type(error) for error in errors] == [py_process.ProcessClosed]
    with pytest.raises(ProcessLookupError):
      os.kill(pid, 0)

  def test_nothing_starts_afterwards(self):
    group = make(catch.CatchSuite())
    group.start()
    group.close()
    for start in (group[0].start, group.start, lambda: group[0].step(1, STAY)):
      with pytest.raises(py_process.ProcessClosed):
        start()
    assert [process.pid for process in group] == [None, None]
    assert group.restarts == 0


class TestStatistics:
  def test_added_up_over_environments_processes_and_lives(self, tmp_path, monkeypatch):
    monkeypatch.setattr(process_group, '_STATISTICS_INTERVAL', 10)
    with make(frail.FrailSuite(tmp_path, 'raise', 1000)) as group:
      assert group.statistics() == {}
      for process in group:
        process.initial()
      assert group.statistics() == {'steps': 0, 'boards': 6, 'broken': 0}
      for _ in range(25):
        group[0].step(1, STAY)
      assert group.statistics() == {'steps': 3 * 20, 'boards': 6, 'broken': 0}
      os.kill(group[0].pid, signal.SIGKILL)
      group[0].step(1, STAY)
      assert group.statistics() == {'steps': 3 * 20, 'boards': 9, 'broken': 0}
      for _ in range(10):
        group[0].step(1, STAY)
      assert group.statistics() == {'steps': 3 * 30, 'boards': 9, 'broken': 0}

  def test_environments_that_keep_none(self):
    with make(catch.CatchSuite()) as group:
      group[0].initial()
      assert group.statistics() == {}
