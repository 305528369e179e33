"""Tests of the folder of compiled maps."""

import errno
import io
import multiprocessing
import os
import zipfile

import pytest

from dmlab30 import level_cache
from impala_tf import files

ZEROS = {'hits': 0, 'misses': 0, 'damaged': 0, 'evicted': 0, 'write_errors': 0}
KEY = 'explore_maze_noaas_0123456789abcdef'


def pk3(text='map', size=1000, compression=zipfile.ZIP_STORED):
  """A pk3 file as bytes, of about `size` if it is not compressed."""
  stream = io.BytesIO()
  with zipfile.ZipFile(stream, 'w', compression) as archive:
    archive.writestr(
      zipfile.ZipInfo('maps/map.bsp'), text.ljust(size, '.'), compression
    )  # without the time of day
  return stream.getvalue()


def write(cache, tmp_path, key, contents):
  path = tmp_path / 'compiled.pk3'
  path.write_bytes(contents)
  cache.write(key, str(path))


def fetch(cache, tmp_path, key):
  """The map of a key, None if there is none."""
  path = tmp_path / 'fetched.pk3'
  path.unlink(missing_ok=True)
  found = cache.fetch(key, str(path))
  assert found is path.exists()
  return path.read_bytes() if found else None


@pytest.fixture(name='folder', params=['local', 'remote'])
def _folder(request, tmp_path):
  # TensorFlow reads file:// through the same interface as the file systems of clouds.
  path = tmp_path / 'below' / 'cache'
  return f'file://{path}' if request.param == 'remote' else str(path)


def test_what_was_written_is_fetched_by_others(folder, tmp_path):
  cache = level_cache.LevelCache(folder, 1)
  assert fetch(cache, tmp_path, KEY) is None
  write(cache, tmp_path, KEY, pk3('a'))
  other = level_cache.LevelCache(folder, 1)
  assert fetch(other, tmp_path, KEY) == pk3('a')
  assert fetch(other, tmp_path, 'another') is None
  write(other, tmp_path, KEY, pk3('b'))
  assert fetch(cache, tmp_path, KEY) == pk3('b')
  assert cache.statistics() == ZEROS | {'hits': 1, 'misses': 1}
  assert other.statistics() == ZEROS | {'hits': 1, 'misses': 1}
  assert len(os.listdir(tmp_path / 'below' / 'cache')) == 1


def entry(tmp_path):
  (path,) = (tmp_path / 'below' / 'cache').iterdir()
  return path


@pytest.mark.parametrize(
  'damage',
  [
    lambda contents: contents[:-1],
    lambda contents: contents[:10],
    lambda contents: b'',
    lambda contents: contents + b'x',
    lambda contents: contents[:500] + b'x' + contents[501:],
    lambda contents: b'\0' * len(contents),
  ],
)
def test_a_damaged_entry_is_a_miss_and_removed(folder, tmp_path, damage):
  cache = level_cache.LevelCache(folder, 1)
  write(cache, tmp_path, KEY, pk3())
  path = entry(tmp_path)
  path.write_bytes(damage(path.read_bytes()))
  assert fetch(cache, tmp_path, KEY) is None
  assert not path.exists()
  assert cache.statistics() == ZEROS | {'misses': 1, 'damaged': 1}
  write(cache, tmp_path, KEY, pk3())
  assert fetch(cache, tmp_path, KEY) == pk3()


def test_what_is_no_map_is_not_stored(folder, tmp_path):
  cache = level_cache.LevelCache(folder, 1)
  flipped = bytearray(pk3())
  flipped[500] ^= 1
  compressed = pk3(str(list(range(1000))), compression=zipfile.ZIP_DEFLATED)
  garbled = bytearray(compressed)
  garbled[60:90] = bytes(30)
  for contents in (b'', b'not a zip', pk3()[:-30], bytes(flipped), bytes(garbled)):
    write(cache, tmp_path, KEY, contents)
    assert fetch(cache, tmp_path, KEY) is None
  cache.write(KEY, str(tmp_path / 'missing.pk3'))
  assert cache.statistics() == ZEROS | {'misses': 5, 'write_errors': 6}
  write(cache, tmp_path, KEY, compressed)
  assert fetch(cache, tmp_path, KEY) == compressed


def test_a_fetch_that_fails_half_way_leaves_no_file(folder, tmp_path, monkeypatch):
  cache = level_cache.LevelCache(folder, 1)
  write(cache, tmp_path, KEY, pk3())
  target = tmp_path / 'fetched.pk3'

  class FullDisk(io.FileIO):
    def write(self, contents):
      super().write(contents[:10])
      raise OSError('disk full')

  def open_(path, mode):
    return FullDisk(path, mode) if path.startswith(str(target)) else open(path, mode)

  monkeypatch.setattr(files, 'open', open_, raising=False)
  assert cache.fetch(KEY, str(target)) is False
  assert not list(tmp_path.glob('fetched*'))
  assert cache.statistics() == ZEROS | {'misses': 1}


def test_maps_used_longest_ago_go_first(tmp_path):
  folder = tmp_path / 'cache'
  size = len(pk3()) + 32
  cache = level_cache.LevelCache(str(folder), 4.5 * size / 1e9)
  for number, key in enumerate('abcd'):
    write(cache, tmp_path, key, pk3(key))
    os.utime(folder / f'{key}.dmlab_map', (number + 1, number + 1))
  (folder / 'holiday.jpg').write_bytes(b'x' * 10 * size)
  os.utime(folder / 'holiday.jpg', (0, 0))
  assert cache.statistics()['evicted'] == 0
  assert fetch(cache, tmp_path, 'a') == pk3('a')
  write(cache, tmp_path, 'e', pk3('e'))
  kept = [key for key in 'abcde' if fetch(cache, tmp_path, key) is not None]
  assert kept == ['a', 'c', 'd', 'e']
  assert cache.statistics()['evicted'] == 1
  assert (folder / 'holiday.jpg').exists()


@pytest.mark.parametrize(
  ('number', 'left'), [(errno.ENOSPC, 'bc'), (errno.EDQUOT, 'bc'), (errno.EIO, 'abc')]
)
def test_on_a_full_disk_maps_used_longest_ago_make_room(tmp_path, monkeypatch, number, left):
  folder = tmp_path / 'cache'
  cache = level_cache.LevelCache(str(folder), 1)
  for time, key in enumerate('abc'):
    write(cache, tmp_path, key, pk3(key))
    os.utime(folder / f'{key}.dmlab_map', (time, time))

  def fail(*unused):
    raise files.StorageError('No room.') from OSError(number, 'why')

  with monkeypatch.context() as patched:
    patched.setattr(files, 'write', fail)
    write(cache, tmp_path, 'd', pk3('d'))
  assert ''.join(sorted(name[0] for name in os.listdir(folder))) == left
  assert cache.statistics() == ZEROS | {'write_errors': 1, 'evicted': 3 - len(left)}


def test_remote_folders_keep_to_their_size(tmp_path):
  size = len(pk3()) + 32
  cache = level_cache.LevelCache(f'file://{tmp_path}/cache', 3.5 * size / 1e9)
  for number in range(10):
    write(cache, tmp_path, str(number), pk3())
  assert fetch(cache, tmp_path, '9') == pk3()
  assert fetch(cache, tmp_path, '0') is None
  assert len(os.listdir(tmp_path / 'cache')) == 3


def test_a_look_into_a_remote_folder_asks_for_few_of_its_files(tmp_path, monkeypatch):
  monkeypatch.setattr(level_cache, '_SAMPLE', 20)
  looks, status = [], level_cache._status
  monkeypatch.setattr(level_cache, '_status', lambda path: (looks.append(path), status(path))[1])
  folder, size = tmp_path / 'cache', len(pk3()) + 32
  folder.mkdir()
  for number in range(100):
    (folder / f'{number}.dmlab_map').write_bytes(b'x' * size)
    os.utime(folder / f'{number}.dmlab_map', (number, number))
  cache = level_cache.LevelCache(f'file://{folder}', 50 * size / 1e9)
  for count in range(1, 9):
    write(cache, tmp_path, f'new {count}', pk3())
    assert len(looks) == 20 * count
  # Each look takes the older half of what it saw until the folder is small enough.
  left = [name for name in os.listdir(folder) if not name.startswith('new')]
  assert 35 <= len(left) + 8 <= 60
  assert sum(int(name.partition('.')[0]) for name in left) / len(left) > 55


def test_a_remote_folder_keeps_to_its_size_where_samples_are_smaller_than_what_is_written(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(level_cache, '_SAMPLE', 4)
  monkeypatch.setattr(level_cache, '_SHARE_BETWEEN_LOOKS', 1 / 5)
  cache = level_cache.LevelCache(f'file://{tmp_path}/cache', 20 * (len(pk3()) + 32) / 1e9)
  for number in range(80):
    write(cache, tmp_path, str(number), pk3())
  assert len(os.listdir(tmp_path / 'cache')) <= 26


def test_files_that_a_killed_process_left_are_evicted(tmp_path):
  folder = tmp_path / 'cache'
  folder.mkdir()
  size = len(pk3()) + 32
  (folder / 'x.dmlab_map.0123').write_bytes(b'x' * size)
  os.utime(folder / 'x.dmlab_map.0123', (1, 1))
  cache = level_cache.LevelCache(str(folder), 1.5 * size / 1e9)
  write(cache, tmp_path, KEY, pk3())
  assert os.listdir(folder) == [f'{KEY}.dmlab_map']


def test_what_another_process_removed_first_is_no_error(folder, tmp_path, monkeypatch):
  cache = level_cache.LevelCache(folder, 1.5 * (len(pk3()) + 32) / 1e9)
  remove = files.remove
  monkeypatch.setattr(files, 'remove', lambda path: (remove(path), remove(path)))
  write(cache, tmp_path, 'a', pk3())
  write(cache, tmp_path, 'b', pk3())
  assert cache.statistics() == ZEROS | {'evicted': 1}
  assert fetch(cache, tmp_path, 'b') == pk3()


def test_what_can_not_be_removed_is_no_room_for_others(folder, tmp_path, monkeypatch):
  cache = level_cache.LevelCache(folder, 1.5 * (len(pk3()) + 32) / 1e9)

  def fail(path):
    raise PermissionError('read only')

  monkeypatch.setattr(files, 'remove', fail)
  write(cache, tmp_path, 'a', pk3())
  write(cache, tmp_path, 'b', pk3())
  assert cache.statistics() == ZEROS | {'write_errors': 1}
  assert fetch(cache, tmp_path, 'a') == pk3()


def test_any_key_is_a_file_of_its_own_inside_the_folder(folder, tmp_path):
  cache = level_cache.LevelCache(folder, 1)
  keys = ['../a', '/a', 'a', 'a b', '%2Fa', 'a/b', '..', '.', 'ä']
  for key in keys:
    write(cache, tmp_path, key, pk3(key))
  for key in keys:
    assert fetch(cache, tmp_path, key) == pk3(key)
  assert len(os.listdir(tmp_path / 'below' / 'cache')) == len(keys)


def test_a_folder_that_can_not_be_used_costs_nothing_but_the_maps(folder, tmp_path):
  (tmp_path / 'below').write_text('in the way')
  cache = level_cache.LevelCache(folder, 1)
  write(cache, tmp_path, KEY, pk3())
  assert fetch(cache, tmp_path, KEY) is None
  assert cache.statistics() == ZEROS | {'misses': 1, 'write_errors': 1}


def test_a_write_that_fails_half_way_leaves_the_old_map_and_nothing_else(tmp_path, monkeypatch):
  folder = tmp_path / 'cache'
  cache = level_cache.LevelCache(str(folder), 1)
  write(cache, tmp_path, KEY, pk3('old'))

  def fail(*unused_args):
    raise OSError('disk full')

  with monkeypatch.context() as patched:
    patched.setattr(os, 'replace', fail)
    write(cache, tmp_path, KEY, pk3('new'))
  assert cache.statistics()['write_errors'] == 1
  assert fetch(cache, tmp_path, KEY) == pk3('old')
  assert os.listdir(folder) == [f'{KEY}.dmlab_map']


def test_a_write_in_the_middle_of_another_of_the_same_key(tmp_path, monkeypatch):
  first, second = (level_cache.LevelCache(str(tmp_path / 'cache'), 1) for _ in range(2))
  replace = os.replace

  def interrupted(source, target):
    # Else it would not be evicted if a killed process left it.
    assert '.dmlab_map' in os.path.basename(source)
    monkeypatch.setattr(os, 'replace', replace)
    write(second, tmp_path, KEY, pk3('second'))
    assert fetch(second, tmp_path, KEY) == pk3('second')
    replace(source, target)

  monkeypatch.setattr(os, 'replace', interrupted)
  write(first, tmp_path, KEY, pk3('first'))
  assert fetch(second, tmp_path, KEY) == pk3('first')
  for cache in (first, second):
    assert cache.statistics()['write_errors'] == 0


def test_size_must_be_positive(tmp_path):
  for size in (0, -1, float('nan')):
    with pytest.raises(ValueError, match='above 0'):
      level_cache.LevelCache(str(tmp_path), size)


def hammer(folder, own_folder, worker, rounds, results):
  """Writes and fetches the same few keys as all the others; reports how many fetches gave what
  nobody wrote.
  """
  os.makedirs(own_folder)
  cache = level_cache.LevelCache(folder, 250_000 / 1e9)
  source, target = os.path.join(own_folder, 'source'), os.path.join(own_folder, 'target')
  wrong = 0
  for number in range(rounds):
    key = f'key{number % 3}'
    with open(source, 'wb') as file:
      file.write(pk3(f'{key} of {worker} {number}', 100_000))
    cache.write(key, source)
    if cache.fetch(key, target):
      with zipfile.ZipFile(target) as archive:
        wrong += archive.testzip() is not None or not archive.read('maps/map.bsp').startswith(
          key.encode()
        )
  results.put((wrong, cache.statistics()))


def test_processes_that_write_and_evict_the_same_keys_do_not_disturb_each_other(tmp_path):
  context = multiprocessing.get_context('spawn')
  results = context.Queue()
  folder = str(tmp_path / 'cache')
  workers = [
    context.Process(target=hammer, args=(folder, str(tmp_path / str(worker)), worker, 60, results))
    for worker in range(3)
  ]
  for worker in workers:
    worker.start()
  found = [results.get(timeout=120) for _ in workers]
  for worker in workers:
    worker.join()
  assert [wrong for wrong, _ in found] == [0, 0, 0]
  assert sum(statistics['hits'] for _, statistics in found) > 0
  assert sum(statistics['damaged'] for _, statistics in found) == 0
  assert all('.dmlab_map.' not in name for name in os.listdir(folder))
