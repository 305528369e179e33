"""A training on which the soak test inflicts faults, and what can be seen of it from outside."""

import contextlib
import os
import re
import signal
import subprocess
import time

import numpy as np
import psutil
import tensorflow as tf

from tests.support import catch, run_files

BATCH_FRAMES = catch.CONFIG.batch_size * catch.CONFIG.unroll_length
EPISODE_FRAMES = catch.ROWS - 1
CHECKPOINT_SECONDS = 3.0
NUM_ACTORS = 2  # threads of each process
PATIENCE = 900.0  # seconds for anything to happen, or it hangs; a machine may be slow
_SETTLING = 300.0  # seconds for threads and processes to go
_SAVE_PATIENCE = 600.0  # seconds by which a checkpoint may be late
_SLEEPS = 200  # of a process of environments that has played a while
_TAIL = 4096  # bytes


class Skipped(Exception):  # noqa: N818
  """The fault can't be made here; the message says why."""


@contextlib.contextmanager
def small_disk(path, megabytes=64):
  """Mounts a small file system in memory at `path`, which is made; needs the rights to.

  Yields:
    None, or a text that says why it can't be had; then `path` is an ordinary folder.
  """
  path.mkdir(parents=True)
  command = ['mount', '-t', 'tmpfs', '-o', f'size={megabytes}m', 'soak', str(path)]
  try:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
  except OSError as error:
    done = subprocess.CompletedProcess(command, 1, stderr=str(error))
  if done.returncode:
    yield f'no tmpfs can be mounted: {done.stderr.strip()}'
    return
  try:
    yield None
  finally:
    subprocess.run(
      ['umount', '--lazy', str(path)], check=True
    )  # Lazy, as what was just killed may still be ending.


class Training:
  """One training: 'alone', or a learner with actors.

  processes: `cluster_processes.Processes`.
  logdir: `pathlib.Path`.
  learner: name of the process that learns.
  actors: names of those that act.
  no_disk: None, or why the logdir is not on a disk of its own that may be filled.
  environment: variables of its processes, and of those beside it: TMPDIR, a folder of their own.
  """

  def __init__(self, processes, logdir, actors, no_disk, environment):
    """Describes it; `actors` is a tuple of tasks as text, empty for a run that does everything in
    one process.
    """
    self.environment = environment
    self.processes = processes
    self.logdir = logdir
    self.learner = 'learner' if actors else 'alone'
    self.actors = actors or ('alone',)
    self.no_disk = no_disk
    self._shared = set()  # Names of segments of memory that its processes were seen to share.
    self._names = tuple(dict.fromkeys((self.learner, *self.actors)))

  def start(self):
    """Starts all, and waits until there is something to lose; returns an empty report."""
    for name in self._names:
      self.processes.start(name)
    self.wait(lambda: len(self.checkpoints()) > 1 and self.frames(), 'training')
    return {}

  def wait(self, condition, what, seconds=PATIENCE):
    """Waits until `condition()` is true, while all processes live.

    Raises:
      AssertionError: if it does not come true, or a process ends that should not.
    """
    dead = lambda: [name for name in self._names if not self.processes.is_running(name)]
    met = lambda: _quietly(condition)
    self.processes.wait_until(lambda: met() or dead(), what, seconds)
    assert not dead(), f'{dead()} ended before {what}:\n{self.processes.logs()[-5000:]}'

  def count(self, name, text):
    """How often a process has printed a text, in all its starts."""
    return self.processes.log(name).count(text)

  def frames(self):
    """The learner's frames at the end of the last episode in episodes.csv; 0 if there is none."""
    path = self.logdir / 'episodes.csv'
    if not path.exists():
      return 0
    with open(path, 'rb') as file:
      file.seek(max(0, path.stat().st_size - _TAIL))
      lines = file.read().decode(errors='replace').splitlines(keepends=True)
    whole = [line for line in lines if re.fullmatch(r'\d+,.*\n', line)]
    return int(whole[-1].split(',')[0]) if whole else 0

  def checkpoints(self):
    """Paths, without suffix, of the checkpoints, oldest first."""
    numbered = {
      int(path.stem.split('-')[1]): path.with_suffix('')
      for path in self.logdir.glob('ckpt-*.index')
    }
    return [numbered[number] for number in sorted(numbered)]

  def saved(self, which=-1):
    """The frames in one of the checkpoints, read without the project's code."""
    return int(
      tf.train.load_variable(
        str(self.checkpoints()[which]), 'learner/frames/.ATTRIBUTES/VARIABLE_VALUE'
      )
    )

  def slots(self):
    """The mean of an optimizer's slot in the newest checkpoint."""
    path = str(self.checkpoints()[-1])
    names = [name for name, _ in tf.train.list_variables(path) if '/optimizer/' in name]
    return float(np.mean([np.mean(tf.train.load_variable(path, name)) for name in names]))

  def sleeps(self, name):
    """How often the environments of an actor have slept, as they do in each step: the least of
    them; 0 unless all are there.
    """
    pids = self.processes.environments_of(name)
    sleeps = [psutil.Process(pid).num_ctx_switches().voluntary for pid in pids]
    return min(sleeps) if len(sleeps) == NUM_ACTORS * catch.CONFIG.processes_per_actor else 0

  def plays(self, name):
    """Whether all environments of an actor are there and have taken some steps."""
    return self.sleeps(name) > _SLEEPS

  def is_known(self, name):
    """Whether the learner's last word on an actor, since it started, is that it came."""
    since = self.processes.log(self.learner).rpartition('Waiting for actors.')[2]
    words = re.findall(r'(came|went): ([\d, ]+)', since)
    return [verb for verb, names in words if name in names.split(', ')][-1:] == ['came']

  def memory(self):
    """MiB that all its processes have for themselves, a share of what they share included."""
    sizes = []
    for pid in self.processes.left_over():
      with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        sizes.append(process.memory_full_info().pss)
        self._shared |= {os.path.basename(mapping.path) for mapping in process.memory_maps()}
    return round(sum(sizes) / 2**20)

  def wait_for_frames(self):
    """Waits until the learner has learned from some more frames."""
    before = self.frames()
    self.wait(lambda: self.frames() > before + BATCH_FRAMES, 'further frames')

  def check_that_it_saves(self):
    """Raises AssertionError if the newest checkpoint is older than it should be.

    To be called when the learner has ended.
    """
    age = time.time() - os.stat(f'{self.checkpoints()[-1]}.index').st_mtime
    assert age < CHECKPOINT_SECONDS + _SAVE_PATIENCE, f'The newest checkpoint is {age:.0f} s old.'

  def check_code(self, name, expected):
    """Raises AssertionError if a process doesn't end, or with another exit code."""
    code = self.processes.wait(name, PATIENCE)
    assert code == expected, (
      f'{name} ended with {code}, not {expected}:\n{self.processes.log(name)[-3000:]}'
    )

  def check_that_nothing_runs(self, *names):
    """Raises AssertionError if processes of those names, which have ended, leave others behind."""
    self.processes.wait_until(
      lambda: not self.processes.left_over(*names), f'end of what {names} started', _SETTLING
    )

  def stop_by(self, number):
    """Has the learner end by a signal to all its processes; returns the frames that it saved."""
    os.killpg(self.processes.process(self.learner).pid, number)
    self.check_code(self.learner, 128 + number)
    self.check_that_nothing_runs(self.learner)
    saved, reached = self.saved(), self.frames()
    assert saved >= reached, f'Saved at frame {saved}, though frame {reached} was reached.'
    return saved

  def resume(self, expected):
    """Starts the learner again.

    Args:
      expected: frame from which it must resume, int.

    Returns:
      The number of frames that were lost, and of those that might have been: all since that
      checkpoint, by the file of episodes.
    """
    reached = self.frames()
    resumed, lines = (
      self.count(self.learner, 'Resuming from frame'),
      self.count(self.learner, 'frames/s'),
    )
    self.processes.start(self.learner)
    self.wait(
      lambda: self.count(self.learner, 'Resuming from frame') > resumed, 'start from the checkpoint'
    )
    frame = int(re.findall(r'Resuming from frame ([\d_]+)', self.processes.log(self.learner))[-1])
    assert frame == expected, f'It resumes from frame {frame}, not {expected}.'
    self.wait(lambda: self.count(self.learner, 'frames/s') > lines, 'training after the start')
    self.wait_for_frames()
    return {
      'frames_lost': max(0, reached - frame),
      'frames_since_checkpoint': max(0, reached - expected),
    }

  def resources(self, name):
    """How many threads and file descriptors a process has, as a dict."""
    process = self.processes.process(name)
    return {'threads': process.num_threads(), 'file descriptors': process.num_fds()}

  def left(self, name, before):
    """What a process has more of than `before`, a dict as of `resources`, after some time to
    settle; empty if nothing.
    """
    more = lambda: {
      kind: n - before[kind] for kind, n in self.resources(name).items() if n > before[kind]
    }
    with contextlib.suppress(AssertionError):
      self.processes.wait_until(lambda: not more(), 'end of threads', _SETTLING)
    return more()

  def end(self):
    """Stops all in good order, and looks at what is left.

    Returns:
      A dict with `left`: processes, and segments of shared memory, as far as there are any.

    Raises:
      AssertionError: if the end is not a good one.
    """
    for name in reversed(self._names):
      self.processes.send(name, signal.SIGTERM)
      self.check_code(name, 128 + signal.SIGTERM)
    with contextlib.suppress(AssertionError):
      self.processes.wait_until(
        lambda: not self.processes.left_over(), 'end of all processes', _SETTLING
      )
    self.check_episodes()
    left = {
      'processes': self.processes.left_over(),
      'shared memory': run_files.shared_memory_names() & self._shared,
      'temporary files': os.listdir(self.environment['TMPDIR']),
      'half files': [*self.logdir.glob('*.tmp'), *self.logdir.glob('*_temp')],
    }
    return {'left': {kind: len(found) for kind, found in left.items() if found}}

  def check_episodes(self):
    """Raises AssertionError if episodes are missing, or there twice, in all that was learned."""
    rows = (self.logdir / 'episodes.csv').read_text().splitlines()[1:]
    frames = [int(row.split(',')[0]) for row in rows]
    assert frames == sorted(frames), 'The frames in episodes.csv go back.'
    assert {row.rpartition(',')[2] for row in rows} == {str(EPISODE_FRAMES)}
    assert 0.8 * frames[-1] / EPISODE_FRAMES < len(rows) <= frames[-1] / EPISODE_FRAMES, (
      f'{len(rows)} by frame {frames[-1]}'
    )
    assert len(self.checkpoints()) <= 3, self.checkpoints()


def check_error(text, *words):
  """Raises AssertionError unless one line says it all, without a traceback."""
  assert 'Traceback' not in text, text
  errors = [line for line in text.splitlines() if line.startswith('Error: ')]
  assert len(errors) == 1, text
  assert all(word in errors[0] for word in words), errors[0]


def _quietly(condition):
  """Whether it is true; false while a process is just coming or going."""
  try:
    return condition()
  except psutil.Error:
    return False
