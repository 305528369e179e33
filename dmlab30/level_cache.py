"""A folder of compiled maps, shared by all environments that are given the same one.

DeepMind Lab generates a level's maps and compiles them when an episode starts, some levels even
within an episode: up to 44 seconds each time. It asks a level cache first.

    cache = LevelCache(os.path.expanduser('~/.cache/impala_tf/dmlab30'), max_gigabytes=20)
    deepmind_lab.Lab(..., level_cache=cache)

The engine ends its process, without an exception, when a map is announced to it and it finds none
or a damaged one. So an entry is put in place whole or not at all, is only handed out if it is what
was written, and no trouble with the folder is more than a map that has to be compiled. Any number
of processes may use one folder.
"""

import contextlib
import hashlib
import io
import os
import random
import stat
import urllib.parse
import zipfile
import zlib
from typing import NamedTuple

from absl import logging

from impala_tf import files
from impala_tf.errors import DISK_FULL, FileError
from impala_tf.system.paths import is_remote

_SUFFIX = '.dmlab_map'
_DIGEST_BYTES = hashlib.sha256().digest_size
# After an eviction there is room for some more, so that not each write has to look through the
# folder.
_FULL_SHARE = 0.9
_SAMPLE = 200  # Files of a remote folder that one look asks for.
# Share of the largest size that a process writes before it looks through the folder again.
_SHARE_BETWEEN_LOOKS = 1 / 1024


class LevelCache:
  """Compiled maps by key, as DeepMind Lab's `level_cache`."""

  def __init__(self, folder: str, max_gigabytes: float):
    """Takes a folder, which is made when the first map is written.

    Args:
      folder: local path, or anything else that tf.io.gfile takes.
      max_gigabytes: size of the folder above which the maps least recently used go; where the file
        system can't tell, those written first. Several processes that write at once may exceed it
        by a little.

    Raises:
      ValueError: if `max_gigabytes` is not above 0.
    """
    if not max_gigabytes > 0:
      raise ValueError(f'max_gigabytes must be above 0, not {max_gigabytes}.')
    self._folder = os.path.expanduser(folder)
    self._max_bytes = max_gigabytes * 1e9
    self._bytes_since_look = None
    self._statistics = {'hits': 0, 'misses': 0, 'damaged': 0, 'evicted': 0, 'write_errors': 0}

  def statistics(self) -> dict[str, int]:
    """Counters of this process: hits, misses (among them damaged entries), damaged, evicted,
    write_errors.
    """
    return dict(self._statistics)

  def fetch(self, key: str, pk3_path: str) -> bool:
    """Copies the map of a key to the local file `pk3_path`; False, and no such file, if there is
    none that is sound.
    """
    path = self._path(key)
    found = False
    try:
      entry = files.read(path)
      if entry is not None:
        contents = _contents(entry)
        if contents is None:
          self._statistics['damaged'] += 1
          logging.warning(
            'Map %s in the level cache was damaged; it is removed and compiled again.', key
          )
          _remove(path)
        else:
          files.write(pk3_path, contents)
          found = True
          if not is_remote(path):  # Others only know when a file was written.
            os.utime(path)
    except _errors() as error:
      if found:  # only the note of its use failed
        logging.log_first_n(logging.WARNING, 'Level cache: %s', 1, _reason(error))
      else:
        logging.log_first_n(
          logging.WARNING,
          "Can't read from the level cache, maps are compiled instead: %s",
          1,
          _reason(error),
        )

    self._statistics['hits' if found else 'misses'] += 1
    return found

  def write(self, key: str, pk3_path: str) -> None:
    """Stores the map in the local file `pk3_path` under a key.

    If that fails, a warning says so and nothing is stored; if the disk is full, the maps least
    recently used make room for the next one.
    """
    try:
      with open(pk3_path, 'rb') as file:
        contents = file.read()
      if not _is_sound_zip(contents):
        raise OSError(f'{pk3_path} is not a whole pk3 file')
      entry = hashlib.sha256(contents).digest() + contents
      files.make_folder(self._folder)
      files.write(self._path(key), entry)
      self._evict(self._path(key), len(entry))
    except _errors() as error:
      self._statistics['write_errors'] += 1
      logging.log_first_n(
        logging.WARNING,
        "Can't write to the level cache, maps will have to be compiled again: %s",
        1,
        _reason(error),
      )
      if getattr(_reason(error), 'errno', None) in DISK_FULL:
        with contextlib.suppress(*_errors()):
          entries, size = self._look()
          self._shrink(entries, size, size * _FULL_SHARE)

  def _evict(self, just_written, num_bytes):
    """Removes entries until the folder is small enough, given the path and size of one that was
    just written.
    """
    if self._bytes_since_look is not None:
      self._bytes_since_look += num_bytes
      if self._bytes_since_look < self._max_bytes * _SHARE_BETWEEN_LOOKS:
        return

    self._bytes_since_look = 0
    entries, size = self._look()
    if size > self._max_bytes:
      size = self._shrink(entries, size, self._max_bytes * _FULL_SHARE, just_written)
      if size > self._max_bytes:  # A sample can't give enough; the next write takes another.
        self._bytes_since_look = None

  def _shrink(self, entries, size, max_bytes, just_written=''):
    """Removes of the entries those used longest ago, until of `size` bytes at most `max_bytes` are
    left; returns how many are.
    """
    # Some file systems count in seconds, so that the newest needs a word of its own.
    for entry in sorted(entries, key=lambda entry: (entry.path == just_written, entry.last_used)):
      if size <= max_bytes:
        break
      _remove(entry.path)
      self._statistics['evicted'] += 1
      size -= entry.num_bytes
    return size

  def _path(self, key):
    """Returns the path of a file of its own for any key."""
    return os.path.join(self._folder, urllib.parse.quote(key, safe='') + _SUFFIX)

  def _look(self):
    """Looks at the files of the cache, those among them that a killed process did not finish;
    others in the folder are left alone.

    Returns:
      An `_Entry` for each that may go, and the size of all in bytes. Of a remote folder with many
      files, each of which would be asked for over the network, these are the older half of a random
      sample, and an estimate by that.
    """
    names = [name for name in files.names_in(self._folder) if _SUFFIX in name]
    is_sample = is_remote(self._folder) and len(names) > _SAMPLE
    looked = random.sample(names, _SAMPLE) if is_sample else names
    found = [(path, _status(path)) for path in (os.path.join(self._folder, n) for n in looked)]
    entries = [_Entry(path, *status) for path, status in found if status]
    size = sum(entry.num_bytes for entry in entries) * len(names) / max(1, len(looked))
    if is_sample:
      entries = sorted(entries, key=lambda entry: entry.last_used)[: _SAMPLE // 2]
    return entries, size


class _Entry(NamedTuple):
  path: str
  num_bytes: int
  last_used: int  # nanoseconds


def _errors():
  """Returns the classes of errors that a folder or disk may cause."""
  return files.io_errors(FileError, files.StorageError)


def _reason(error):
  """Returns the error of the system, without a remedy for the user."""
  return error.__cause__ or error


def _remove(path):
  """Removes a file, which another process may have removed already."""
  try:
    files.remove(path)
  except files.io_errors():
    if files.exists(path):
      raise


def _contents(entry):
  """Returns the map in an entry, None if it is not what was written."""
  digest, contents = entry[:_DIGEST_BYTES], entry[_DIGEST_BYTES:]
  return contents if hashlib.sha256(contents).digest() == digest else None


def _is_sound_zip(contents):
  try:
    with zipfile.ZipFile(io.BytesIO(contents)) as archive:
      return archive.testzip() is None
  except (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
  ):  # of damage in different places
    return False


def _status(path):
  """Returns size in bytes and time of the last use in nanoseconds; None if it is not a file."""
  if is_remote(path):
    import tensorflow as tf

    try:
      status = tf.io.gfile.stat(path)
    except tf.errors.NotFoundError:
      return None
    return status.length, status.mtime_nsec

  try:
    status = os.lstat(path)
  except FileNotFoundError:
    return None
  return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None
