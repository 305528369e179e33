"""A cluster on one machine: it trains, and leaves nothing behind however it ends."""

import math
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from impala_tf import launch, machine
from impala_tf import processes as processes_lib
from impala_tf.environments import suites
from tests.support import own_flags
from tests.support.cluster_processes import ROOT

PROGRAM = """
import sys
from impala_tf import launch
flags = ['--level_name=tests.support.catch:catch', '--num_actors=1', '--checkpoint_interval=0.5']
flags += sys.argv[1:]
sys.exit(launch.run(2, flags))
"""


class Launched:
  """A launcher and what became of the processes that it named."""

  def __init__(self, folder, *flags):
    self._log = folder / 'launch.log'
    with open(self._log, 'wb') as log:
      self.process = subprocess.Popen(
        [sys.executable, '-c', PROGRAM, f'--logdir={folder / "run"}', *flags],
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        start_new_session=True,
      )

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.process.kill()
    self.process.wait()
    for pid in self.left_over():
      os.kill(pid, signal.SIGKILL)

  def text(self):
    return self._log.read_text()

  def pids(self):
    return {
      name: int(pid)
      for name, pid in re.findall(r'\[launch\] (\w+(?: \d)?) is process (\d+)\.', self.text())
    }

  def left_over(self):
    """The sessions of all that were named, and of the launcher itself."""
    sessions = {
      self.process.pid,
      *(int(pid) for pid in re.findall(r'is process (\d+)\.', self.text())),
    }
    found = []
    for process in psutil.process_iter():
      try:
        if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
          found.append(process.pid)
      except (OSError, psutil.Error):
        continue
    return found

  def wait_until(self, condition, what, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
      assert time.monotonic() < deadline, f'still no {what}:\n{self.text()}'
      time.sleep(0.1)

  def wait(self, seconds=180):
    try:
      return self.process.wait(seconds)
    except subprocess.TimeoutExpired:
      raise AssertionError(f'The launcher does not end:\n{self.text()}') from None


def test_trains_to_the_end_though_parts_are_killed(tmp_path):
  with Launched(tmp_path, '--total_environment_frames=32_000') as launched:
    launched.wait_until(lambda: list((tmp_path / 'run').glob('ckpt-*.index')), 'training')
    first = launched.pids()
    os.kill(first['actor 1'], signal.SIGKILL)
    os.kill(first['learner'], signal.SIGKILL)
    assert launched.wait() == 0, launched.text()
    text = launched.text()
    assert 'actor 1 was killed by SIGKILL and is restarted' in text
    assert '[learner] Resuming from frame' in text
    assert re.search(r'\[learner\] 32k/32k frames .* actors \d', text), text
    assert launched.pids()['actor 1'] != first['actor 1']
    launched.wait_until(lambda: not launched.left_over(), 'end of all processes', 20)


def test_processes_share_out_the_actors_that_one_would_have():
  alone = {
    name: suites.find(name).configure(name).num_actors
    for name in ('pong', 'dmlab30', 'atari57', 'pong+qbert+boxing')
  }
  assert alone['pong'] == 2 * machine.cores()
  assert alone['atari57'] >= 57  # Or some levels would never be played.
  for name, count in alone.items():
    assert launch.actors_of_each(4, name, None) == math.ceil(count / 4)
  assert launch.actors_of_each(4, 'Atari57', None) == math.ceil(alone['atari57'] / 4)
  assert launch.actors_of_each(4, None, 'atari_multitask_deep') == math.ceil(alone['atari57'] / 4)
  assert launch.actors_of_each(10_000, 'pong', None) == 1
  assert launch.actors_of_each(1, 'tests.support.catch:catch', None) == 2


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_leaves_nothing_behind(tmp_path, number):
  with Launched(tmp_path, '--total_environment_frames=1_000_000_000') as launched:
    launched.wait_until(lambda: 'frames/s' in launched.text(), 'training')
    launched.process.send_signal(number)
    assert launched.wait() == (-number if number == signal.SIGKILL else 128 + number)
    launched.wait_until(lambda: not launched.left_over(), 'end of all processes', 60)
    assert list((tmp_path / 'run').glob('ckpt-*.index'))
    if number == signal.SIGINT:
      assert re.search(r'\[learner\] Saved at frame [\d_]+ in ', launched.text()), launched.text()


def test_what_the_learner_refuses_ends_all(tmp_path):
  with Launched(tmp_path, '--batch_size=0') as launched:
    assert launched.wait() == 1
    assert 'batch_size=0 (unrolls in each update' in launched.text()
    launched.wait_until(lambda: not launched.left_over(), 'end of all processes', 20)


@pytest.mark.parametrize(
  ('given', 'processes', 'passed_on'),
  [
    # Two actors a core in all, as one process would have.
    (
      ['--level_name=catch', '--num_actor_processes=4'],
      4,
      ['--level_name=catch', '--num_actors=3'],
    ),
    (['--num_actor_processes=50'], 50, ['--num_actors=1']),
    (
      ['--num_actors=5', '--logdir=here', '--preset=atari_expert_deep'],
      2,
      ['--num_actors=5', '--logdir=here', '--preset=atari_expert_deep'],
    ),
    (['--num_actors=5', '--population_member'], 2, ['--num_actors=5', '--population_member']),
  ],
)
def test_flags_are_passed_on_and_actors_shared_out(monkeypatch, given, processes, passed_on):
  calls = []
  monkeypatch.setattr(launch, 'run', lambda *arguments: (calls.append(arguments), 143)[1])
  monkeypatch.setattr(machine, 'cores', lambda: 6)
  own_flags.parse(monkeypatch, launch._define_flags, *given, '--runner=my.own')
  assert launch._main(['launch']) == 143
  assert calls == [(processes, passed_on, 'my.own')]


def test_what_is_killed_again_and_again_is_given_up(tmp_path, monkeypatch, capsys):
  (tmp_path / 'dying.py').write_text('import os, signal; os.kill(os.getpid(), signal.SIGKILL)')
  monkeypatch.setenv('PYTHONPATH', f'{tmp_path}:{ROOT}')
  monkeypatch.setattr(processes_lib, 'RESTART_SECONDS', 0.0)
  assert launch.run(1, [], runner='dying') == 1
  assert '--num_actor_processes' in capsys.readouterr().out
