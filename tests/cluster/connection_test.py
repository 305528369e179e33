"""How a process joins its cluster, without one."""

import itertools
import os
import re

import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from impala_tf import config
from impala_tf.cluster import connection, heartbeats, roles, sockets
from impala_tf.system import machine
from tests.support import processes
from tests.support.clock import Clock


@pytest.mark.parametrize('job', roles.JOBS)
def test_a_learner_has_few_threads_and_many_files_for_its_actors(monkeypatch, job):
  announced, allowed = [], []

  def connect_to_cluster(*arguments, **options):
    announced.append(context.context().config.inter_op_parallelism_threads)

  monkeypatch.setattr(tf.config, 'experimental_connect_to_cluster', connect_to_cluster)
  monkeypatch.setattr(tf.config, 'list_logical_devices', list)
  monkeypatch.setattr(machine, 'allow_many_files', lambda: allowed.append(True))
  monkeypatch.setattr(sockets, 'set_keepalive', lambda: None)
  monkeypatch.setenv('http_proxy', 'http://127.0.0.1:9')
  monkeypatch.delenv('grpc_proxy', raising=False)
  own = context.context().config.inter_op_parallelism_threads
  assert own > connection._THREADS_OF_ACTOR
  connection.connect(roles.Role(job, 0, '127.0.0.1:1', '127.0.0.1:2'))
  assert announced == [connection._THREADS_OF_ACTOR if job == 'actor' else own]
  assert allowed == ([] if job == 'actor' else [True])
  assert context.context().config.inter_op_parallelism_threads == own
  assert ('grpc_proxy', '') in os.environ.items()  # Or gRPC would ask the other one.


@pytest.mark.parametrize('given', [0, 2])
def test_an_actor_without_a_port_of_its_own_draws_another_when_its_draw_is_taken(
  monkeypatch, given
):
  tried = []

  def connect_to_cluster(spec, *arguments, **options):
    tried.append(int(spec.task_address('actor', 3).rpartition(':')[2]))
    if len(tried) == 1:
      raise tf.errors.UnknownError(None, None, 'Could not start gRPC server')

  monkeypatch.setattr(tf.config, 'experimental_connect_to_cluster', connect_to_cluster)
  monkeypatch.setattr(tf.config, 'list_logical_devices', list)
  monkeypatch.setattr(sockets, 'set_keepalive', lambda: None)
  ports = iter([71, 72])
  monkeypatch.setattr(roles, 'free_port', lambda: next(ports))
  role = roles.Role('actor', 3, '127.0.0.1:1', f'127.0.0.1:{given}')
  if given:
    with pytest.raises(config.ConfigurationError, match='--actor_address'):
      connection.connect(role)
    assert tried == [given]
  else:
    assert connection.connect(role).address == '127.0.0.1:72'
    assert tried == [71, 72]


@pytest.mark.parametrize(
  ('host', 'can_be_fenced', 'is_said'),
  [
    ('127.0.0.1', True, None),
    ('127.0.0.1', False, 'any of its addresses'),
    ('192.0.2.1', True, '192.0.2.1'),
    ('192.0.2.1', False, 'any of its addresses'),
  ],
)
def test_a_port_is_fenced_and_who_remains_is_warned_of(
  monkeypatch, warnings, host, can_be_fenced, is_said
):
  fenced = []
  monkeypatch.setattr(
    sockets, 'restrict', lambda port, host: (fenced.append((port, host)), can_be_fenced)[1]
  )
  connection.warn_if_exposed(roles.Role('learner', 0, f'{host}:71', f'{host}:71'))
  assert fenced == [(71, host)]
  assert len(warnings()) == (is_said is not None)
  for message in warnings():
    assert is_said in message
    (document,) = re.findall(r'docs/\S+\.md', message)
    assert 'firewall' in (processes.ROOT / document).read_text()


class Board:
  """In place of `heartbeats.Heartbeats`, of one task."""

  def __init__(self):
    self.process = ''

  def exchange(self, task, heartbeat):
    before, self.process = self.process, heartbeat.process
    return heartbeats.LearnerHeartbeat('running'), before


def test_an_actor_whose_task_another_process_has_too_says_so_once(warnings):
  board = Board()

  def link():
    made = connection.Connection(roles.Role('actor', 3, '127.0.0.1:1', '127.0.0.1:2'), 9.0)
    made._board = board
    return made

  first = link()
  for _ in range(3):
    assert first.exchange().state == 'running'
  restarted = link()
  restarted.exchange()
  restarted.exchange()
  assert warnings() == []
  for _ in range(3):
    first.exchange()
    restarted.exchange()
  assert ['--task=3' in warning for warning in warnings()] == [True, True]


class WaitingClock(Clock):
  """Time that passes by waiting."""

  def __init__(self):
    super().__init__()
    self.waits = []

  def wait(self, seconds, stop):
    self.waits.append(seconds)
    self.now += seconds


@pytest.fixture
def link_to(monkeypatch):
  """A function that makes a link whose attempts give what it is told, and the clock by which it
  waits.
  """
  clock = WaitingClock()
  monkeypatch.setattr(connection, 'wait', clock.wait)
  monkeypatch.setattr(connection.random, 'uniform', lambda low, high: high)

  def make_link(attempts):
    link = connection.Connection(
      roles.Role('actor', 0, '10.0.0.1:1', '10.0.0.2:2'), give_up_after=50.0, clock=clock
    )
    monkeypatch.setattr(link, '_attempt', lambda: next(attempts))
    return link, clock

  return make_link


def test_attempts_to_connect_become_rarer_until_it_gives_up(link_to):
  link, clock = link_to(itertools.repeat(None))
  with pytest.raises(connection.LearnerLostError, match=r'10\.0\.0\.1:1 .*60 s'):
    link.connect(False)
  assert clock.waits == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


def test_a_learner_that_has_stopped_is_waited_for(link_to):
  running = heartbeats.LearnerHeartbeat('running', 2)
  link, clock = link_to(
    iter([None, heartbeats.LearnerHeartbeat('stopped', 1), heartbeats.LearnerHeartbeat(), running])
  )
  assert link.connect(False) == running
  assert len(clock.waits) == 3
  link, _ = link_to(iter([]))
  assert link.connect(True) is None
