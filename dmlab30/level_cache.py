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
import stat
import urllib.parse
import uuid
import zipfile
import zlib
from typing import NamedTuple

from absl import logging

_SUFFIX = '.dmlab_map'
_DIGEST_BYTES = hashlib.sha256().digest_size
# After an eviction there is room for some more, so that not each write has to look through the
# folder.
_FULL_SHARE = 0.9
_BYTES_BETWEEN_LOOKS = (
  1 / 1024
)  # share of the largest size that a process writes before it looks at the folder again


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
    self._files = _RemoteFiles(folder) if '://' in folder else _LocalFiles(folder)
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
    name = _file_name(key)
    found = False
    try:
      entry = self._files.read(name)
      if entry is not None:
        contents = _contents(entry)
        if contents is None:
          self._statistics['damaged'] += 1
          logging.warning(
            'Map %s in the level cache was damaged; it is removed and compiled again.', key
          )
          self._files.remove(name)
        else:
          _write_file(pk3_path, contents)
          found = True
          self._files.mark_used(name)
    except self._files.errors as error:
      if found:  # only the note of its use failed
        logging.log_first_n(logging.WARNING, 'Level cache: %s', 1, error)
      else:
        logging.log_first_n(
          logging.WARNING,
          "Can't read from the level cache, maps are compiled instead: %s",
          1,
          error,
        )

    self._statistics['hits' if found else 'misses'] += 1
    return found

  def write(self, key: str, pk3_path: str) -> None:
    """Stores the map in the local file `pk3_path` under a key.

    If that fails, a warning says so and nothing is stored.
    """
    try:
      with open(pk3_path, 'rb') as file:
        contents = file.read()
      if not _is_sound_zip(contents):
        raise OSError(f'{pk3_path} is not a whole pk3 file')
      entry = hashlib.sha256(contents).digest() + contents
      name = _file_name(key)
      self._files.write(name, entry)
      self._evict(name, len(entry))
    except self._files.errors as error:
      self._statistics['write_errors'] += 1
      logging.log_first_n(
        logging.WARNING,
        "Can't write to the level cache, maps will have to be compiled again: %s",
        1,
        error,
      )

  def _evict(self, just_written, num_bytes):
    """Removes entries until the folder is small enough, given the name and size of one that was
    just written.
    """
    if self._bytes_since_look is not None:
      self._bytes_since_look += num_bytes
      if self._bytes_since_look < self._max_bytes * _BYTES_BETWEEN_LOOKS:
        return

    self._bytes_since_look = 0
    # Files that a killed process did not finish count like entries, and go like them.
    entries = self._files.entries()
    size = sum(entry.num_bytes for entry in entries)
    if size <= self._max_bytes:
      return
    # Some file systems count in seconds, so that the newest needs a word of its own.
    for entry in sorted(entries, key=lambda entry: (entry.name == just_written, entry.last_used)):
      if size <= self._max_bytes * _FULL_SHARE:
        break
      self._files.remove(entry.name)
      self._statistics['evicted'] += 1
      size -= entry.num_bytes


def _file_name(key):
  """Returns a file name of its own for any key."""
  return urllib.parse.quote(key, safe='') + _SUFFIX


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


def _write_file(path, contents):
  """Writes a file, or leaves none."""
  try:
    with open(path, 'wb') as file:
      file.write(contents)
  except BaseException:
    with contextlib.suppress(FileNotFoundError):
      os.remove(path)
    raise


class _Entry(NamedTuple):
  name: str
  num_bytes: int
  last_used: int  # nanoseconds


class _LocalFiles:
  """The files of a local folder."""

  errors = (OSError,)

  def __init__(self, folder):
    self._folder = os.path.expanduser(folder)

  def read(self, name):
    """Returns the contents, None if there is no such file."""
    try:
      with open(self._path(name), 'rb') as file:
        return file.read()
    except FileNotFoundError:
      return None

  def write(self, name, contents):
    """Puts a file in place, whole or not at all."""
    os.makedirs(self._folder, exist_ok=True)
    temporary = self._path(_temporary_name(name))
    try:
      with open(temporary, 'xb') as file:
        file.write(contents)
      os.replace(temporary, self._path(name))
    except BaseException:
      self.remove(os.path.basename(temporary))
      raise

  def mark_used(self, name):
    os.utime(self._path(name))

  def remove(self, name):
    """Removes a file, which another process may have removed already."""
    with contextlib.suppress(FileNotFoundError):
      os.remove(self._path(name))

  def entries(self):
    """Returns an `_Entry` for each file of the cache; others in the folder are left alone."""
    found = []
    with os.scandir(self._folder) as files:
      for file in files:
        if _SUFFIX in file.name:
          try:
            status = file.stat(follow_symlinks=False)
          except FileNotFoundError:
            continue
          if stat.S_ISREG(status.st_mode):
            found.append(_Entry(file.name, status.st_size, status.st_mtime_ns))
    return found

  def _path(self, name):
    return os.path.join(self._folder, name)


class _RemoteFiles:
  """The files of a folder on a file system that TensorFlow knows."""

  def __init__(self, folder):
    import tensorflow as tf

    self._gfile = tf.io.gfile
    self._not_found = tf.errors.NotFoundError
    self.errors = (OSError, tf.errors.OpError)
    self._folder = folder

  def read(self, name):
    """Returns the contents, None if there is no such file."""
    try:
      with self._gfile.GFile(self._path(name), 'rb') as file:
        return file.read()
    except self._not_found:
      return None

  def write(self, name, contents):
    """Puts a file in place, whole or not at all."""
    self._gfile.makedirs(self._folder)
    temporary = _temporary_name(name)
    try:
      with self._gfile.GFile(self._path(temporary), 'wb') as file:
        file.write(contents)
      self._gfile.rename(self._path(temporary), self._path(name), overwrite=True)
    except BaseException:
      self.remove(temporary)
      raise

  def mark_used(self, name):
    """Does nothing: such file systems only know when a file was written."""

  def remove(self, name):
    """Removes a file, which another process may have removed already."""
    with contextlib.suppress(self._not_found):
      self._gfile.remove(self._path(name))

  def entries(self):
    """Returns an `_Entry` for each file of the cache; others in the folder are left alone."""
    found = []
    for name in self._gfile.listdir(self._folder):
      if _SUFFIX in name:
        try:
          status = self._gfile.stat(self._path(name))
        except self._not_found:
          continue
        found.append(_Entry(name, status.length, status.mtime_nsec))
    return found

  def _path(self, name):
    return os.path.join(self._folder, name)


def _temporary_name(name):
  return f'{name}.{uuid.uuid4().hex}'
