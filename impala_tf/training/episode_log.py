"""episodes.csv: every finished episode of a run."""

import csv
import io
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from impala_tf import files
from impala_tf.errors import FileError
from impala_tf.training.episodes import Episode

FILE_NAME = 'episodes.csv'
COLUMNS = ('frames', 'level', 'episode_return', 'episode_frames')
_HEADER = ','.join(COLUMNS) + '\n'
_REMEDY = 'Remove the line, or use another --logdir.'


class Row(NamedTuple):
  """A line of the file.

  Attributes:
    frames: the learner's counter after the update that consumed the end of the episode.
    level: name.
    episode_return: sum of the unclipped rewards.
    episode_frames: emulator frames, action repeats counted.
  """

  frames: int
  level: str
  episode_return: float
  episode_frames: int


def read(logdir: str) -> list[Row]:
  """Reads the episodes of a run, which may still be training; none if there is no file yet.

  Args:
    logdir: folder, anything that tf.io.gfile takes.

  Raises:
    FileError: if the file can't be read, or a line is not an episode; names the line.
  """
  path = os.path.join(logdir, FILE_NAME)
  text = files.read_text(path) or ''
  # A line without an end is just being written.
  lines = text[: text.rfind('\n') + 1].splitlines()
  return [_parse(path, number, line) for number, line in enumerate(lines[1:], start=2)]


def newest_first(logdir: str) -> Iterator[Row]:
  """Yields the episodes of a run from the last to the first, as `read` reads them, without looking
  into the lines before those that are asked for: a long run has millions.
  """
  path = os.path.join(logdir, FILE_NAME)
  pairs = itertools.pairwise(files.lines_from_end(path))
  next(pairs, None)  # A line without an end is just being written.
  # The header is in no pair's first place.
  for line, _ in pairs:
    try:
      row = _parse(path, 0, line)
    except FileError:
      row = _parse(path, 2 + sum(1 for _ in pairs), line)  # To name the line, all are counted.
    yield row


def read_last(logdir: str, count: int) -> list[Row]:
  """Reads the last `count` episodes, in the order in which they ended; see `newest_first`."""
  return [*itertools.islice(newest_first(logdir), count)][::-1]


def _parse(path, number, line):
  try:
    frames, level, episode_return, episode_frames = next(csv.reader([line], strict=True))
    return Row(int(frames), sys.intern(level), float(episode_return), int(episode_frames))
  except (ValueError, csv.Error) as error:
    raise FileError(path, f'is not an episode: {line[:80]!r}', _REMEDY, f'line {number}') from error


class EpisodeLog:
  """Appends finished episodes to episodes.csv in the log directory.

  Each is a `Row`; what was lost with a training is dropped at its next start.

      log = EpisodeLog(logdir, levels, num_action_repeats, frames=learner.frames)  # restored
      log.add(frames, episodes)
      log.flush()     # now and then, and before each checkpoint
  """

  def __init__(self, logdir: str, levels: Sequence[str], num_action_repeats: int, frames: int = 0):
    """Makes the file, or makes that of an earlier start fit what was restored.

    Rows beyond `frames` are dropped, as their training was lost and is done again; so is a last
    line that was cut off.

    Args:
      logdir: existing folder, anything that tf.io.gfile takes.
      levels: names of the run's levels; `episodes.Episode.level` is an index into them.
      num_action_repeats: emulator frames of an agent step.
      frames: of the restored checkpoint, 0 if there was none.

    Raises:
      FileError: if the file there is not such a log. It is unchanged then.
      StorageError: if it can't be written.
    """
    self._path = os.path.join(logdir, FILE_NAME)
    self._levels = levels
    self._num_action_repeats = num_action_repeats
    self._buffer = io.StringIO(newline='')
    self._writer = csv.writer(self._buffer, lineterminator='\n')
    self._repair(int(frames))

  def add(self, frames: int, episodes: Sequence[Episode]) -> None:
    """Notes episodes; nothing is written yet."""
    for episode in episodes:
      self._writer.writerow(
        (
          int(frames),
          self._levels[episode.level],
          np.float32(episode.episode_return),  # Which prints 0.1 as 0.1.
          episode.episode_steps * self._num_action_repeats,
        )
      )

  def flush(self) -> None:
    """Writes what was noted since the last call.

    Raises:
      StorageError: if it can't be written. Then there must not be a checkpoint of these episodes'
        frames: some may be missing.
    """
    rows = self._buffer.getvalue()
    if not rows:
      return

    # Not to be tried again: a part may be in the file, and would be there twice.
    self._buffer.seek(0)
    self._buffer.truncate()
    with files.writing(self._path):
      # Somebody may have removed or moved it meanwhile.
      header = '' if files.exists(self._path) else _HEADER
      with files.open_file(self._path, 'a') as file:
        file.write(header + rows)

  def _repair(self, frames):
    data = files.read(self._path)
    if data is None and frames:
      logging.warning(
        '%s is missing: the episodes before frame %d are lost to curves and reports.',
        self._path,
        frames,
      )

    # A copy may have been given the ends of lines of another system.
    text = (data or b'').decode(errors='replace').replace('\r\n', '\n')
    header, *lines = text.splitlines(keepends=True) or ['']
    if header != _HEADER and not _HEADER.startswith(header):
      raise FileError(
        self._path,
        f'is not an episode log of this program: it starts with {header[:80]!r}, not {_HEADER!r}',
        'Move it away, or use another --logdir.',
      )

    if lines and not lines[-1].endswith('\n'):
      logging.warning('%s ended in a line cut off, which is dropped: %r', self._path, lines.pop())

    kept = [
      line
      for number, line in enumerate(lines, start=2)
      if _parse(self._path, number, line).frames <= frames
    ]
    if len(kept) < len(lines):
      # Without a checkpoint it is all of them: it may have been lost on the way to another place.
      logging.log(
        logging.INFO if frames else logging.WARNING,
        'Dropped %d episodes beyond frame %d from %s.%s',
        len(lines) - len(kept),
        frames,
        self._path,
        '' if frames else ' There is no checkpoint beside it, so the training starts from frame 0.',
      )

    repaired = _HEADER + ''.join(kept)
    if repaired.encode() != data:
      files.write(self._path, repaired)
