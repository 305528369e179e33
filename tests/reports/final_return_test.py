"""The final return of a run."""

import numpy as np
import pytest
import tensorflow as tf

from impala_tf.reports import final_return
from impala_tf.training import episode_log, episodes, run_log
from tests.support.run_files import write_episodes


def test_the_last_hundred_episodes_count(tmp_path):
  assert final_return.read(str(tmp_path)) is None
  write_episodes(
    tmp_path,
    [(i, 'pong', 1000.0) for i in range(5)] + [(100 + i, 'pong', float(i)) for i in range(100)],
  )
  assert final_return.read(str(tmp_path)) == pytest.approx(49.5)
  # Up to frame 109: five and ten episodes.
  assert final_return.read(str(tmp_path), max_frames=109) == pytest.approx((5000 + 45) / 15)
  assert final_return.read(str(tmp_path), max_frames=-1) is None


def test_of_the_end_of_a_run_the_last_episodes_alone_are_read(tmp_path):
  write_episodes(tmp_path, [(0, 'pong', 'damaged'), *((i, 'pong', 2.0) for i in range(100))])
  assert final_return.read(str(tmp_path)) == 2.0
  assert final_return.read(str(tmp_path), max_frames=99) == 2.0


def test_a_line_that_is_being_written_does_not_count(tmp_path):
  write_episodes(tmp_path, [(1, 'pong', 3.0)])
  path = tmp_path / episode_log.FILE_NAME
  path.write_text(path.read_text() + '2,pong,7')
  assert final_return.read(str(tmp_path)) == 3.0


def note_scores(logdir, scores, restored=100):
  """Has a run on two levels finish rounds with such scores, a dict by frames."""
  score = lambda returns: {'suite/median': returns['a'][0], 'suite/mean': -1.0}
  rounds = episodes.LevelScores(logdir, ('a', 'b'), score, restored)
  for frames, value in scores.items():
    rounds.add(frames, [episodes.Episode(0, value, 7), episodes.Episode(1, 0.0, 7)])


def test_several_levels_have_their_suites_score(tmp_path):
  logdir = str(tmp_path)
  note_scores(logdir, {})
  write_episodes(tmp_path, [(1, 'a', 3.0)])
  # The return of the only level that has ended an episode is not a score.
  assert final_return.read(logdir) is None
  assert [len(array) for array in final_return.curve(logdir)] == [0, 0]
  note_scores(logdir, {10: 41.5, 20: 42.5})
  note_scores(logdir, {})  # At the next start.
  assert final_return.read(logdir) == 42.5
  assert final_return.read(logdir, max_frames=15) is None  # There are no summaries.
  note_scores(logdir, {}, restored=15)
  assert final_return.read(logdir) is None


def test_the_curve_of_one_level_is_its_moving_average_and_that_of_several_their_score(tmp_path):
  write_episodes(tmp_path, [(10, 'a', 1.0), (20, 'a', 4.0), (30, 'a', 1.0)])
  frames, values = final_return.curve(str(tmp_path))
  assert frames.tolist() == [10, 20, 30]
  assert values.tolist() == [1.0, 2.5, 2.0]
  with tf.summary.create_file_writer(str(tmp_path)).as_default():
    for step, score in ((40, 41.5), (50, 42.5)):
      tf.summary.scalar('suite/median', score, step)
      tf.summary.scalar('suite/mean', -1.0, step)
  note_scores(str(tmp_path), {50: 42.5})
  frames, values = final_return.curve(str(tmp_path))
  assert frames.tolist() == [40, 50]
  assert values.tolist() == [41.5, 42.0]
  # What a pruner asks for, rounds later.
  assert [final_return.read(str(tmp_path), max_frames) for max_frames in (39, 40, 49, 50)] == [
    None,
    41.5,
    41.5,
    42.0,
  ]


def test_rounds_of_training_that_was_lost_do_not_count(tmp_path):
  logdir = str(tmp_path)
  for restored, rounds in ((0, {10: 41.5, 20: 90.0}), (15, {}), (15, {30: 42.5})):
    summaries = run_log.Summaries(logdir, restored)
    note_scores(logdir, rounds, restored)
    for frames, score in rounds.items():
      summaries.write(frames, {'suite/median': score})
    summaries.close()
    expected = {0: (41.5 + 90.0) / 2, 15: 42.0 if rounds else 41.5}[restored]
    assert final_return.read(logdir) == expected


def test_a_lucky_last_round_does_not_decide(tmp_path):
  with tf.summary.create_file_writer(str(tmp_path)).as_default():
    for step in range(20):
      tf.summary.scalar('suite/median', 90.0 if step == 19 else float(step >= 10), step)
  note_scores(str(tmp_path), {19: 90.0})
  assert final_return.read(str(tmp_path)) == pytest.approx((9 * 1.0 + 90.0) / 10)
  assert final_return.read(str(tmp_path), max_frames=14) == pytest.approx(0.5)


def test_moving_average_is_over_the_last_values_there_are():
  np.testing.assert_allclose(
    final_return.moving_average([2.0, 4.0, 9.0, 1.0], window=2), [2.0, 3.0, 6.5, 5.0]
  )
  np.testing.assert_allclose(final_return.moving_average([2.0, 4.0], window=100), [2.0, 3.0])
