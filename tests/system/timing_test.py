"""Where the time goes, by stages of threads' work."""

import threading

import pytest

from impala_tf.system import timing
from tests.support.clock import Clock


class TestStageTimer:
  def test_nothing_spent(self):
    assert timing.StageTimer(Clock()).reader()() == {}

  def test_shares(self):
    clock = Clock()
    timer = timing.StageTimer(clock)
    shares = timer.reader()
    for stage, seconds in (('wait', 1.0), ('update', 5.0), ('wait', 2.0)):
      with timer(stage):
        clock.now += seconds
      clock.now += 100.0  # In no stage.
    assert shares() == {'wait': 3 / 8, 'update': 5 / 8}
    assert timer.seconds() == {'wait': 3.0, 'update': 5.0}

  def test_shares_are_those_since_the_last_call_of_the_same_reader(self):
    clock = Clock()
    timer = timing.StageTimer(clock)
    with timer('start'):
      clock.now += 7.0
    often, seldom = timer.reader(), timer.reader()
    with timer('a'):
      clock.now += 1.0
    assert often() == {'start': 0.0, 'a': 1.0}
    with timer('b'):
      clock.now += 3.0
    assert often() == {'start': 0.0, 'a': 0.0, 'b': 1.0}
    assert seldom() == {'start': 0.0, 'a': 0.25, 'b': 0.75}
    assert often() == {}

  def test_a_stage_that_still_lasts_counts_once(self):
    clock = Clock()
    timer = timing.StageTimer(clock)
    with timer('wait'):
      clock.now += 2.0
      assert timer.seconds() == {'wait': 2.0}
      clock.now += 3.0
      assert timer.seconds() == {'wait': 5.0}
      clock.now += 1.0
    assert timer.seconds() == {'wait': 6.0}

  def test_an_error_ends_the_stage(self):
    clock = Clock()
    timer = timing.StageTimer(clock)

    def fail():
      with timer('wait'):
        clock.now += 2.0
        raise KeyError

    with pytest.raises(KeyError):
      fail()
    clock.now += 5.0
    assert timer.seconds() == {'wait': 2.0}

  def test_threads_add_up(self):
    clock = Clock()
    timer = timing.StageTimer(clock)
    inside, leave = threading.Barrier(4), threading.Event()

    def work():
      with timer('unroll'):
        inside.wait()
        leave.wait()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
      thread.start()
    inside.wait()
    clock.now += 2.0
    leave.set()
    for thread in threads:
      thread.join()
    assert timer.seconds() == {'unroll': 6.0}


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [
    (0, '0 s'),
    (59.9, '59 s'),
    (60, '1 min'),
    (719, '11 min'),
    (3_600, '1 h'),
    (51_180, '14 h 13 min'),
    (86_399, '23 h 59 min'),
    (1_098_180, '12 d 17 h'),
  ],
)
def test_a_length_of_time_in_words(seconds, text):
  assert timing.duration(seconds) == text
