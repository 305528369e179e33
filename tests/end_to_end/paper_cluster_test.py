"""The paper's experiments with clusters: real learners and actors, which go on after Ctrl-C and
leave nothing behind.
"""

import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from impala_tf import saved_config
from impala_tf.cluster import roles
from impala_tf.paper import paper_experiments, paper_run
from impala_tf.sweeps import definition
from impala_tf.sweeps.study import Study

ROOT = pathlib.Path(__file__).parents[2]
FIGURE = paper_experiments.EXPERIMENTS['figureE3']
EXPERIMENT = dataclasses.replace(FIGURE, methods=FIGURE.methods[:1])
LEVEL = 'tests.support.catch:catch'
SETTINGS = paper_run.Settings(
  levels=(LEVEL,),
  trials=1,
  space={'learning_rate': 'log_uniform(0.0005,0.02)'},
  given={'num_actors': 1, 'checkpoint_interval': 0.5},
)
MARK = 'TEST_OF_A_CLUSTER'


@pytest.fixture
def descendants(tmp_path, monkeypatch):
  """A function that lists the processes that were started here, whoever started them; in the end
  they are killed.
  """
  monkeypatch.setenv(MARK, str(tmp_path))
  monkeypatch.chdir(ROOT)  # Where the runner is found.

  def marked():
    found = []
    for process in psutil.process_iter():
      with contextlib.suppress(psutil.Error):
        if process.pid != os.getpid() and process.environ().get(MARK) == str(tmp_path):
          found.append(process)
    return found

  yield marked
  for process in marked():
    process.kill()


def wait_until(condition, seconds):
  deadline = time.monotonic() + seconds
  while not condition() and time.monotonic() < deadline:
    time.sleep(0.2)
  return condition()


def trials(logdir, level):
  folder = paper_experiments.sweep_folder(logdir, level, EXPERIMENT.methods[0])
  return [
    (trial, pathlib.Path(folder, trial.name))
    for trial in Study(folder, definition.load(folder)).trials()
  ]


def test_a_launched_cluster_goes_on_after_a_signal_that_leaves_nothing_behind(
  tmp_path, descendants
):
  # Slow enough not to be over when the signal comes.
  settings = dataclasses.replace(SETTINGS, levels=('slow_catch',), scale=4_000 / 1e9, cluster=2)

  def signal_once_it_trains():
    wait_until(lambda: list(tmp_path.glob('**/ckpt-*.index')), 300)
    os.kill(os.getpid(), signal.SIGINT)

  threading.Thread(target=signal_once_it_trains, daemon=True).start()
  assert paper_run.run(EXPERIMENT, str(tmp_path), settings) == 128 + signal.SIGINT
  assert wait_until(lambda: not descendants(), 60), descendants()
  assert [trial.state for trial, _ in trials(str(tmp_path), 'slow_catch')] == ['waiting']

  assert paper_run.run(EXPERIMENT, str(tmp_path), settings) == 0
  ((trial, folder),) = trials(str(tmp_path), 'slow_catch')
  assert trial.state == 'finished'
  text = (folder / 'log.txt').read_text()
  assert '[learner] Resuming from frame' in text
  assert re.search(r'\[learner\] 4(\.\d+)?k/4k frames', text)
  assert '[launch] actor 1 is process' in text
  assert wait_until(lambda: not descendants(), 60), descendants()


class ActorLoop(threading.Thread):
  """An actor that is started again whenever it ends, as docs/cluster.md says; what it printed goes
  to a file.
  """

  def __init__(self, address, log):
    super().__init__()
    self._command = [
      sys.executable,
      '-m',
      'run_experiment',
      '--job_name=actor',
      '--task=0',
    ]
    self._command += [f'--learner_address={address}', '--num_actors=1']
    self._log = log
    self._process = None
    self._is_over = threading.Event()

  def run(self):
    """Starts it again and again."""
    while not self._is_over.is_set():
      with open(self._log, 'ab') as log:
        self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=ROOT)
      self._process.wait()

  def end(self):
    """Kills it, and starts no more."""
    self._is_over.set()
    while self.is_alive():
      if self._process is not None:
        self._process.kill()
      self.join(0.2)


def test_the_same_actors_serve_one_learner_after_another(tmp_path, descendants):
  address = f'127.0.0.1:{roles.free_port()}'
  loop = ActorLoop(address, tmp_path / 'actor.txt')
  loop.start()
  try:
    assert (
      paper_run.run(
        EXPERIMENT,
        str(tmp_path),
        dataclasses.replace(SETTINGS, scale=1e-6, trials=2, cluster=address),
      )
      == 0
    )
  finally:
    loop.end()
  acted = (tmp_path / 'actor.txt').read_text()
  for trial, folder in trials(str(tmp_path), LEVEL):
    assert trial.state == 'finished'
    assert 'Connected actors: 1 (came: 0)' in (folder / 'log.txt').read_text()
    # The actor was told no learning rate, and yet has that of its learner.
    assert f'learning_rate              {saved_config.load(str(folder)).learning_rate} ' in acted
  assert wait_until(lambda: not descendants(), 60), descendants()
