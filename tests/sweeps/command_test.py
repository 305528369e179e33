"""The command: what flags make of it."""

import pytest

from impala_tf.sweeps import __main__ as command
from impala_tf.sweeps import definition, search_space, worker
from impala_tf.sweeps.definition import Sweep
from tests.support import own_flags


def test_flags_define_the_sweep(monkeypatch):
  calls = []
  monkeypatch.setattr(
    worker, 'run', lambda logdir, sweep, **how: (calls.append((logdir, sweep, how)), 143)[1]
  )
  given = [
    '--level_name=pong',
    '--decay=0.9',
    '--space=learning_rate=uniform(0.1,0.2)',
    '--num_trials=3',
    '--sweep_seed=7',
  ]
  # What is fixed goes together with what is drawn: alone a batch of 32 would not go with A3C.
  given += ['--architecture=a3c', '--envs_per_actor=1', '--space=batch_size=categorical(1)']
  given += ['--parallel=2', '--prune', '--retry_failed']
  own_flags.parse(monkeypatch, command.define_flags, '--logdir=here', *given)
  assert command.main(['sweeps']) == 143
  sweep = Sweep(
    given={'level_name': 'pong', 'envs_per_actor': 1, 'decay': 0.9, 'architecture': 'a3c'},
    space=search_space.parse(['learning_rate=uniform(0.1,0.2)', 'batch_size=categorical(1)']),
    num_trials=3,
    sweep_seed=7,
  )
  how = {'parallel': 2, 'prune': True, 'retry_failed': True, 'runner': 'impala_tf'}
  assert calls == [('here', sweep, how)]


def test_each_trial_may_be_a_cluster(monkeypatch):
  runners = []
  monkeypatch.setattr(worker, 'run', lambda *args, runner, **how: (runners.append(runner), 0)[1])
  # A learner alone has no levels to share out among its actors.
  given = ['--logdir=here', '--level_name=atari57', '--num_actors=6']
  for cluster in ('5', 'node7:8470'):
    own_flags.parse(monkeypatch, command.define_flags, *given, f'--cluster={cluster}')
    assert command.main(['sweeps']) == 0
  assert runners == [
    'impala_tf.launch --num_actor_processes=5',
    'impala_tf --job_name=learner --learner_address=node7:8470',
  ]


def test_what_can_not_be_a_sweep_is_refused_and_binds_no_folder(tmp_path, monkeypatch, capsys):
  for given, message in (
    ([], '--level_name '),
    (['--status'], str(tmp_path)),
    (['--level_name=pnog'], ' pong?'),
    (['--level_name=pong', '--cluster=0'], '--cluster=0 '),
    (['--level_name=pong', '--cluster=a:1', '--parallel=2'], '--cluster=a:1 '),
    (['--level_name=pong', '--batch_size=0'], 'batch_size=0'),
    (['--level_name=atari57', '--num_actors=5', '--envs_per_actor=1'], 'num_actors=5'),
  ):
    with monkeypatch.context() as patched:
      own_flags.parse(patched, command.define_flags, f'--logdir={tmp_path}', *given)
      assert command.main(['sweeps']) == 1
      assert message in capsys.readouterr().err
      assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ('arguments', 'missing'),
  [
    (['sweeps', 'report'], '--logdirs'),
    (['sweeps', 'report', '--logdirs=a'], '--output'),
    (['sweeps', '--level_name=pong'], '--logdir'),
  ],
)
def test_a_missing_folder_is_named(monkeypatch, capsys, arguments, missing):
  rest = own_flags.parse(monkeypatch, command.define_flags, *arguments[1:])
  assert command.main(rest(arguments)) == 1
  assert f'{missing} ' in capsys.readouterr().err


def test_a_report_and_a_status_are_asked_for_by_the_same_command(tmp_path, monkeypatch, capsys):
  folder = tmp_path / 'sweep'
  folder.mkdir()
  sweep = Sweep({}, search_space.parse(['learning_rate=uniform(0.1,0.2)']), num_trials=2)
  definition.check_or_save(str(folder), sweep)
  output = tmp_path / 'report'
  with monkeypatch.context() as patched:
    arguments = [f'--logdirs=mine={folder}', f'--output={output}']
    own_flags.parse(patched, command.define_flags, *arguments)
    assert command.main(['sweeps', 'report']) == 0
  assert '2 trials: 2 waiting' in capsys.readouterr().out
  assert (output / 'trials.csv').exists()
  with monkeypatch.context() as patched:
    own_flags.parse(patched, command.define_flags, f'--logdir={folder}', '--status')
    assert command.main(['sweeps']) == 0
  assert 'trial_001  waiting' in capsys.readouterr().out
  assert [path.name for path in folder.iterdir()] == ['sweep.json']
