"""Finished episodes, their mean return, and the scores of a suite."""

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import structs
from impala_tf.training import episodes
from impala_tf.training.episodes import Episode

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
    convert(np.zeros([ROWS, BATCH])), convert(done), (), info, structs.Observation(())
  )
  return structs.Unroll(convert(np.array([5, 6, 7], np.int32)), (), (), step_outputs, ())


def none_finished():
  return np.zeros([ROWS, BATCH], bool)


class TestEpisodesIn:
  @pytest.mark.parametrize('convert', [np.asarray, tf.constant])
  def test_finds_ends_with_their_level_return_and_steps(self, convert):
    finished = none_finished()
    finished[1, 2] = finished[3, 0] = finished[3, 2] = True
    assert episodes.episodes_in(make_unrolls(finished, convert=convert)) == [
      Episode(7, 12.0, 102),
      Episode(5, 30.0, 300),
      Episode(7, 32.0, 302),
    ]

  def test_row_0_was_counted_as_last_row_of_the_unroll_before(self):
    finished = none_finished()
    finished[ROWS - 1, 1] = True
    following = none_finished()
    following[0, 1] = True
    found = [e for f in (finished, following) for e in episodes.episodes_in(make_unrolls(f))]
    assert found == [Episode(6, 31.0, 301)]

  def test_done_without_finished_is_a_lost_life(self):
    assert episodes.episodes_in(make_unrolls(none_finished(), done=np.ones([ROWS, BATCH]))) == []

  def test_plain_types(self):
    finished = none_finished()
    finished[1, 0] = True
    (episode,) = episodes.episodes_in(make_unrolls(finished))
    assert [type(value) for value in episode] == [int, float, int]


class TestEpisodeStatistics:
  def test_none_without_episodes(self):
    assert episodes.EpisodeStatistics().mean_return() is None

  def test_mean_over_all_levels(self):
    statistics = episodes.EpisodeStatistics()
    statistics.add([Episode(0, 1.0, 9), Episode(2, 4.0, 9)])
    statistics.add([Episode(0, 2.0, 9)])
    assert statistics.mean_return() == pytest.approx(7 / 3)

  def test_only_the_last_hundred_count(self):
    statistics = episodes.EpisodeStatistics()
    statistics.add([Episode(1, 1000.0, 9)])
    statistics.add([Episode(0, float(i), 9) for i in range(150)])
    assert statistics.mean_return() == np.mean(range(50, 150))

  def test_episodes_of_an_earlier_start_count(self):
    statistics = episodes.EpisodeStatistics(float(i) for i in range(150))
    assert statistics.mean_return() == np.mean(range(50, 150))
    statistics.add([Episode(0, 150.0, 9)])
    assert statistics.mean_return() == np.mean(range(51, 151))


class TestLevelScores:
  def test_a_round_ends_when_each_level_has_finished_an_episode(self, tmp_path):
    rounds = []

    def scores(level_returns):
      rounds.append(level_returns)
      return {'sum': sum(map(sum, level_returns.values())), 'other': 0.0}

    level_scores = episodes.LevelScores(str(tmp_path), ('a', 'b', 'c'), scores)
    assert episodes.read_score(str(tmp_path)) == episodes.Score(0, None, None)
    assert level_scores.add(1, []) == {}
    assert level_scores.add(2, [Episode(2, 4.0, 9), Episode(0, 1.0, 9), Episode(2, 5.0, 9)]) == {}
    assert level_scores.add(3, [Episode(0, 2.0, 9)]) == {}
    assert level_scores.latest == {}
    ended = level_scores.add(4, [Episode(1, 3.0, 9), Episode(0, 8.0, 9)])
    assert ended == level_scores.latest == {'sum': 23.0, 'other': 0.0}
    # What was counted counts no more.
    assert level_scores.add(5, [Episode(1, 7.0, 9), Episode(0, 6.0, 9)]) == {}
    assert episodes.read_score(str(tmp_path)) == episodes.Score(4, 'sum', 23.0)
    assert level_scores.add(6, [Episode(2, 0.0, 9)]) == {'sum': 13.0, 'other': 0.0}
    assert rounds == [
      {'a': [1.0, 2.0, 8.0], 'b': [3.0], 'c': [4.0, 5.0]},
      {'a': [6.0], 'b': [7.0], 'c': [0.0]},
    ]
    assert episodes.read_score(str(tmp_path)) == episodes.Score(6, 'sum', 13.0)
    # A resumed run keeps it until its own first round has ended, unless that training was lost.
    for restored, kept in ((6, (6, 'sum', 13.0)), (5, (0, 'sum', None))):
      episodes.LevelScores(str(tmp_path), ('a', 'b', 'c'), scores, restored)
      assert episodes.read_score(str(tmp_path)) == episodes.Score(*kept)

  def test_one_level_has_no_scores(self, tmp_path):
    level_scores = episodes.LevelScores(str(tmp_path), ('a',), lambda level_returns: {'x': 1.0})
    assert level_scores.add(1, [Episode(0, 4.0, 9)]) == {}
    assert episodes.read_score(str(tmp_path)) is None

  def test_a_suite_may_have_none(self, tmp_path):
    level_scores = episodes.LevelScores(str(tmp_path), ('a', 'b'), lambda level_returns: {})
    assert level_scores.add(1, [Episode(0, 4.0, 9), Episode(1, 4.0, 9)]) == {}
    assert episodes.read_score(str(tmp_path)).score is None


def test_means_of_levels_are_over_their_episodes_in_frames():
  found = episodes.level_means(
    [Episode(0, 1.0, 1), Episode(1, 5.0, 3), Episode(0, 4.0, 2)], ('pong', 'breakout'), 4
  )
  assert found == {
    'pong/episode_return': 2.5,
    'pong/episode_frames': 6.0,
    'breakout/episode_return': 5.0,
    'breakout/episode_frames': 12.0,
  }
