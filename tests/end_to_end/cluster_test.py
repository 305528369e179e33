"""A cluster of real processes on loopback: it trains, survives the death of any part, and refuses
what does not fit.
"""

import signal
import subprocess
import sys

from impala_tf import saved_config
from impala_tf.cluster import roles
from tests.support import blocked_queue, cluster_rounds
from tests.support.cluster_processes import ROOT, Processes
from tests.support.run_files import read_episodes

ENDLESS = (
  '--level_name=tests.support.catch:catch',
  '--total_environment_frames=1_000_000_000',
  '--num_actors=1',
)


def test_any_part_may_be_killed(tmp_path):
  cluster_rounds.run(tmp_path, seed=0)


def test_stops_refuses_and_tells_why(tmp_path):
  logdir = tmp_path / 'run'
  with Processes(tmp_path, *ENDLESS, f'--logdir={logdir}') as processes:
    processes.start('5', '--give_up_after=600')  # before there is a learner
    processes.start(
      'learner', '--queue_capacity=2'
    )  # which is the learner's own business, and may change
    processes.wait_until(lambda: 'frames/s' in processes.log('learner'), 'training')
    assert 'came: 5' in processes.log('learner')
    assert 'actors 1' in processes.log('learner')
    # An actor that would send other unrolls, and a second learner in the same folder.
    processes.start('6', '--unroll_length=7')
    assert processes.wait('6') == 1
    assert 'unroll_length: 20 there, 7 here' in processes.log('6')
    assert 'Traceback' not in processes.log('6')
    other = Processes(tmp_path, *ENDLESS, f'--logdir={logdir}')
    with other:
      (tmp_path / 'other').mkdir()
      other._folder = tmp_path / 'other'
      other.start('learner')
      assert other.wait('learner') == 1
      assert 'Another process trains in' in other.log('learner')
    # Stopped, the learner saves; the actor waits for the next one, and goes when it is told to.
    processes.send('learner', signal.SIGTERM)
    assert processes.wait('learner') == 128 + signal.SIGTERM
    assert list(logdir.glob('ckpt-*.index'))
    processes.start('learner', '--queue_capacity=3')
    processes.wait_until(lambda: processes.log('5').count('Connected') == 2, 'second connection')
    processes.wait_until(
      lambda: processes.log('learner').count('came: 5') == 2, 'notice of it'
    )  # it looks but now and then
    processes.wait_until(
      lambda: 'frames/s' in processes.log('learner').partition('Resuming from frame')[2],
      'more training',
    )
    processes.send('5', signal.SIGTERM)
    assert processes.wait('5') == 128 + signal.SIGTERM
    processes.wait_until(lambda: 'went: 5' in processes.log('learner'), 'leave')
  assert saved_config.load(str(logdir)).level_name == 'tests.support.catch:catch'
  assert read_episodes(logdir)


def test_a_learner_started_again_after_its_end_tells_the_actors(tmp_path):
  flags = (
    '--level_name=tests.support.catch:catch',
    '--total_environment_frames=640',
    '--num_actors=1',
    f'--logdir={tmp_path / "run"}',
  )
  with Processes(tmp_path, *flags) as processes:
    processes.start('alone')
    assert processes.wait('alone') == 0
    processes.start('0')
    processes.start('learner')
    assert processes.wait('learner') == 0
    assert 'already has its' in processes.log('learner')
    assert processes.wait('0', 30) == 0
    assert 'Connected to the learner' in processes.log('0')


def test_a_blocked_queue_starves_no_weight_pull():
  command = [sys.executable, '-m', 'tests.support.blocked_queue']
  address = f'127.0.0.1:{roles.free_port()}'
  learner = subprocess.Popen([*command, 'learner', address], cwd=ROOT)
  actor = subprocess.Popen(
    [*command, 'actor', address], cwd=ROOT, stdout=subprocess.PIPE, text=True
  )
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


def test_an_actor_without_a_learner_gives_up(tmp_path):
  with Processes(tmp_path, *ENDLESS) as processes:
    processes.start('0', '--give_up_after=2')
    assert processes.wait('0') == 1
    assert f'No answer of a learner at {processes.address}' in processes.log('0')
    assert 'Traceback' not in processes.log('0')
