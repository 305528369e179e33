"""A cluster on one machine, with scripts in place of its parts; real ones are in end_to_end."""

import re

import pytest

from impala_tf import launch
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.system import machine, processes
from tests.support import own_flags

CATCH = '--level_name=tests.support.catch:catch'


def test_processes_share_out_what_one_would_have(monkeypatch):
  monkeypatch.setattr(machine, 'cores', lambda: 6)

  def of_each(number, preset, given):
    return launch.sizes_of_each(number, *launch._resolve(preset, given))

  def alone(name):
    config = suites.resolve(name)[1]
    return config.num_actors, config.envs_per_actor, config.processes_per_actor

  assert alone('pong') == (12, 16, 1)
  assert of_each(4, None, {'level_name': 'pong'}) == (3, 16, 1)
  # Each level has its environments, and no block of unrolls has fewer levels than it could have.
  assert alone('dmlab30') == (30, 1, 1)
  assert of_each(4, None, {'level_name': 'dmlab30'}) == (8, 1, 1)
  assert alone('atari57') == (3, 57, 4)
  assert of_each(4, None, {'level_name': 'Atari57'})[:2] == (1, 42)
  assert of_each(4, 'atari_multitask_deep', {}) == of_each(4, None, {'level_name': 'atari57'})
  assert of_each(20, None, {'level_name': 'pong+boxing+qbert'})[:2] == (1, 9)
  assert of_each(10_000, None, {'level_name': 'pong'}) == (1, 1, 1)
  with pytest.raises(ConfigurationError, match='pnog'):
    of_each(1, None, {'level_name': 'pnog'})


def of_each(actors, environments):
  """The flags that share out what one process would have."""
  return [f'--num_actors={actors}', f'--envs_per_actor={environments}', '--processes_per_actor=1']


@pytest.mark.parametrize(
  ('given', 'processes', 'passed_on'),
  [
    ([CATCH, '--num_actor_processes=1'], 1, [CATCH, *of_each(2, 4)]),
    ([CATCH, '--num_actor_processes=2', '--envs_per_actor=3'], 2, [CATCH, *of_each(1, 3)]),
    (
      ['--num_actors=5', '--logdir=here', '--preset=atari_expert_deep'],
      2,
      ['--num_actors=5', '--logdir=here', '--preset=atari_expert_deep'],
    ),
    (
      [CATCH, '--num_actors=5', '--population_member'],
      2,
      [CATCH, '--num_actors=5', '--population_member'],
    ),
  ],
)
def test_flags_are_passed_on_and_actors_shared_out(monkeypatch, given, processes, passed_on):
  calls = []
  monkeypatch.setattr(launch, 'run', lambda *arguments: (calls.append(arguments), 143)[1])
  monkeypatch.setattr(machine, 'cores', lambda: 6)
  own_flags.parse(monkeypatch, launch._define_flags, *given)
  assert launch._main(['launch']) == 143
  ((number, arguments),) = calls
  assert (number, sorted(arguments)) == (processes, sorted(passed_on))


@pytest.mark.parametrize(
  ('given', 'is_even'),
  [
    (['--num_actor_processes=3'], True),
    (['--num_actor_processes=4'], False),
    (['--num_actor_processes=2', '--num_actors=3', '--envs_per_actor=38'], True),
    (['--num_actor_processes=2', '--num_actors=4'], False),
  ],
)
def test_levels_that_would_be_played_unequally_often_are_warned_of(
  monkeypatch, warnings, given, is_even
):
  monkeypatch.setattr(launch, 'run', lambda *unused: 0)
  monkeypatch.setattr(machine, 'cores', lambda: 16)
  own_flags.parse(monkeypatch, launch._define_flags, '--level_name=atari57', *given)
  assert launch._main(['launch']) == 0
  assert ['57 levels' in warning for warning in warnings()] == [True] * (not is_even)


def test_a_run_of_a_folder_needs_its_level_as_without_a_cluster(monkeypatch):
  own_flags.parse(monkeypatch, launch._define_flags, '--logdir=here')
  with pytest.raises(ConfigurationError, match='--level_name'):
    launch._main.__wrapped__(['launch'])


@pytest.fixture
def part(tmp_path, monkeypatch):
  """Writes the program of a cluster's processes, and runs the cluster; returns the exit code."""

  def run(program, num_actor_processes=2):
    (tmp_path / 'part.py').write_text(f'import os, signal, sys, time\n{program}')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=':')
    monkeypatch.setattr(processes, 'MAIN_MODULE', 'part')
    monkeypatch.setattr(processes, 'RESTART_SECONDS', 0.0)
    return launch.run(num_actor_processes, ['--mine=1'])

  return run


def test_each_process_has_its_role_and_the_learners_end_is_that_of_all(part, tmp_path, capfd):
  program = f"""
pid = os.getpid()
open({str(tmp_path)!r} + f'/{{pid}}.began', 'w').close()
print(sys.argv[1:], flush=True)
count = lambda: sum(name.endswith('.began') for name in os.listdir({str(tmp_path)!r}))
while count() < 3 or '--job_name=actor' in sys.argv:
  time.sleep(0.05)
sys.exit(7)
"""
  assert part(program) == 7
  lines = capfd.readouterr().out
  (address,) = re.findall(r"\[learner\] \['--mine=1', '--learner_address=(127.0.0.1:\d+)'", lines)
  for task in (0, 1):
    flags = ['--mine=1', f'--learner_address={address}', '--job_name=actor', f'--task={task}']
    assert f'[actor {task}] {flags}' in lines


def test_the_learners_port_is_kept_for_it(part):
  program = """
import errno, socket
if '--job_name=actor' in sys.argv:
  time.sleep(60)
port = int(sys.argv[2].rpartition(':')[2])
try:
  socket.socket().bind(('', port))
except OSError as error:
  taken = error.errno == errno.EADDRINUSE
  socket.create_server(('', port)).close()
  sys.exit(7 if taken else 8)
"""
  assert part(program) == 7


@pytest.mark.parametrize('code', [1, 120])  # Python's own when it can't write to its output.
def test_an_actor_that_fails_ends_all(part, capfd, code):
  assert part(f"sys.exit({code}) if '--task=1' in sys.argv else time.sleep(60)") == 1
  assert 'actor 1 failed' in capfd.readouterr().out


def test_an_actor_that_has_ended_ends_nothing(part):
  assert part("sys.exit(0) if '--task=1' in sys.argv else time.sleep(2)") == 0


def test_what_is_killed_again_and_again_is_given_up(part, capfd):
  assert part('os.kill(os.getpid(), signal.SIGKILL)') == 1
  assert '--num_actor_processes' in capfd.readouterr().out
