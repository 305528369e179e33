import threading

import pytest

from impala_tf import atomic_files


def test_writes_and_reads(tmp_path):
  path = str(tmp_path / 'file.json')
  assert atomic_files.read_json(path) is None
  atomic_files.write_json(path, {'a': [1, None]})
  atomic_files.write_json(path, {'a': 2.5})
  assert atomic_files.read_json(path) == {'a': 2.5}
  assert [p.name for p in tmp_path.iterdir()] == ['file.json']


def test_a_reader_never_sees_a_part(tmp_path):
  path = str(tmp_path / 'file.json')
  values = [['x' * 100_000], ['y' * 90_000]]
  atomic_files.write_json(path, values[0])
  writers = [threading.Thread(target=lambda v=v: [atomic_files.write_json(path, v) for _ in range(100)]) for v in values]
  for writer in writers:
    writer.start()
  while any(writer.is_alive() for writer in writers):
    assert atomic_files.read_json(path) in values


@pytest.mark.parametrize('data', [b'', b'{"a": 1', b'\xff\xfe'])
def test_a_torn_file_is_named(tmp_path, data):
  path = tmp_path / 'file.json'
  path.write_bytes(data)
  with pytest.raises(ValueError, match=r'file\.json'):
    atomic_files.read_json(str(path))
