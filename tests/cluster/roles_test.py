"""Roles and addresses come from flags or TF_CONFIG, and senseless ones are refused."""

import json
import socket

import pytest

from impala_tf.cluster import roles
from impala_tf.config import ConfigurationError


def tf_config(**task):
  cluster = {'learner': ['10.0.0.1:1000'], 'actor': ['10.0.0.2:2000', '10.0.0.3:3000']}
  return {'TF_CONFIG': json.dumps({'cluster': cluster, 'task': task})}


def test_without_a_job_there_is_no_cluster():
  assert roles.resolve(environment={}) is None
  assert roles.resolve(environment={'TF_CONFIG': ' '}) is None


def test_flags_alone():
  learner = roles.resolve('learner', learner_address='10.1.2.3:99', environment={})
  assert learner == roles.Role('learner', 0, '10.1.2.3:99', '10.1.2.3:99')
  actor = roles.resolve('actor', 4, 'node1', 'node2:77', {})
  assert actor == roles.Role('actor', 4, f'node1:{roles.DEFAULT_PORT}', 'node2:77')


def test_defaults_stay_on_this_machine():
  learner = roles.resolve('learner', environment={})
  assert learner.address == f'127.0.0.1:{roles.DEFAULT_PORT}'
  assert learner.is_local
  actor = roles.resolve('actor', 0, environment={})
  assert actor.address == '127.0.0.1:0'  # Its port is drawn when it is about to be opened.
  host, port = roles.host_and_port(actor.with_port().address)
  assert host == '127.0.0.1'
  assert port > 0
  assert actor.is_local
  assert not roles.resolve('learner', learner_address='10.0.0.1', environment={}).is_local


def test_tf_config_gives_what_flags_leave_out():
  actor = roles.resolve(environment=tf_config(type='actor', index=1))
  assert actor == roles.Role('actor', 1, '10.0.0.1:1000', '10.0.0.3:3000')
  learner = roles.resolve(environment=tf_config(type='learner', index=0))
  assert learner == roles.Role('learner', 0, '10.0.0.1:1000', '10.0.0.1:1000')
  # A flag goes before it; the task of another job is none of this one's.
  assert (
    roles.resolve('actor', 0, environment=tf_config(type='learner', index=0)).address
    == '10.0.0.2:2000'
  )
  assert (
    roles.resolve('actor', 1, '10.9.9.9:5', 'me:6', tf_config(type='actor', index=0)).learner
    == '10.9.9.9:5'
  )


@pytest.mark.parametrize(
  ('arguments', 'environment', 'message'),
  [
    ({'job': 'actor'}, {}, '--task '),
    ({'job': 'actor'}, tf_config(type='learner', index=0), '--task '),
    ({'job': 'actor', 'task': -1}, {}, '--task=-1'),
    ({'job': 'learner', 'task': 1}, {}, '--task=1'),
    ({'job': 'learner', 'actor_address': 'x:1'}, {}, '--actor_address=x:1 '),
    ({'task': 3}, {}, '--task=3 '),
    ({'learner_address': 'x:1'}, {}, '--learner_address=x:1 '),
    (
      {'job': 'learner', 'learner_address': 'x:port'},
      {},
      "--learner_address='x:port' ",
    ),
    ({'job': 'learner', 'learner_address': 'x:70000'}, {}, '--learner_address'),
    ({'job': 'learner', 'learner_address': ':70'}, {}, '--learner_address'),
    (
      {'job': 'actor', 'task': 0, 'learner_address': '10.0.0.1', 'actor_address': 'localhost:5'},
      {},
      '--actor_address',
    ),
    ({}, {'TF_CONFIG': 'learner'}, 'TF_CONFIG'),
    ({}, {'TF_CONFIG': '[]'}, 'TF_CONFIG'),
    (
      {},
      {'TF_CONFIG': '{"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}'},
      "the job 'ps'",
    ),
    (
      {},
      {'TF_CONFIG': '{"cluster": {}, "task": {"type": "worker", "index": 0}}'},
      "the job 'worker'",
    ),
    (
      {},
      {'TF_CONFIG': '{"cluster": {}, "task": {"type": "actor", "index": "1"}}'},
      "task index '1'",
    ),
    (
      {},
      {
        'TF_CONFIG': '{"cluster": {"learner": ["a:1", "b:1"]}, '
        '"task": {"type": "actor", "index": 1}}'
      },
      '2 learners',
    ),
  ],
)
def test_senseless_roles_are_refused(arguments, environment, message):
  with pytest.raises(ConfigurationError) as refused:
    roles.resolve(**arguments, environment=environment)
  assert message in str(refused.value)


def test_a_learner_whose_name_is_loopback_here_is_refused_with_what_to_give(monkeypatch):
  # Debian's /etc/hosts has 127.0.1.1 for the machine's own name.
  monkeypatch.setattr(roles, '_own_host', lambda learner: '127.0.0.1')
  with pytest.raises(ConfigurationError, match=r'node7:8470.*--learner_address'):
    roles.resolve('actor', 0, 'node7:8470', None, environment={})


def test_a_learner_has_an_address_that_leads_to_it():
  here = f'127.0.0.1:{roles.free_port()}'
  roles.check_leads_here(roles.Role('learner', 0, here, here))
  with socket.create_server(('127.0.0.1', 0)) as taken:  # Reported when it is opened.
    there = f'127.0.0.1:{taken.getsockname()[1]}'
    roles.check_leads_here(roles.Role('learner', 0, there, there))


def test_a_held_port_is_free_for_a_server_alone():
  with roles.held_port() as port:
    with socket.socket() as other, pytest.raises(OSError, match='in use'):
      other.bind(('', port))
    with socket.create_server(('', port)), socket.create_connection(('127.0.0.1', port)):
      """It is heard."""


@pytest.mark.parametrize('host', ['no.such.host.invalid', '192.0.2.1'])
def test_a_learner_does_not_wait_at_an_address_that_is_not_its_own(host, monkeypatch):
  monkeypatch.setattr(roles, '_HERE_SECONDS', 0.1)
  address = f'{host}:{roles.free_port()}'
  with pytest.raises(ConfigurationError, match=f'learner_address={address}'):
    roles.check_leads_here(roles.Role('learner', 0, address, address))


def test_a_task_that_is_nested_beyond_reason_is_refused():
  with pytest.raises(ConfigurationError, match='unset'):
    roles.resolve(environment={'TF_CONFIG': '[' * 100_000})
