"""Files of a run are written whole or not at all, and errors name them."""

import os
import threading
from unittest import mock

import pytest
import tensorflow as tf

from impala_tf import files
from impala_tf.config import ConfigurationError
from impala_tf.errors import FileError


def test_writes_and_reads(tmp_path):
  path = str(tmp_path / 'file.json')
  assert files.read_json(path, dict) is None
  files.write_json(path, {'a': [1, None]})
  files.write_json(path, {'a': 2.5})
  assert files.read_json(path, dict) == {'a': 2.5}
  assert [p.name for p in tmp_path.iterdir()] == ['file.json']


@pytest.mark.parametrize('scheme', ['', 'file://'])
def test_texts_bytes_and_tables_are_written_as_they_are(tmp_path, scheme):
  path = f'{scheme}{tmp_path}/file'
  for contents in ('ä\r\n', b'\xff\r\n'):
    files.write(path, contents)
    assert files.read(path) == (contents.encode() if isinstance(contents, str) else contents)
  files.write_csv(path, [['a', 'b,c'], [None, 1.5]])
  assert files.read(path) == b'a,"b,c"\n,1.5\n'
  assert [file.name for file in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize('scheme', ['', 'file://'])
@pytest.mark.parametrize('block', [1, 2, 3, 5, 100])
def test_lines_from_the_end(tmp_path, monkeypatch, scheme, block):
  monkeypatch.setattr(files, '_FIRST_BLOCK', block)
  path = scheme + str(tmp_path / 'file')
  assert list(files.lines_from_end(path)) == []
  for text in ('', '\n', 'no end', 'a\n', 'first\n\nö\n' + 'long' * 9 + '\r\nlast\nthe end'):
    files.write(path, text)
    assert list(files.lines_from_end(path)) == text.split('\n')[::-1]


def test_a_line_that_is_no_text_is_refused_where_it_is_read(tmp_path):
  path = tmp_path / 'file'
  path.write_bytes(b'\xff\nsound\n')
  lines = files.lines_from_end(str(path), 'Repair it.')
  assert [next(lines), next(lines)] == ['', 'sound']
  with pytest.raises(FileError, match=rf'{path} .*Repair it\.'):
    next(lines)


def test_a_reader_never_sees_a_part(tmp_path):
  path = str(tmp_path / 'file.json')
  values = [['x' * 100_000], ['y' * 90_000]]
  files.write_json(path, values[0])
  errors = []

  def write_often(value):
    try:
      for _ in range(100):
        files.write_json(path, value)
    except files.StorageError as error:
      errors.append(error)

  writers = [threading.Thread(target=write_often, args=(value,)) for value in values]
  for writer in writers:
    writer.start()
  while any(writer.is_alive() for writer in writers):
    assert files.read_json(path, list) in values
  assert errors == []  # One writer does not take away what the other is about to put in place.


@pytest.mark.parametrize('data', [b'', b'{"a": 1', b'\xff\xfe'])
def test_a_torn_file_is_named(tmp_path, data):
  path = tmp_path / 'file.json'
  path.write_bytes(data)
  with pytest.raises(ValueError, match=r'file\.json'):
    files.read_json(str(path), dict)


def test_a_file_that_cannot_be_written_is_named_and_stays_as_it_was(tmp_path, monkeypatch):
  path = tmp_path / 'file.json'
  files.write(str(path), 'old')
  # What the system raises when the disk is full, once the new file is there.
  full = OSError(28, 'No space left on device', f'{path}.tmp')
  monkeypatch.setattr(os, 'replace', mock.Mock(side_effect=full))
  with pytest.raises(files.StorageError, match=f'{path}: .*No space left on device'):
    files.write(str(path), 'new')
  assert path.read_text() == 'old'
  assert [p.name for p in tmp_path.iterdir()] == ['file.json']


@pytest.mark.parametrize(
  ('error', 'reason'),
  [
    (
      OSError(28, 'No space left on device', '/runs/x'),
      "[Errno 28] No space left on device: '/runs/x'",
    ),
    (
      tf.errors.ResourceExhaustedError(
        None,
        None,
        '{{function_node __wrapped__FlushSummaryWriter}} /runs/e; No space left on device\n\t'
        'Could not flush.',
      ),
      '/runs/e; No space left on device',
    ),
    (
      tf.errors.PermissionDeniedError(None, None, '/runs/x; Permission denied.'),
      '/runs/x; Permission denied',
    ),
    (OSError(), 'OSError'),
  ],
)
def test_reason_is_one_line(error, reason):
  assert files.reason(error) == reason


def test_errors_of_the_system_are_storage_errors_too():
  with pytest.raises(files.StorageError, match=r'/runs.*No space left'), files.writing('/runs'):
    raise OSError(28, 'No space left')


def test_other_errors_pass_as_they_are():
  with pytest.raises(KeyError), files.writing('/runs'):
    raise KeyError('x')


def test_a_full_disk_is_a_storage_error():
  with (
    pytest.raises(files.StorageError, match=r'/runs.*/dev/full; No space left on device'),
    files.writing('/runs'),
    tf.io.gfile.GFile('/dev/full', 'w') as file,
  ):
    file.write('x' * 10)


class TestPrepareFolder:
  def test_makes_the_folder_and_leaves_it_empty(self, tmp_path):
    path = tmp_path / 'a' / 'b'
    files.prepare_folder(str(path))
    files.prepare_folder(str(path))
    assert os.listdir(path) == []

  def test_below_a_file(self, tmp_path):
    (tmp_path / 'file').write_text('')
    path = str(tmp_path / 'file' / 'logs')
    with pytest.raises(ConfigurationError, match='--logdir') as error:
      files.prepare_folder(path)
    assert path in str(error.value)

  def test_folder_that_not_even_root_can_write(self):
    with pytest.raises(ConfigurationError, match='/proc/self'):
      files.prepare_folder('/proc/self')


@pytest.mark.parametrize('below', ['', 'run', 'runs/run'])
def test_a_folder_in_place_of_which_there_is_a_file_is_refused_by_that(tmp_path, below):
  files.check_folder(str(tmp_path / 'runs' / 'run'))
  (tmp_path / 'file').write_text('')
  with pytest.raises(ConfigurationError, match='file is not a folder'):
    files.check_folder(str(tmp_path / 'file' / below))
  assert [path.name for path in tmp_path.iterdir()] == ['file']
