import resource
import threading

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import files, structs, timing
from impala_tf.training import metrics
from impala_tf.training.metrics import Episode

ROWS, BATCH = 4, 3


def make_unrolls(finished, done=None, convert=np.asarray):
  """A batch whose episode_return at row t, column b is 10 t + b, and episode_steps 100 t + b."""
  t, b = np.mgrid[:ROWS, :BATCH]
  finished = np.asarray(finished, bool)
  info = structs.EpisodeInfo(
    convert((10.0 * t + b).astype(np.float32)), convert(100 * t + b), convert(finished)
  )
  done = finished if done is None else np.asarray(done, bool)
  step_outputs = structs.StepOutput(
    convert(np.zeros([ROWS, BATCH])), convert(done), info, structs.Observation(())
  )
  return structs.Unroll(convert(np.array([5, 6, 7], np.int32)), (), (), step_outputs, ())


def none_finished():
  return np.zeros([ROWS, BATCH], bool)


class TestEpisodesIn:
  @pytest.mark.parametrize('convert', [np.asarray, tf.constant])
  def test_finds_ends_with_their_level_return_and_steps(self, convert):
    finished = none_finished()
    finished[1, 2] = finished[3, 0] = finished[3, 2] = True
    assert metrics.episodes_in(make_unrolls(finished, convert=convert)) == [
      Episode(7, 12.0, 102),
      Episode(5, 30.0, 300),
      Episode(7, 32.0, 302),
    ]

  def test_row_0_was_counted_as_last_row_of_the_unroll_before(self):
    finished = none_finished()
    finished[ROWS - 1, 1] = True
    following = none_finished()
    following[0, 1] = True
    episodes = [e for f in (finished, following) for e in metrics.episodes_in(make_unrolls(f))]
    assert episodes == [Episode(6, 31.0, 301)]

  def test_done_without_finished_is_a_lost_life(self):
    assert metrics.episodes_in(make_unrolls(none_finished(), done=np.ones([ROWS, BATCH]))) == []

  def test_plain_types(self):
    finished = none_finished()
    finished[1, 0] = True
    (episode,) = metrics.episodes_in(make_unrolls(finished))
    assert [type(value) for value in episode] == [int, float, int]


class TestEpisodeStatistics:
  def test_none_without_episodes(self):
    assert metrics.EpisodeStatistics().mean_return() is None

  def test_mean_over_all_levels(self):
    statistics = metrics.EpisodeStatistics()
    statistics.add([Episode(0, 1.0, 9), Episode(2, 4.0, 9)])
    statistics.add([Episode(0, 2.0, 9)])
    assert statistics.mean_return() == pytest.approx(7 / 3)

  def test_only_the_last_hundred_count(self):
    statistics = metrics.EpisodeStatistics()
    statistics.add([Episode(1, 1000.0, 9)])
    statistics.add([Episode(0, float(i), 9) for i in range(150)])
    assert statistics.mean_return() == np.mean(range(50, 150))

  def test_episodes_of_an_earlier_start_count(self):
    statistics = metrics.EpisodeStatistics(float(i) for i in range(150))
    assert statistics.mean_return() == np.mean(range(50, 150))
    statistics.add([Episode(0, 150.0, 9)])
    assert statistics.mean_return() == np.mean(range(51, 151))


class TestLevelScores:
  def test_a_round_ends_when_each_level_has_finished_an_episode(self):
    rounds = []

    def scores(level_returns):
      rounds.append(level_returns)
      return {'sum': sum(map(sum, level_returns.values()))}

    level_scores = metrics.LevelScores(['a', 'b', 'c'], scores)
    assert level_scores.add([]) is None
    assert level_scores.add([Episode(2, 4.0, 9), Episode(0, 1.0, 9), Episode(2, 5.0, 9)]) is None
    assert level_scores.add([Episode(0, 2.0, 9)]) is None
    assert level_scores.add([Episode(1, 3.0, 9), Episode(0, 8.0, 9)]) == {'sum': 23.0}
    # What was counted counts no more.
    assert level_scores.add([Episode(1, 7.0, 9), Episode(0, 6.0, 9)]) is None
    assert level_scores.add([Episode(2, 0.0, 9)]) == {'sum': 13.0}
    assert rounds == [
      {'a': [1.0, 2.0, 8.0], 'b': [3.0], 'c': [4.0, 5.0]},
      {'a': [6.0], 'b': [7.0], 'c': [0.0]},
    ]


def read_scalars(logdir):
  """[(step, name, value)] of all event files."""
  found = []
  for path in sorted(logdir.glob('events*')):
    for record in tf.data.TFRecordDataset(str(path)):
      event = tf.compat.v1.Event.FromString(record.numpy())
      found += [
        (event.step, value.tag, float(tf.make_ndarray(value.tensor)))
        for value in event.summary.value
      ]
  return found


class TestSummaries:
  def test_scalars_over_frames(self, tmp_path):
    summaries = metrics.Summaries(str(tmp_path), ['pong'], 4)
    summaries.write(
      2**40, {'total_loss': 1.5, 'mean_return': None, 'learning_rate': tf.constant(0.25)}
    )
    summaries.write(np.int64(2**40 + 1), {'total_loss': 2.5, 'restarts': 0})
    summaries.close()
    assert read_scalars(tmp_path) == [
      (2**40, 'total_loss', 1.5),
      (2**40, 'learning_rate', 0.25),
      (2**40 + 1, 'total_loss', 2.5),
      (2**40 + 1, 'restarts', 0.0),
    ]

  def test_episodes(self, tmp_path):
    summaries = metrics.Summaries(str(tmp_path), ['pong', 'breakout'], 4)
    summaries.write_episodes(80, [Episode(1, -2.5, 100), Episode(0, 21.0, 7)])
    assert read_scalars(tmp_path) == [
      (80, 'breakout/episode_return', -2.5),
      (80, 'breakout/episode_frames', 400.0),
      (80, 'pong/episode_return', 21.0),
      (80, 'pong/episode_frames', 28.0),
    ]


class Clock:
  """Time that moves when told."""

  def __init__(self):
    self.now = 50.0

  def __call__(self):
    return self.now


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


def test_summaries_tell_of_a_disk_that_takes_no_more(tmp_path):
  make = lambda: metrics.Summaries(str(tmp_path), ('pong',), 4)
  summaries = make()
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  # No file may grow: what a full disk does, to this process alone.
  resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
  try:
    for deed in (lambda: summaries.write(0, {'x': 1.0}), make):
      with pytest.raises(
        files.StorageError, match=rf"^Can't write {tmp_path}: .*File too large\. Make room, .*$"
      ):
        deed()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
