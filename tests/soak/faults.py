"""Faults that the soak test inflicts on a training, each with what must be true afterwards.

A fault is a function of a `training.Training` and a `random.Random`. It returns a dict of what
there is to report: `frames_lost` and `frames_since_checkpoint`, the most that might have been lost,
in `left` what was left behind, and in `also` the name of another fault that was a part of it.
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


# A training of seconds, for a trial or a member.
_SHORT = ('--level_name=tests.support.catch:catch', '--total_environment_frames=2000')
_SHORT += ('--num_actors=1', '--checkpoint_interval=2')


class Skipped(Exception):  # noqa: N818
  """The fault can't be made here; the message says why."""


def kill_environments(training, draw):
  """Kills a process of environments: another takes its place, and nothing else happens."""
  name = draw.choice(training.actors)
  training.wait(lambda: training.plays(name), f'play of {name}')
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
  slots, newest = training.slots(), training.checkpoints()[-1]
  result = training.resume(training.saved())
  training.wait(lambda: training.checkpoints()[-1] != newest, 'next checkpoint')
  # The mean squares of RMSProp begin at 1 and are far smaller after a few hundred updates.
  assert training.slots() < max(0.5, 2 * slots), 'The optimizer has begun anew.'
  return result


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
  return training.resume(_stopped(training, SIGNALS[terminate]))


def interrupt(training, draw):
  """Sends SIGINT to all processes of the learner, as a terminal does."""
  del draw
  return training.resume(_stopped(training, SIGNALS[interrupt]))


def lose_the_terminal(training, draw):
  """Sends SIGHUP to all processes of the learner, as a terminal does that is closed."""
  del draw
  return training.resume(_stopped(training, SIGNALS[lose_the_terminal]))


def announce_the_end(training, draw):
  """Sends SIGUSR1, as a batch system does some time before it kills."""
  del draw
  return training.resume(_stopped(training, SIGNALS[announce_the_end]))


def damage_a_file(training, draw):
  """Damages or removes a file that the run can do without: it says so, and resumes."""
  saved, end = _ended(training, draw)
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
  saved, end = _ended(training, draw)
  path = training.logdir / draw.choice(['config.json', 'episodes.csv'])
  sound = path.read_bytes()
  damage = draw.choice([b'[]', b'\xff\xfe', b'{"seed": "x"}', b'{' * 100_000, sound[1:20]])
  try:
    path.write_bytes(damage)
    printed = len(training.processes.log(training.learner))
    training.processes.start(training.learner)
    _check_code(training, training.learner, 1)
    _check_error(training.processes.log(training.learner)[printed:], str(path))
    assert path.read_bytes() == damage
  finally:
    path.write_bytes(sound)
  return training.resume(saved) | {'detail': f'{path.name} {damage[:20]!r}', 'also': end}


def kill_while_it_saves(training, draw):
  """Kills the learner, and leaves what a save leaves that is cut off: the next start removes it."""
  del draw
  training.wait(lambda: len(training.checkpoints()) == 3, 'third checkpoint')
  training.processes.kill(training.learner)
  training.check_that_nothing_runs(training.learner)
  saved, oldest = training.saved(), training.checkpoints()[0]
  left = training.logdir / 'ckpt-999_temp', training.logdir / 'config.json.0123abcd.tmp'
  left[0].mkdir()
  left[1].write_text('half')
  for suffix in ('index', 'data-00000-of-00001'):
    copy = oldest.with_name('ckpt-0').with_name(f'ckpt-0.{suffix}')
    copy.write_bytes(oldest.with_name(f'{oldest.name}.{suffix}').read_bytes())
  result = training.resume(saved)
  found = [str(path) for path in (*left, copy) if path.exists()]
  assert not found, f'Left in the folder: {found}'
  return result


def evaluate_beside(training, draw):
  """Evaluates and draws the run while it trains: neither disturbs the other."""
  del draw
  evaluation = ['impala_tf', '--mode=test', '--test_num_episodes=2', '--num_actors=2']
  evaluation += ['--level_name=tests.support.catch:slow_catch', f'--logdir={training.logdir}']
  assert 'mean return' in _run(training, *evaluation)
  picture = training.logdir.parent / 'curve.png'
  _run(training, 'impala_tf.curves', f'--logdirs={training.logdir}', f'--output={picture}')
  picture.unlink()
  training.wait_for_frames()
  return {}


def sweep_beside(training, draw):
  """Sweeps beside it, and damages a trial afterwards: that costs this trial only."""
  folder = training.logdir.parent.parent / f'sweep_{draw.randrange(10**9)}'
  _run(
    training,
    *('impala_tf.sweeps', '--num_trials=2', '--space=seed=uniform(1,99)', f'--logdir={folder}'),
    *_SHORT,
  )
  damaged = folder / 'trial_000' / draw.choice(['episodes.csv', 'score.json'])
  damaged.write_bytes(b'\xff\n\xff\n')
  text = _run(training, 'impala_tf.sweeps', '--status', f'--logdir={folder}')
  assert text.count('finished') == 2, text
  training.wait_for_frames()
  return {}


def population_beside(training, draw):
  """Trains a population beside it."""
  folder = training.logdir.parent.parent / f'population_{draw.randrange(10**9)}'
  rules = ('--burn_in_frames=200', '--episodes=20', '--population=2')
  _run(training, 'impala_tf.pbt', f'--logdir={folder}', *rules, *_SHORT)
  (folder / 'member_000' / 'member.json').write_bytes(b'[]')
  _run(training, 'impala_tf.pbt', 'report', f'--logdir={folder}')
  training.wait_for_frames()
  return {}


def corrupt_checkpoint(training, draw):
  """Damages the newest checkpoint: the run reports it, and resumes from the one before."""
  _, end = _ended(training, draw)
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
    'impala_tf',
    '--level_name=tests.support.catch:slow_catch',
    '--total_environment_frames=1_000_000_000',
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


SIGNALS = {
  terminate: signal.SIGTERM,
  interrupt: signal.SIGINT,
  lose_the_terminal: signal.SIGHUP,
  announce_the_end: signal.SIGUSR1,
}
EVERYWHERE = (
  kill_environments,
  kill_learner,
  terminate,
  interrupt,
  corrupt_checkpoint,
  lose_the_terminal,
  announce_the_end,
  damage_a_file,
  damage_a_file_it_needs,
  kill_while_it_saves,
  evaluate_beside,
  sweep_beside,
  population_beside,
  fill_disk,
  start_a_second_learner,
  give_bad_flags,
)
IN_A_CLUSTER = (kill_actor, stop_actor, start_a_foreign_actor)


def _run(training, module, *arguments):
  """Runs a command beside the training, which must end well; returns what it printed."""
  done = subprocess.run(
    [sys.executable, '-m', module, *arguments],
    cwd=ROOT,
    env={**os.environ, **training.environment},
    capture_output=True,
    text=True,
    timeout=PATIENCE,
    check=False,
  )
  text = done.stdout + done.stderr
  assert done.returncode == 0, f'{module} ends with {done.returncode}:\n{text[-3000:]}'
  assert 'Traceback' not in text, text[-3000:]
  return text


def _start_actor(training, name):
  # The learner may not have noticed that it was gone, so it is not asked.
  connected = training.count(name, 'Connected to the learner')
  training.processes.start(name)
  training.wait(lambda: training.count(name, 'Connected to the learner') > connected, 'connection')
  training.wait(lambda: training.plays(name), f'play of {name}')
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


def _ended(training, draw):
  """Has the learner end by any signal; returns the frames that it saved, and the fault's name."""
  fault = draw.choice(list(SIGNALS))
  return _stopped(training, SIGNALS[fault]), fault.__name__


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
