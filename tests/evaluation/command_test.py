"""The command that evaluates: its flags, its errors, and the suite that it finds."""

import pytest

from impala_tf.config import ConfigurationError
from impala_tf.environments import py_process, suites
from impala_tf.evaluation import command, evaluate, results
from impala_tf.system import machine
from impala_tf.training import checkpoints
from tests.support import catch, evaluations, own_flags, run_files


@pytest.fixture(name='threads')
def _threads(monkeypatch):
  """The numbers of threads that TensorFlow was given."""
  numbers = []
  monkeypatch.setattr(machine, 'configure_tensorflow', numbers.append)
  return numbers


def run(monkeypatch, outcome, *arguments, **options):
  """What the command returns with such flags; `outcome` stands for the evaluation."""
  own_flags.parse(monkeypatch, command.define_flags, *arguments)
  monkeypatch.setattr(evaluate, 'check', lambda *_: None)
  for name in ('evaluate_runs', 'evaluate_random_policy'):
    monkeypatch.setattr(evaluate, name, outcome)
  return command.run(catch.SUITE, **options)


def test_flags_reach_the_evaluation(monkeypatch, capsys, threads):
  calls = []

  def outcome(*args):
    calls.append(args)
    return results.Evaluation({'seed': 1}, {'catch': evaluations.result('catch', [2.5])}), 143

  given = {
    'levels': 'one,two',
    'seed': 3,
    'episodes': 7,
    'processes': 5,
    'processes_per_level': 2,
    'envs_per_process': 4,
    'record_video': 2,
  }
  flags = ['--greedy', *(f'--{name}={value}' for name, value in given.items())]
  options = {'changes': {'num_actors': 1}, 'test_changes': {'width': 9}}
  assert run(monkeypatch, outcome, '--logdir=runs/one', *flags, **options) == 143
  assert run(monkeypatch, outcome, '--logdir=runs/one,runs/two', '--output=there') == 143
  assert run(monkeypatch, outcome, '--baseline=random', '--output=there') == 143
  everything = evaluate.EvaluationSettings(
    num_episodes=7,
    seed=3,
    levels=['one', 'two'],
    processes=5,
    processes_per_level=2,
    envs_per_process=4,
    greedy=True,
    record_video=2,
    **options,
  )
  default = evaluate.EvaluationSettings(
    num_episodes=100, levels=[], processes=machine.cores(), envs_per_process=4
  )
  assert calls == [
    (catch.SUITE, ['runs/one'], 'runs/one/evaluation', everything),
    (catch.SUITE, ['runs/one', 'runs/two'], 'there', default),
    (catch.SUITE, 'there', default),
  ]
  assert threads == [5, machine.cores(), machine.cores()]
  assert capsys.readouterr().out.splitlines() == ['Mean return over 1 levels: 2.50.'] * 3


@pytest.mark.parametrize(
  'error',
  [ConfigurationError, checkpoints.CheckpointError, py_process.ProcessError, PermissionError],
)
def test_errors_are_reported_in_a_sentence(monkeypatch, capsys, threads, error):
  def outcome(*unused_args):
    raise error('The sentence.')

  assert run(monkeypatch, outcome, '--logdir=run') == 1
  assert capsys.readouterr().err == 'Error: The sentence.\n'


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ([], 'Give one of --logdir'),
    (['--logdir=run', '--baseline=random'], 'Give one of --logdir'),
    (['--logdir=gs://bucket/run'], '--output is missing'),
    (['--logdir=one,two'], '--output is missing'),
    (['--baseline=random'], '--output is missing'),
  ],
)
def test_bad_flags_are_refused_before_tensorflow_is_set_up(
  monkeypatch, capsys, threads, flags, message
):
  assert run(monkeypatch, None, *flags) == 1
  assert capsys.readouterr().err.startswith(f'Error: {message}')
  assert threads == []


def test_the_suite_is_that_of_the_runs_or_of_the_levels_to_play_at_random(
  monkeypatch, tmp_path, capsys
):
  found = []
  monkeypatch.setattr(command, 'run', lambda suite, **_: found.append(suite))
  config = catch.SUITE.configure('tests.support.catch:catch')
  run_files.make_run(catch.SUITE, config, tmp_path / 'runs' / 'one')
  for flags in (
    [f'--logdir={tmp_path / "runs"}'],
    [f'--logdir={tmp_path / "runs" / "one"}', '--levels=catch'],
    ['--baseline=random', '--levels=gymnasium:CartPole-v1'],
  ):
    own_flags.parse(monkeypatch, command.define_flags, *flags)
    command.main(['command'])
  assert found == [catch.SUITE, catch.SUITE, suites.find('gymnasium:CartPole-v1')]
  for flags, message in (
    (['--baseline=random'], '--levels is missing'),
    ([f'--logdir={tmp_path / "none"}'], 'No run in'),
    ([], 'Give one of --logdir'),
  ):
    own_flags.parse(monkeypatch, command.define_flags, *flags)
    assert command.main(['command']) == 1
    assert capsys.readouterr().err.startswith(f'Error: {message}')


def test_options_about_the_machine_are_flags_where_the_suite_of_the_levels_has_them(
  monkeypatch, capsys
):
  calls = []
  monkeypatch.setattr(command, 'run', lambda suite, **given: calls.append((suite.name, given)))
  given = ['--baseline=random', '--level_cache_dir=there', '--levels=rooms_watermaze']
  own_flags.parse(monkeypatch, command.define_flags)
  command.main(command.parse_flags(['evaluation', *given]))
  assert calls == [('dmlab30', {'changes': {'level_cache_dir': 'there'}})]
  for argument in ('--width=9', '--max_noops=3'):  # What is learned; another suite's.
    own_flags.parse(monkeypatch, command.define_flags)
    with pytest.raises(SystemExit):
      command.parse_flags(['evaluation', *given, argument])
    assert argument.partition('=')[0].strip('-') in capsys.readouterr().err
