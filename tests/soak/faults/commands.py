"""Commands beside a training: those that may run, and those that are refused."""

import os
import subprocess
import sys

from tests.soak.training import PATIENCE, check_error
from tests.support.processes import ROOT

# A training of seconds, for a trial or a member.
_SHORT = ('--level_name=tests.support.catch:catch', '--total_environment_frames=2000')


# With words of the refusal.
_BAD_FLAGS = (
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


def give_bad_flags(training, draw):
  """Gives a command with a mistake: it is refused in a few words, and touches nothing."""
  flags, words = draw.choice(_BAD_FLAGS)
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
  check_error(done.stderr, f'Another process trains in {training.logdir}')
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
