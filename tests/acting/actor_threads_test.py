"""The threads that act: what they pass on, how they end, and what of their time is measured."""

import threading
import weakref

import pytest
import tensorflow as tf

from impala_tf.acting import actors, group
from impala_tf.system import timing
from tests.support.clock import Clock


class FakeUnroller:
  """Counts the unrolls of each actor; fails where told."""

  def __init__(self, fail_at=None):
    self.counts = {}
    self.fail_at = fail_at

  def initial(self, index):
    return 0

  def unroll(self, index, carry):
    if (index, carry) == self.fail_at:
      raise ValueError('the emulator is on fire')
    self.counts[index] = carry + 1
    return carry + 1, (index, carry)


class Timer:
  """A `timing.StageTimer` that does nothing."""

  def __call__(self, stage):
    return self

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    return None


def test_threads_pass_on_carry_and_unrolls_until_stopped():
  enqueued, enough = [], threading.Event()

  def enqueue(unrolls):
    enqueued.append(unrolls)
    if len(enqueued) > 50:
      enough.set()

  threads = actors.ActorThreads(FakeUnroller(), 3, enqueue, Timer(), on_failure=lambda: None)
  threads.start()
  assert enough.wait(30)
  threads.stop()
  threads.join()
  assert threads.error is None
  for index in range(3):
    carries = [carry for i, carry in enqueued if i == index]
    assert carries == list(range(len(carries)))


def test_unrolls_are_let_go_before_the_next_are_made():
  made, alive = [], []
  enough = threading.Event()

  class Watched(FakeUnroller):
    """Looks whether the unrolls before are still there."""

    def unroll(self, index, carry):
      alive.extend(unrolls() for unrolls in made)
      unrolls = FakeUnroller()  # Anything.
      made.append(weakref.ref(unrolls))
      if len(made) > 5:
        enough.set()
      return carry, unrolls

  threads = actors.ActorThreads(Watched(), 1, lambda unrolls: None, Timer(), on_failure=pytest.fail)
  threads.start()
  assert enough.wait(30)
  threads.stop()
  threads.join()
  assert alive
  assert set(alive) == {None}


def test_first_failure_is_kept_and_ends_all():
  failed = threading.Event()
  threads = actors.ActorThreads(
    FakeUnroller(fail_at=(1, 3)), 3, lambda unrolls: None, Timer(), failed.set
  )
  threads.start()
  assert failed.wait(30)
  threads.join()
  assert isinstance(threads.error, ValueError)
  assert 'on fire' in str(threads.error)


def test_an_error_after_the_stop_is_no_failure():
  entered, release = threading.Event(), threading.Event()

  def enqueue(unrolls):
    entered.set()
    release.wait(30)
    raise tf.errors.CancelledError(None, None, 'closed')

  threads = actors.ActorThreads(FakeUnroller(), 1, enqueue, Timer(), on_failure=pytest.fail)
  threads.start()
  assert entered.wait(30)
  threads.stop()
  release.set()
  threads.join()
  assert threads.error is None


def test_join_names_threads_that_do_not_end():
  release = threading.Event()
  threads = actors.ActorThreads(
    FakeUnroller(), 1, lambda unrolls: release.wait(30), Timer(), on_failure=pytest.fail
  )
  threads.start()
  threads.stop()
  with pytest.raises(RuntimeError, match='actor-0'):
    threads.join(timeout=0.1)
  release.set()
  threads.join()


class SlowToBegin(FakeUnroller):
  """Whose environments take long for their first episode; ends after two unrolls."""

  def __init__(self, clock, timer):
    super().__init__(fail_at=(0, 2))
    self._clock, self._timer = clock, timer

  def initial(self, index):
    with self._timer('environment'):
      self._clock.now += 9.0
    return super().initial(index)

  def unroll(self, index, carry):
    self._clock.now += 0.5
    return super().unroll(index, carry)


def test_the_first_episode_is_a_part_of_the_time_of_unrolls():
  clock = Clock()
  timer = timing.StageTimer(clock)
  shares = group.stage_shares(timer)
  threads = actors.ActorThreads(
    SlowToBegin(clock, timer), 1, lambda unrolls: None, timer, on_failure=lambda: None
  )
  threads.start()
  threads.join()
  assert shares() == pytest.approx({'environment': 9 / 10.5, 'inference': 1.5 / 10.5, 'queue': 0.0})
