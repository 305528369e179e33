"""How a process joins its cluster, without one."""

import os

import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from impala_tf.cluster import connection, roles, sockets
from impala_tf.system import machine


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
