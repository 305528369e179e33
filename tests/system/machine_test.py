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
  monkeypatch.delenv('IMPALA_TF_CORES', raising=False)
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
  ('text', 'expected'), [('', 8), ('3', 3), ('2.5', 3), ('1', 1), ('100', 8)]
)
def test_a_variable_says_how_many_cores_to_use(monkeypatch, text, expected):
  monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(8)))
  monkeypatch.setattr(machine, '_quota', lambda: math.inf)
  monkeypatch.setenv('IMPALA_TF_CORES', text)
  assert machine.cores() == expected


@pytest.mark.parametrize('text', ['0', '-1', 'many', 'nan'])
def test_a_variable_that_is_no_number_of_cores_is_refused(monkeypatch, text):
  monkeypatch.setenv('IMPALA_TF_CORES', text)
  with pytest.raises(ConfigurationError, match=f'IMPALA_TF_CORES={text} '):
    machine.cores()


@pytest.mark.parametrize(('count', 'expected'), [(2, '4'), (3, '2'), (8, '1'), (24, '1')])
def test_runs_side_by_side_share_out_the_cores(monkeypatch, count, expected):
  monkeypatch.setattr(machine, 'cores', lambda: 8)
  monkeypatch.setattr(machine, 'visible_cards', lambda: [])
  for index in range(count):
    assert machine.environment_of_share(index, count) == {'IMPALA_TF_CORES': expected}
  assert machine.environment_of_share(0, 1) == {}


@pytest.mark.parametrize(
  ('visible', 'cards', 'expected'),
  [
    ('', 1, [None] * 3),
    ('5', 1, [None] * 3),
    ('a,b', 1, ['a', 'b', 'a']),
    ('0,1,2,3,4', 2, ['0,1', '2,3', '4,0']),
    ('0,1', 3, ['0,1', '1,0', '0,1']),
  ],
)
def test_runs_side_by_side_take_the_graphics_cards_in_turn(monkeypatch, visible, cards, expected):
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
  variables = [machine.environment_of_share(index, 3, cards) for index in range(3)]
  assert [v.get('CUDA_VISIBLE_DEVICES') for v in variables] == expected


def test_graphics_cards_are_those_that_the_driver_has(monkeypatch, tmp_path):
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
  monkeypatch.setattr(machine, '_CARDS', str(tmp_path / 'gpus'))
  assert 'CUDA_VISIBLE_DEVICES' not in machine.environment_of_share(0, 2)
  for name in ('0000:01:00.0', '0000:02:00.0'):
    (tmp_path / 'gpus' / name).mkdir(parents=True)
  assert machine.environment_of_share(1, 2)['CUDA_VISIBLE_DEVICES'] == '1'


def test_single_operations_have_a_thread_for_each_core_that_there_is_to_use(monkeypatch):
  monkeypatch.delenv('IMPALA_TF_CORES', raising=False)
  program = (
    'from impala_tf.system import machine; machine.configure_tensorflow(1); '
    'import tensorflow as tf; print(tf.config.threading.get_intra_op_parallelism_threads())'
  )
  # TensorFlow's own number is 0; a container has fewer cores than TensorFlow would count.
  usual = 0 if machine.cores() == machine._schedulable_cores() else machine.cores()
  for variables, expected in (({'IMPALA_TF_CORES': '1'}, 1), ({}, usual)):
    if variables and machine.cores() == 1:
      continue
    done = subprocess.run(
      [sys.executable, '-c', program],
      env={**os.environ, **variables},
      capture_output=True,
      text=True,
      check=True,
    )
    assert int(done.stdout.split()[-1]) == expected
