"""A cluster of real processes on loopback: it trains, survives the death of parts, and stops."""

import re
import signal
import subprocess
import sys

from impala_tf.cluster import roles
from tests.support import blocked_queue, cluster_rounds
from tests.support.cluster_processes import Processes
from tests.support.processes import ROOT, start_following
from tests.support.run_files import read_episodes


def test_any_part_may_be_killed(tmp_path):
  cluster_rounds.run(tmp_path, seed=0)


def test_stops_resumes_and_ends(tmp_path):
  logdir = tmp_path / 'run'
  # Slow, so that every machine is still at it when the learner is stopped.
  flags = ('--level_name=tests.support.catch:slow_catch', '--total_environment_frames=8_000')
  with Processes(tmp_path, *flags, '--num_actors=1', f'--logdir={logdir}') as processes:
    # Both before there is a learner: one waits for it, and one gives up.
    processes.start('5', '--give_up_after=600')
    processes.start('7', '--give_up_after=2')
    assert processes.wait('7') == 1
    assert f'No answer of a learner at {processes.address}' in processes.log('7')
    assert 'Traceback' not in processes.log('7')

    # The capacity of its queue is the learner's own business, and may change.
    processes.start('learner', '--queue_capacity=2')
    processes.wait_until(lambda: ', actors 1, ' in processes.log('learner'), 'training')
    assert 'came: 5' in processes.log('learner')

    # Stopped, the learner saves, and the actor waits for the next one.
    processes.send('learner', signal.SIGTERM)
    assert processes.wait('learner') == 128 + signal.SIGTERM
    assert list(logdir.glob('ckpt-*.index'))
    processes.start('learner', '--queue_capacity=3')
    assert processes.wait('learner') == 0
    assert 'Resuming from frame' in processes.log('learner')
    assert processes.log('learner').count('came: 5') == 2
    assert processes.wait('5') == 0
    assert processes.log('5').count('Connected') == 2

    # Started once more after its end, it sends actors home.
    processes.start('6')
    processes.start('learner')
    assert processes.wait('learner') == 0
    assert '8_000 frames' in processes.log('learner')
    assert processes.wait('6') == 0
    assert 'Connected to the learner' in processes.log('6')
  assert read_episodes(logdir)


def test_a_bad_peer_does_not_end_the_learner(tmp_path):
  level = '--level_name=tests.support.catch:catch'
  flags = (level, '--total_environment_frames=3_200', f'--logdir={tmp_path / "run"}')
  with Processes(tmp_path, *flags) as processes:
    processes.start('learner')
    peer = [sys.executable, '-m', 'tests.support.bad_peer', processes.address, '70']
    done = subprocess.run(
      [*peer, level.partition('=')[2]], cwd=ROOT, capture_output=True, text=True
    )
    assert 'sent' in done.stdout, done.stderr + processes.logs()
    processes.start('0')
    assert processes.wait('learner') == 0, processes.logs()
    assert processes.wait('0') == 0
    log = processes.log('learner')
  assert re.search(r'left out: 1 of actor 70 \(a level .*; level 999\)', log), log
  assert re.search(r'passed over: 1 of actor 7\d \(', log), log
  assert 'came: 0' in log
  assert 'has played' not in log
  assert {row['level'] for row in read_episodes(tmp_path / 'run')} == {'catch'}


def test_a_blocked_queue_starves_no_weight_pull():
  module, address = 'tests.support.blocked_queue', f'127.0.0.1:{roles.free_port()}'
  learner = start_following(module, 'learner', address)
  command = [sys.executable, '-m', module, 'actor', address]
  actor = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
  try:
    printed, _ = actor.communicate(timeout=300)
  finally:
    for process in (actor, learner):
      process.kill()
      process.wait()
  *versions, waiting = map(int, printed.split())
  assert waiting == blocked_queue.THREADS
  assert len(versions) == blocked_queue.PULLS
  assert versions == sorted(set(versions))
