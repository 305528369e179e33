import pytest

from impala_tf import episode_log, final_return


def write(folder, rows):
  lines = [','.join(episode_log.COLUMNS), *(f'{frames},{level},{value},7' for frames, level, value in rows)]
  (folder / episode_log.FILE_NAME).write_text('\n'.join(lines) + '\n')


def test_the_last_hundred_episodes_count(tmp_path):
  assert final_return.read(str(tmp_path)) is None
  write(tmp_path, [(i, 'pong', 1000.0) for i in range(5)] + [(100 + i, 'pong', float(i)) for i in range(100)])
  assert final_return.read(str(tmp_path)) == pytest.approx(49.5)
  # Up to frame 109: five and ten episodes.
  assert final_return.read(str(tmp_path), max_frames=109) == pytest.approx((5000 + 45) / 15)
  assert final_return.read(str(tmp_path), max_frames=-1) is None


def test_a_line_that_is_being_written_does_not_count(tmp_path):
  write(tmp_path, [(1, 'pong', 3.0)])
  path = tmp_path / episode_log.FILE_NAME
  path.write_text(path.read_text() + '2,pong,7')
  assert final_return.read(str(tmp_path)) == 3.0


def test_several_levels_have_their_suites_score(tmp_path):
  write(tmp_path, [(1, 'a', 3.0), (2, 'b', 1000.0)])
  assert final_return.read(str(tmp_path)) is None
  final_return.note_score(str(tmp_path), 10, 41.5)
  final_return.note_score(str(tmp_path), 20, 42.5)
  assert final_return.read(str(tmp_path)) == 42.5
  assert final_return.read(str(tmp_path), max_frames=15) is None
