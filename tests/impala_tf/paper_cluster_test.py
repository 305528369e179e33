"""The paper's experiments with clusters: real learners and actors, which go on after Ctrl-C and leave nothing behind."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import psutil

from impala_tf import hparams, paper_experiments, paper_run, roles, sweeps

ROOT = pathlib.Path(__file__).parents[2]
FIGURE = paper_experiments.EXPERIMENTS['figureE3']
EXPERIMENT = dataclasses.replace(FIGURE, methods=FIGURE.methods[:1])
SETTINGS = paper_run.Settings(
  levels=('catch',),
  trials=1,
  space={'learning_rate': 'log_uniform(0.0005,0.02)'},
  given={'num_actors': 1, 'checkpoint_interval': 0.5},
  runner='tests.catch_experiment',
)
_MARK = 'TEST_OF_A_CLUSTER'


def start(logdir, log, settings):
  """Runs the experiment in a process of its own, of which all descendants can be found by a mark."""
  program = f"""
import sys
from impala_tf import paper_run
from tests.impala_tf import paper_cluster_test
sys.exit(paper_run.run(paper_cluster_test.EXPERIMENT, {str(logdir)!r}, paper_run.{settings!r}))
"""
  with open(log, 'ab') as file:
    environment = {**os.environ, _MARK: str(logdir)}
    return subprocess.Popen([sys.executable, '-c', program], stdout=file, stderr=file, cwd=ROOT, env=environment)


def descendants(logdir):
  found = []
  for process in psutil.process_iter():
    with contextlib.suppress(psutil.Error):
      if process.environ().get(_MARK) == str(logdir) and process.status() != psutil.STATUS_ZOMBIE:
        found.append(process)
  return found


def wait_until(condition, text, seconds=300):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline, text()
    time.sleep(0.2)


def trials(logdir):
  folder = paper_experiments.sweep_folder(str(logdir), 'catch', EXPERIMENT.methods[0])
  return [(trial, pathlib.Path(folder, trial.name)) for trial in sweeps.open_study(folder, sweeps.load(folder))[0].trials()]


def test_a_launched_cluster_goes_on_after_a_signal_that_leaves_nothing_behind(tmp_path):
  logdir, log = tmp_path / 'paper', tmp_path / 'log.txt'
  settings = dataclasses.replace(SETTINGS, scale=20_000 / 1e9, cluster=2)
  process = start(logdir, log, settings)
  try:
    wait_until(lambda: list(logdir.glob('**/ckpt-*.index')) or process.poll() is not None, log.read_text)
    process.send_signal(signal.SIGINT)
    assert process.wait(300) == 128 + signal.SIGINT, log.read_text()
    wait_until(lambda: not descendants(logdir), lambda: str(descendants(logdir)), 60)
    assert [trial.state for trial, _ in trials(logdir)] == ['waiting']
    process = start(logdir, log, settings)
    assert process.wait(300) == 0, log.read_text()
    ((trial, folder),) = trials(logdir)
    assert trial.state == 'finished'
    text = (folder / 'log.txt').read_text()
    assert '[learner] Going on from frame' in text
    assert '[learner] 20k/20k frames' in text
    assert '[launch] actor 1 is process' in text
    wait_until(lambda: not descendants(logdir), lambda: str(descendants(logdir)), 60)
  finally:
    process.kill()
    process.wait()
    for left in descendants(logdir):
      left.kill()


class ActorLoop(threading.Thread):
  """An actor that is started again whenever it ends, as docs/cluster.md says."""

  def __init__(self, address, log):
    super().__init__()
    self._command = [sys.executable, '-m', 'tests.catch_experiment', '--job_name=actor', '--task=0']
    self._command += [f'--learner_address={address}', '--num_actors=1']
    self._log = log
    self._process = None
    self._is_over = threading.Event()
    self.codes = []

  def run(self):
    while not self._is_over.is_set():
      with open(self._log, 'ab') as log:
        self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=ROOT)
      self.codes.append(self._process.wait())

  def end(self):
    self._is_over.set()
    if self._process is not None:
      self._process.terminate()
    self.join(120)
    if self._process is not None:
      self._process.kill()


def test_the_same_actors_serve_one_learner_after_another(tmp_path):
  address = f'127.0.0.1:{roles.free_port()}'
  loop = ActorLoop(address, tmp_path / 'actor.txt')
  loop.start()
  process = start(
    tmp_path / 'paper', tmp_path / 'log.txt', dataclasses.replace(SETTINGS, scale=2e-6, trials=2, cluster=address)
  )
  try:
    text = lambda: (tmp_path / 'log.txt').read_text() + (tmp_path / 'actor.txt').read_text()
    wait_until(lambda: process.poll() is not None, text)
    assert process.returncode == 0, text()
  finally:
    loop.end()
    process.kill()
  rates = set()
  for trial, folder in trials(tmp_path / 'paper'):
    assert trial.state == 'finished'
    assert 'Connected actors: 1 (came: 0)' in (folder / 'log.txt').read_text()
    rates.add(hparams.load(str(folder)).learning_rate)
  assert len(rates) == 2
  acted = (tmp_path / 'actor.txt').read_text()
  assert all(f'{rate}' in acted for rate in rates)
