"""What the benchmark of a cluster counts; the cluster is a stand-in."""

import itertools
import types
from unittest import mock

import numpy as np
import pytest

from impala_tf.benchmark import cluster
from impala_tf.environments import suites


@pytest.mark.parametrize('batches_before', [0, 3])
def test_it_counts_from_when_all_actors_are_ready(monkeypatch, batches_before):
  ready = iter([False] * batches_before)
  pulled_since = []
  actors = types.SimpleNamespace(
    are_ready=lambda: next(ready, True),
    pulls=lambda begin, end: (pulled_since.append(begin), np.ones(3))[1],
    close=lambda: None,
  )
  sent = itertools.count(10**12, 1000)
  monkeypatch.setattr(cluster, '_serve', str)
  monkeypatch.setattr(cluster, '_End', mock.Mock())
  cluster._End.return_value.agent.trainable_variables = []
  monkeypatch.setattr(cluster, 'StagingArea', mock.Mock())
  monkeypatch.setattr(cluster, '_Processes', lambda *arguments: actors)
  monkeypatch.setattr(cluster, '_loopback_bytes', lambda: next(sent))
  suite, config = suites.resolve('pong')

  with cluster.cluster_of(1, suite, config) as part:
    for _ in range(4):
      next(part.steps)
    found = part.extra(mock.Mock(frames_per_second=1.0))
  assert found['bytes sent for each unroll'] == 1000 / (4 * config.batch_size)
  assert pulled_since[0] > 0
