"""The file of finished episodes."""

import io

import pytest

from impala_tf import files
from impala_tf.config import ConfigurationError
from impala_tf.training import episode_log
from impala_tf.training.episode_log import EpisodeLog
from impala_tf.training.episodes import Episode

LEVELS = ('pong', 'a, "b"')
HEADER = 'frames,level,episode_return,episode_frames\n'
ROWS = '100,pong,-21.0,4000\n200,"a, ""b""",0.1,8\n300,pong,2.5,12\n'


def make(directory, frames=0):
  return EpisodeLog(str(directory), LEVELS, num_action_repeats=4, frames=frames)


def write_rows(directory):
  log = make(directory)
  log.add(100, [Episode(0, -21.0, 1000)])
  log.add(200, [Episode(1, 0.10000000149011612, 2)])
  log.add(300, [Episode(0, 2.5, 3)])
  log.flush()


def content(directory):
  return (directory / 'episodes.csv').read_bytes().decode()


def test_new_file_has_only_the_header(tmp_path):
  make(tmp_path)
  assert content(tmp_path) == HEADER
  assert [path.name for path in tmp_path.iterdir()] == ['episodes.csv']


def test_rows(tmp_path):
  write_rows(tmp_path)
  assert content(tmp_path) == HEADER + ROWS


def test_rows_wait_for_flush_and_are_written_once(tmp_path):
  log = make(tmp_path)
  log.add(100, [Episode(0, 1.0, 1), Episode(0, 2.0, 2)])
  log.add(150, [])
  assert content(tmp_path) == HEADER
  log.flush()
  log.flush()
  log.add(200, [Episode(0, 3.0, 3)])
  log.flush()
  assert content(tmp_path) == HEADER + '100,pong,1.0,4\n100,pong,2.0,8\n200,pong,3.0,12\n'


@pytest.mark.parametrize(
  ('frames', 'kept'), [(0, 0), (99, 0), (100, 1), (299, 2), (300, 3), (1000, 3)]
)
def test_resume_drops_rows_whose_training_was_lost_and_appends(tmp_path, frames, kept):
  write_rows(tmp_path)
  log = make(tmp_path, frames)
  left = HEADER + ''.join(ROWS.splitlines(keepends=True)[:kept])
  assert content(tmp_path) == left
  log.add(5000, [Episode(0, 9.0, 1)])
  log.flush()
  assert content(tmp_path) == left + '5000,pong,9.0,4\n'


def test_episodes_without_a_checkpoint_are_not_dropped_silently(tmp_path, warnings):
  write_rows(tmp_path)
  make(tmp_path, 100)
  assert warnings() == []
  make(tmp_path, 0)
  (message,) = warnings()
  assert str(tmp_path / 'episodes.csv') in message
  assert 'no checkpoint' in message


@pytest.mark.parametrize('count', [1, 2, 3, 100])
def test_the_last_episodes_are_read_without_the_lines_before_them(tmp_path, count):
  assert episode_log.read_last(str(tmp_path), count) == []
  path = tmp_path / 'episodes.csv'
  path.write_text(HEADER)
  assert episode_log.read_last(str(tmp_path), count) == []
  write_rows(tmp_path)
  every = episode_log.read(str(tmp_path))
  with open(path, 'a') as file:
    file.write('400,pong,1')  # Just being written.
  assert len(every) == 3
  assert episode_log.read_last(str(tmp_path), count) == every[-count:]
  if count < 3:
    path.write_text(path.read_text().replace('100,pong', 'x'))
    assert episode_log.read_last(str(tmp_path), count) == every[-count:]


def test_of_a_long_file_its_end_is_read(tmp_path, monkeypatch):
  path = tmp_path / 'episodes.csv'
  path.write_text(HEADER + ''.join(f'{i},pong,-21.0,4000\n' for i in range(200_000)))
  num_bytes = []

  class Counting(io.FileIO):
    def read(self, size=-1):
      data = super().read(size)
      num_bytes.append(len(data))
      return data

  monkeypatch.setattr(files, 'open', Counting, raising=False)
  rows = episode_log.read_last(str(tmp_path), 100)
  assert [row.frames for row in rows] == [*range(199_900, 200_000)]
  assert 1000 < sum(num_bytes) < 100_000


# The second is the dangerous one: it reads as a row, of 4 frames instead of 400.
@pytest.mark.parametrize('torn', ['3', '400,pong,1.0,4', '400,"a, ""', '400,pong'])
def test_a_last_line_cut_off_is_dropped(tmp_path, warnings, torn):
  write_rows(tmp_path)
  with open(tmp_path / 'episodes.csv', 'a') as file:
    file.write(torn)
  make(tmp_path, 1000)
  assert content(tmp_path) == HEADER + ROWS
  assert any('episodes.csv' in message for message in warnings())


def test_an_intact_file_gives_no_warning(tmp_path, warnings):
  write_rows(tmp_path)
  make(tmp_path, 200)
  assert warnings() == []


@pytest.mark.parametrize('torn', ['', 'fra', HEADER[:-1]])
def test_a_header_cut_off_is_completed(tmp_path, torn):
  (tmp_path / 'episodes.csv').write_text(torn)
  make(tmp_path)
  assert content(tmp_path) == HEADER


@pytest.mark.parametrize(
  'foreign',
  [
    b'step,reward\n1,2\n',
    b'frames,level\n',
    b'fra\n' + HEADER.encode(),
    b'\xff\x00\x01',
    b'100,pong,1.0,4\n',
  ],
)
def test_a_foreign_file_is_refused_and_kept(tmp_path, foreign):
  path = tmp_path / 'episodes.csv'
  path.write_bytes(foreign)
  with pytest.raises(ConfigurationError, match='--logdir') as error:
    make(tmp_path)
  assert str(path) in str(error.value)
  assert path.read_bytes() == foreign


@pytest.mark.parametrize(
  'row', ['x,pong,1.0,4\n', '100,pong,1.0\n', '100,pong,1.0,4,5\n', '100,pong,high,4\n', '\n']
)
def test_a_broken_line_is_refused_with_its_number(tmp_path, row):
  path = tmp_path / 'episodes.csv'
  text = HEADER + '50,pong,1.0,4\n' + row + '300,pong,1.0,4\n'
  path.write_text(text)
  for read in (
    lambda: make(tmp_path, 1000),
    lambda: episode_log.read(str(tmp_path)),
    lambda: episode_log.read_last(str(tmp_path), 2),
  ):
    with pytest.raises(ConfigurationError, match=r'episodes\.csv: line 3'):
      read()
  assert path.read_text() == text


def test_what_a_full_disk_refused_is_not_written_later(tmp_path):
  log = make(tmp_path)
  log.add(100, [Episode(0, 1.0, 1)])
  path = tmp_path / 'episodes.csv'
  path.unlink()
  path.symlink_to('/dev/full')
  with pytest.raises(files.StorageError, match=f'{path}: .*No space left on device'):
    log.flush()
  path.unlink()
  path.write_text(HEADER + '100,pong,1')  # What may have got there.
  log.add(200, [Episode(0, 2.0, 2)])
  log.flush()
  assert '100,pong,1.0' not in content(tmp_path)


def test_a_file_that_was_removed_meanwhile_has_its_header_again(tmp_path):
  log = make(tmp_path)
  (tmp_path / 'episodes.csv').unlink()
  log.add(100, [Episode(0, 1.0, 1)])
  log.flush()
  assert [row.frames for row in episode_log.read(str(tmp_path))] == [100]
  make(tmp_path, 100)


def test_a_file_that_is_missing_at_a_resume_is_named(tmp_path, warnings):
  make(tmp_path)
  assert warnings() == []
  (tmp_path / 'episodes.csv').unlink()
  make(tmp_path, 100)
  assert [str(tmp_path / 'episodes.csv') in message for message in warnings()] == [True]


def test_a_file_with_the_ends_of_lines_of_another_system_is_continued(tmp_path):
  write_rows(tmp_path)
  path = tmp_path / 'episodes.csv'
  path.write_bytes(path.read_bytes().replace(b'\n', b'\r\n'))
  make(tmp_path, 200)
  assert content(tmp_path) == HEADER + ''.join(ROWS.splitlines(keepends=True)[:2])
