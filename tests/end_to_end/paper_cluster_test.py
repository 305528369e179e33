"""The paper's experiments with clusters: real learners and actors, which resume after Ctrl-C and
leave nothing behind.
"""

import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

import pytest

from impala_tf import saved_config
from impala_tf.cluster import roles
from impala_tf.paper import experiments, run
from impala_tf.paper.settings import PaperSettings
from impala_tf.sweeps import definition
from impala_tf.sweeps.study import Study
from tests.support import processes
from tests.support.processes import ROOT, wait_until

EXPERIMENT = experiments.with_methods(experiments.EXPERIMENTS['figureE3'], ['impala'])
SETTINGS = PaperSettings(
  trials=1,
  space={'learning_rate': 'log_uniform(0.0005,0.02)'},
  given={'num_actors': 1, 'checkpoint_interval': 0.5},
)
MARK = 'TEST_OF_A_CLUSTER'


@pytest.fixture
def descendants(tmp_path, monkeypatch):
  """A function that lists the processes that were started here, by whichever process; in the end
  they are killed.
  """
  monkeypatch.setenv(MARK, str(tmp_path))
  monkeypatch.chdir(ROOT)
  marked = lambda: processes.with_variable(MARK, str(tmp_path))
  yield marked
  for pid in marked():
    os.kill(pid, signal.SIGKILL)


def trials(logdir, level):
  folder = experiments.sweep_folder(logdir, level, EXPERIMENT.methods[0])
  found = Study(folder, definition.load(folder)).trials()
  return [(trial, pathlib.Path(folder, trial.name)) for trial in found]


def test_a_launched_cluster_resumes_after_a_signal_that_leaves_nothing_behind(
  tmp_path, descendants
):
  # Slow enough not to be over when the signal comes.
  level = 'tests.support.catch:slow_catch'
  settings = dataclasses.replace(SETTINGS, levels=(level,), scale=3_000 / 1e9, cluster='1')

  def signal_once_it_trains():
    wait_until(lambda: list(tmp_path.glob('**/ckpt-*.index')), 'training', 300)
    os.kill(os.getpid(), signal.SIGINT)

  threading.Thread(target=signal_once_it_trains, daemon=True).start()
  assert run.run(EXPERIMENT, str(tmp_path), settings) == 128 + signal.SIGINT
  wait_until(lambda: not descendants(), 'end of all processes', 60)
  assert [trial.state for trial, _ in trials(str(tmp_path), level)] == ['waiting']

  assert run.run(EXPERIMENT, str(tmp_path), settings) == 0
  ((trial, folder),) = trials(str(tmp_path), level)
  assert trial.state == 'finished'
  text = (folder / 'log.txt').read_text()
  assert '[learner] Resuming from frame' in text
  assert re.search(r'\[learner\] Saved at frame 3_\d+', text)
  assert '[launch] actor 0 is process' in text
  wait_until(lambda: not descendants(), 'end of all processes', 60)


class ActorLoop(threading.Thread):
  """An actor that is started again whenever it ends, as docs/cluster.md says; what it printed goes
  to a file.
  """

  def __init__(self, address, log):
    super().__init__()
    self._command = [sys.executable, 'run_experiment.py', '--job_name=actor', '--task=0']
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
  address, level = f'127.0.0.1:{roles.free_port()}', 'tests.support.catch:catch'
  settings = dataclasses.replace(SETTINGS, levels=(level,), scale=1e-6, trials=2, cluster=address)
  loop = ActorLoop(address, tmp_path / 'actor.txt')
  loop.start()
  try:
    assert run.run(EXPERIMENT, str(tmp_path), settings) == 0
  finally:
    loop.end()
  acted = (tmp_path / 'actor.txt').read_text()
  for trial, folder in trials(str(tmp_path), level):
    assert trial.state == 'finished'
    assert 'Connected actors: 1 (came: 0)' in (folder / 'log.txt').read_text()
    # The actor was given no learning rate, and yet has that of its learner.
    learning_rate = saved_config.load(str(folder)).learning_rate
    assert re.search(rf'learning_rate +{learning_rate} ', acted)
  wait_until(lambda: not descendants(), 'end of all processes', 60)
