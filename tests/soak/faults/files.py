"""Faults of files: damaged, gone, or without room on their disk."""

import errno
import os

from tests.soak.faults import processes
from tests.soak.training import Skipped, check_error


def damage_a_file(training, draw):
  """Damages or removes a file that the run can do without: it says so, and resumes."""
  saved, end = processes.end_somehow(training, draw)
  name, content = draw.choice(
    [
      ('checkpoint', b''),
      ('checkpoint', b'\xff\xfe'),
      ('checkpoint', None),
      ('config.json', None),
      ('episodes.csv', b'torn'),
    ]
  )
  path = training.logdir / name
  if name == 'episodes.csv':
    with open(path, 'ab') as file:
      file.write(content)
  elif content is None:
    path.unlink()
  else:
    path.write_bytes(content)
  warned = training.count(training.learner, str(path))
  result = training.resume(saved)
  if content is not None:
    assert training.count(training.learner, str(path)) > warned, f'No warning about {path}.'
  training.wait(path.exists, f'new {name}')
  return result | {'detail': f'{name} {content!r}', 'also': end}


def damage_a_file_it_needs(training, draw):
  """Damages a file that the run can't do without: it is refused in a line, and loses nothing."""
  saved, end = processes.end_somehow(training, draw)
  path = training.logdir / draw.choice(['config.json', 'episodes.csv'])
  sound = path.read_bytes()
  damage = draw.choice([b'[]', b'\xff\xfe', b'{"seed": "x"}', b'{' * 100_000, sound[1:20]])
  try:
    path.write_bytes(damage)
    printed = len(training.processes.log(training.learner))
    training.processes.start(training.learner)
    training.check_code(training.learner, 1)
    check_error(training.processes.log(training.learner)[printed:], str(path))
    assert path.read_bytes() == damage
  finally:
    path.write_bytes(sound)
  return training.resume(saved) | {'detail': f'{path.name} {damage[:20]!r}', 'also': end}


def corrupt_checkpoint(training, draw):
  """Damages the newest checkpoint: the run reports it, and resumes from the one before."""
  _, end = processes.end_somehow(training, draw)
  newest, before = training.checkpoints()[-1], training.saved(-2)
  data = newest.with_name(f'{newest.name}.data-00000-of-00001')
  damage = draw.choice(('cut', 'bit', 'empty', 'gone', 'index'))
  if damage == 'cut':
    os.truncate(data, data.stat().st_size // 2)
  elif damage == 'bit':
    content = bytearray(data.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    data.write_bytes(content)
  elif damage == 'empty':
    os.truncate(data, 0)
  elif damage == 'gone':
    data.unlink()
  else:
    os.truncate(f'{newest}.index', 10)
  warning = f"A CHECKPOINT CAN'T BE READ and is passed over; its training is lost: {newest}: "
  warned = training.count(training.learner, warning)
  result = training.resume(before)
  assert training.count(training.learner, warning) > warned, (
    f'No warning about {newest} ({damage}).'
  )
  # Until there is another, the damaged one is the newest, which the next fault would count on.
  training.wait(lambda: training.checkpoints()[-1] != newest, 'next checkpoint')
  return result | {'detail': damage, 'also': end}


def fill_disk(training, draw):
  """Fills the disk: the run ends and says why, and resumes when there is room again."""
  del draw
  if training.no_disk:
    raise Skipped(training.no_disk)
  ballast = training.logdir.parent / 'ballast'
  printed = len(training.processes.log(training.learner))
  try:
    _fill(ballast)
    _check_full(training, printed)
    # Without room it does not start either, and loses nothing.
    _fill(ballast)
    printed, saved = len(training.processes.log(training.learner)), training.saved()
    training.processes.start(training.learner)
    _check_full(training, printed)
    assert training.saved() == saved
  finally:
    ballast.unlink()
  result = training.resume(saved)
  newest = training.checkpoints()[-1]
  training.wait(lambda: training.checkpoints()[-1] != newest, 'next checkpoint')
  training.wait(lambda: not list(training.logdir.glob('*.tmp')), 'end of temporary files')
  return result


def _fill(ballast):
  with open(ballast, 'ab', buffering=0) as file:
    for size in (2**20, 2**12):
      try:
        while True:
          file.write(bytes(size))
      except OSError as error:
        if error.errno != errno.ENOSPC:
          raise


def _check_full(training, printed):
  """The learner must end by itself, with an error that helps, after what it had `printed`."""
  training.check_code(training.learner, 1)
  check_error(
    training.processes.log(training.learner)[printed:],
    str(training.logdir),
    'No space left',
    'room',
  )
  training.check_that_nothing_runs(training.learner)
