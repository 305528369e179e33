"""Reading the limits of the machine from files as Linux has them."""

import math
import os
import subprocess
import sys

import pytest
import tensorflow as tf

from impala_tf.errors import ConfigurationError
from impala_tf.system import machine


@pytest.mark.parametrize(
  ('files', 'expected'),
  [
    ({}, 8),
    ({'cpu.max': 'max 100000\n'}, 8),
    ({'cpu.max': '250000 100000\n'}, 3),
    ({'cpu.max': '20000 100000\n'}, 1),
    ({'cpu.max': '1600000 100000\n'}, 8),
    ({'cpu/cpu.cfs_quota_us': '200000\n', 'cpu/cpu.cfs_period_us': '100000\n'}, 2),
    ({'cpu/cpu.cfs_quota_us': '-1\n', 'cpu/cpu.cfs_period_us': '100000\n'}, 8),
    ({'cpu.max': 'nonsense'}, 8),
    ({'user/job/cpu.max': '150000 100000\n', 'user/cpu.max': 'max 100000\n'}, 2),
    ({'user/job/cpu.max': 'max 100000\n', 'user/cpu.max': '300000 100000\n'}, 3),
    ({'user/other/cpu.max': '100000 100000\n'}, 8),
    (
      {'cpu/slurm/cpu.cfs_quota_us': '400000\n', 'cpu/slurm/cpu.cfs_period_us': '100000\n'},
      4,
    ),
  ],
)
def test_cores_are_at_most_those_of_a_container(tmp_path, monkeypatch, files, expected):
  own = tmp_path / 'own'
  own.write_text('4:memory:/memory\n2:cpu,cpuacct:/slurm/step\n0::/user/job\n')
  monkeypatch.setattr(machine, '_OWN_CGROUPS', str(own))
  for name, text in files.items():
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  monkeypatch.setattr(machine, '_CGROUP', str(tmp_path))
  monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(8)))
  assert machine.cores() == expected


PROGRAM = """
import resource
from impala_tf.environments import base, py_process
from tests.support import catch
resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))
processes = [py_process.PyProcess(base.EnvironmentBatch, [catch.Catch.__call__]) for _ in range(30)]
try:
  py_process.start_all(processes)
except py_process.ProcessError as error:
  print(str(error).splitlines()[0])
"""


@pytest.mark.parametrize(
  ('hard', 'message'),
  [
    (64, '30 processes take more files than may be open at once here.'),
    (400, 'EnvironmentBatch.__init__ raised'),
  ],
)
def test_many_processes_get_as_many_files_as_the_system_allows(hard, message):
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM.format(hard=hard)],
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  assert done.stdout.startswith(message), done.stdout + done.stderr


def test_threads_that_are_there_already_must_be_enough():
  tf.constant(0.0)  # It is in use from now on.
  machine.configure_tensorflow(2)  # The tests have those of 64 actors.
  with pytest.raises(ConfigurationError, match='num_actors=1000'):
    machine.configure_tensorflow(1000)


@pytest.mark.parametrize(
  ('quota', 'count', 'expected'),
  [
    (math.inf, 1, [[1, 2, 4, 6, 7]]),
    (math.inf, 2, [[1, 2], [4, 6, 7]]),
    (math.inf, 7, [[1], [2], [4], [6], [7], [1], [2]]),
    (2.5, 2, [[1], [2, 4]]),
    (0.5, 2, [[1], [1]]),
  ],
)
def test_processes_side_by_side_share_out_the_cores(monkeypatch, quota, count, expected):
  monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {7, 6, 4, 2, 1})
  monkeypatch.setattr(machine, '_quota', lambda: quota)
  assert [machine.share_of_cores(index, count) for index in range(count)] == expected
