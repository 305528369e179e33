"""Faults that the soak test inflicts on a training, each with what must be true afterwards.

A fault is a function of a `training.Training` and a `random.Random`. It returns a dict of what
there is to report: `frames_lost` and `frames_since_checkpoint`, the most that might have been lost,
and in `left` what was left behind.
"""

import errno
import os
import signal
import subprocess
import sys

from tests.soak.training import PATIENCE
from tests.support.processes import ROOT

BAD_FLAGS = (
  (('--level_name=pnog',), 'Did you mean pong'),
  ((), '--level_name is missing'),
  (('--level_name=pong', '--batch_size=0'), 'batch_size=0'),
  (('--level_name=pong', '--learning_rate=fast'), 'fast'),
  (('--level_name=pong', '--lerning_rate=0.001'), 'lerning_rate'),
  (('--level_name=pong', '--clip_global_norm=often'), '--clip_global_norm=often'),
  (('--level_name=pong', '--architecture=impalla'), 'impalla'),
  (('--level_name=pong', '--job_name=actor'), '--task is missing'),
  (('--level_name=pong', '--job_name=learner', '--learner_address=here:there'), 'here:there'),
  (('--level_name=pong', '--logdir=/proc/soak'), '/proc/soak'),
  (('--level_name=pong', '--logdir={empty}', '--mode=test'), 'Train first'),
  (('--level_name=gymnasium:Nothing-v7',), 'Nothing-v7'),
)


class Skipped(Exception):  # noqa: N818
  """The fault can't be made here; the message says why."""


def kill_environments(training, draw):
  """Kills a process of environments: another takes its place, and nothing else happens."""
  name = draw.choice(training.actors)
  environments, before = training.processes.environments_of(name), training.resources(name)
  restarts = training.count(name, 'is restarted')
  victim = draw.choice(environments)
  os.kill(victim, signal.SIGKILL)
  training.wait(lambda: training.count(name, 'is restarted') > restarts, 'word of the new process')
  whole = lambda now: len(now) == len(environments) and victim not in now
  training.wait(lambda: whole(training.processes.environments_of(name)), 'new process')
  training.wait_for_frames()
  return {'left': training.left(name, before)}


def kill_learner(training, draw):
  """Kills the learner, or the run that is alone: restarted, it resumes from its last checkpoint."""
  del draw
  training.processes.kill(training.learner)
  training.check_that_it_saves()
  training.check_that_nothing_runs(training.learner)
  return training.resume(training.saved())


def kill_actor(training, draw):
  """Kills an actor: its environments end, the learner continues, and the task can be restarted."""
  name = draw.choice(training.actors)
  starts = training.count(training.learner, 'Resuming from frame')
  training.processes.kill(name)
  training.check_that_nothing_runs(name)
  _start_actor(training, name)
  assert training.count(training.learner, 'Resuming from frame') == starts
  return {}


def stop_actor(training, draw):
  """Sends SIGTERM to an actor: it takes leave, and can be restarted."""
  name = draw.choice(training.actors)
  went = training.count(training.learner, f'went: {name}')
  training.processes.send(name, signal.SIGTERM)
  _check_code(training, name, 128 + signal.SIGTERM)
  training.check_that_nothing_runs(name)
  training.processes.wait_until(
    lambda: training.count(training.learner, f'went: {name}') > went, 'leave'
  )
  _start_actor(training, name)
  return {}


def terminate(training, draw):
  """Sends SIGTERM, as a scheduler does: the learner saves all that it learned."""
  del draw
  return training.resume(_stopped(training, signal.SIGTERM))


def interrupt(training, draw):
  """Sends SIGINT to all processes of the learner, as a terminal does."""
  del draw
  return training.resume(_stopped(training, signal.SIGINT))


def corrupt_checkpoint(training, draw):
  """Damages the newest checkpoint: the run reports it, and resumes from the one before."""
  _stopped(training, signal.SIGTERM)
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
  return result


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


def give_bad_flags(training, draw):
  """Gives a command with a mistake: it is refused in a few words, and touches nothing."""
  flags, words = draw.choice(BAD_FLAGS)
  empty = training.logdir.parent / 'empty'
  empty.mkdir(exist_ok=True)
  command = [sys.executable, 'run_experiment.py', *(flag.format(empty=empty) for flag in flags)]
  done = subprocess.run(
    command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
  )
  assert done.returncode == 1, f'{flags} ends with {done.returncode}: {done.stdout}{done.stderr}'
  assert words in done.stderr, f'{flags}: {done.stderr}'
  assert 'Traceback' not in done.stderr, f'{flags}: {done.stderr}'
  assert not list(empty.iterdir())
  return {'detail': ' '.join(flags)}


def start_a_second_learner(training, draw):
  """Starts another training in the same folder: it is refused, and the first is not disturbed."""
  del draw
  command = [
    sys.executable,
    '-m',
    'run_experiment',
    '--level_name=tests.support.catch:slow_catch',
    f'--logdir={training.logdir}',
  ]
  done = subprocess.run(
    command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
  )
  assert done.returncode == 1, f'{done.returncode}: {done.stdout}{done.stderr}'
  _check_error(done.stderr, f'Another process trains in {training.logdir}')
  training.wait_for_frames()
  return {}


def start_a_foreign_actor(training, draw):
  """Starts an actor with other settings: it is refused by the name of the field that differs."""
  del draw
  training.processes.start('9', '--unroll_length=7')
  assert training.processes.wait('9', PATIENCE) == 1, training.processes.log('9')
  text = training.processes.log('9')
  assert 'unroll_length: 20 there, 7 here' in text, text
  assert 'Traceback' not in text, text
  training.check_that_nothing_runs('9')
  training.wait_for_frames()
  return {}


EVERYWHERE = (
  kill_environments,
  kill_learner,
  terminate,
  interrupt,
  corrupt_checkpoint,
  fill_disk,
  start_a_second_learner,
  *[give_bad_flags] * 3,
)
IN_A_CLUSTER = (kill_actor, stop_actor, start_a_foreign_actor)


def _start_actor(training, name):
  # The learner may not have noticed that it was gone, so it is not asked.
  connected = training.count(name, 'Connected to the learner')
  training.processes.start(name)
  training.wait(lambda: training.count(name, 'Connected to the learner') > connected, 'connection')
  training.wait_for_frames()


def _check_code(training, name, expected):
  code = training.processes.wait(name, PATIENCE)
  assert code == expected, (
    f'{name} ended with {code}, not {expected}:\n{training.processes.log(name)[-3000:]}'
  )


def _stopped(training, number):
  """Has the learner end by a signal to all its processes; returns the frames that it saved."""
  os.killpg(training.processes.process(training.learner).pid, number)
  _check_code(training, training.learner, 128 + number)
  training.check_that_nothing_runs(training.learner)
  saved, reached = training.saved(), training.frames()
  assert saved >= reached, f'Saved at frame {saved}, though frame {reached} was reached.'
  return saved


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
  _check_code(training, training.learner, 1)
  _check_error(
    training.processes.log(training.learner)[printed:],
    str(training.logdir),
    'No space left',
    'room',
  )
  training.check_that_nothing_runs(training.learner)


def _check_error(text, *words):
  """There must be one line that says it all, and no traceback."""
  assert 'Traceback' not in text, text
  errors = [line for line in text.splitlines() if line.startswith('Error: ')]
  assert len(errors) == 1, text
  assert all(word in errors[0] for word in words), errors[0]
