"""The paper's experiments: what is defined can be run, what has run is reported, and nothing else."""

import csv
import dataclasses
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import atari57.suite
import dmlab30.suite
from impala_tf.config import ConfigurationError
from impala_tf.paper import command as paper
from impala_tf.paper import paper_experiments, paper_report, paper_run
from impala_tf.sweeps import definition, search_space, worker
from impala_tf.sweeps import report as sweep_report
from impala_tf.sweeps.definition import Sweep
from impala_tf.sweeps.study import Study
from impala_tf.training import loop
from tests.support import own_flags

ROOT = pathlib.Path(__file__).parents[2]
EXPERIMENTS = paper_experiments.EXPERIMENTS
LEVEL = 'tests.support.catch:catch'
# Short trainings of the tests' small task; the seed stands for a search space.
SMALL = paper_run.Settings(
  scale=3_000 / 1e9,
  levels=(LEVEL,),
  trials=2,
  space={'seed': 'uniform(1,1000000)'},
  given={'batch_size': 8, 'checkpoint_interval': 1e6},
  parallel=2,
)


@pytest.mark.parametrize('name', list(EXPERIMENTS))
@pytest.mark.parametrize('cores', [1, 2, 6, 64])
def test_every_method_is_a_valid_configuration(name, cores):
  experiment = EXPERIMENTS[name]
  module = atari57.suite if getattr(experiment, 'suite', '') == 'atari57' else dmlab30.suite
  level = 'pong' if module is atari57.suite else 'rooms_watermaze'
  assert experiment.methods
  for method in experiment.methods:
    values = method.hyper_parameters({'discounting': 0.95}, cores)
    config = module.SUITE.configure(level, **values)
    loop.SOURCES[config.architecture].check(module.SUITE, config)
    assert config.discounting == 0.95
    assert config.batch_size == (1 if config.architecture == 'a3c' else 32)


def test_methods_share_a_folder_only_if_they_are_the_same():
  for kind in (paper_experiments.Throughput, paper_experiments.Sweeps):
    seen = {}
    for experiment in EXPERIMENTS.values():
      for method in experiment.methods if type(experiment) is kind else ():
        values = method.hyper_parameters({}, 2)
        assert seen.setdefault(method.folder, values) == values
  assert paper_experiments.sweep_folder(
    'runs', 'pong', EXPERIMENTS['table2'].methods[0]
  ) == os.path.join('runs', 'sweeps', 'pong', 'impala')


def test_what_the_user_gives_does_not_undo_a_method():
  none = EXPERIMENTS['table2'].methods[3]
  values = none.hyper_parameters({'correction': 'vtrace', 'batch_size': 16}, 2)
  assert (values['correction'], values['batch_size']) == ('none', 16)
  lagging = [
    m
    for m in EXPERIMENTS['figureE1'].methods
    if m.given['policy_lag'] == 10 and 'replay_fraction' in m.given
  ]
  assert len(lagging) == 4
  values = lagging[0].hyper_parameters({'batch_size': 16}, 2)
  assert values['num_actors'] * values['envs_per_actor'] == 8
  values = lagging[0].hyper_parameters({'batch_size': 16, 'num_actors': 1}, 2)
  assert (values['num_actors'], values['envs_per_actor']) == (1, 8)
  values = lagging[0].hyper_parameters({'batch_size': 16, 'num_learners': 2}, 2)
  assert values['num_actors'] * values['envs_per_actor'] == 16


def test_the_papers_numbers_say_what_its_text_says():
  # V-trace is best on three of the five tasks without replay and on four with it, and alone gains
  # from it on all.
  table = EXPERIMENTS['table2'].methods
  by_replay = {
    group: {
      m.label: [m.paper[task] for task in paper_experiments.TASKS]
      for m in table
      if m.group == group
    }
    for group in ('without replay', 'with replay')
  }
  best = lambda numbers: sum(
    max(numbers, key=lambda label: numbers[label][i]) == 'V-trace' for i in range(5)
  )
  assert (best(by_replay['without replay']), best(by_replay['with replay'])) == (3, 4)
  gains = {
    label: all(
      b > a
      for a, b in zip(
        by_replay['without replay'][label], by_replay['with replay'][label], strict=True
      )
    )
    for label in by_replay['with replay']
  }
  assert [label for label, gained in gains.items() if gained] == ['V-trace']
  rates = {m.label: m.paper for m in EXPERIMENTS['table1'].methods}
  assert rates['IMPALA, 48 actors']['seekavoid_arena_01'] == 17_000
  assert [m.paper.get('GPUs') for m in EXPERIMENTS['table1'].methods] == [0, 0, 0, 1, 0, 1]


def test_rows_that_two_experiments_show_are_the_same():
  assert EXPERIMENTS['figureE2'].methods == EXPERIMENTS['table2'].methods[4:]
  assert EXPERIMENTS['figure5'].methods == EXPERIMENTS['table3'].methods
  # Experts learn from the suite's reward clipping, which an agent of one level otherwise has not
  # (Table D.3).
  experts = EXPERIMENTS['table3'].methods[2]
  expert = dmlab30.suite.SUITE.presets['dmlab_expert_deep']
  assert dataclasses.replace(
    dmlab30.suite.SUITE.configure('rooms_watermaze', agent='deep'), **experts.given
  ) == dataclasses.replace(expert, level_name='rooms_watermaze')


def test_environments_come_in_as_few_processes_as_keep_all_cores_busy():
  forty_eight = EXPERIMENTS['table1'].methods[4]
  shared_out = lambda cores: [
    forty_eight.hyper_parameters({}, cores)[name] for name in ('num_actors', 'envs_per_actor')
  ]
  assert [shared_out(cores) for cores in (1, 2, 5, 64)] == [[2, 24], [4, 12], [8, 6], [48, 1]]
  beside = {'replay_fraction': 0.5, 'replay_beside': True}
  values = EXPERIMENTS['figure4'].methods[1].hyper_parameters(beside, 2)
  assert values['num_actors'] * values['envs_per_actor'] == 32


def test_other_lags_take_the_place_of_the_own_ones():
  methods = paper_experiments.with_lags(EXPERIMENTS['figureE1'], [0, 7]).methods
  assert {method.given['policy_lag'] for method in methods} == {0, 7}
  assert len(methods) == 4 * 2 * 2


def test_the_report_shows_whatever_lags_have_run(tmp_path):
  methods = paper_experiments.with_lags(EXPERIMENTS['figureE1'], [0, 7]).methods
  for method in (methods[0], methods[7]):
    folder = paper_experiments.sweep_folder(str(tmp_path), 'pong', method)
    os.makedirs(folder)
    space = search_space.parse(['seed=uniform(1,9)'])
    definition.check_or_save(
      folder, Sweep({'total_environment_frames': 10**7}, space, num_trials=2)
    )
  text = paper_report.write(str(tmp_path), str(tmp_path / 'report'))
  with open(tmp_path / 'report' / 'figureE1.csv', newline='') as file:
    rows = [
      (row['method'], row['with'], row['trials'], row['best 3']) for row in csv.DictReader(file)
    ]
  assert rows == [
    ('V-trace', 'lag 0, without replay', '0 of 2', ''),
    ('No correction', 'lag 7, without replay', '0 of 2', ''),
  ]
  assert 'Scale 0.01 of' in text
  assert '14 of the methods and levels have not been run' in text


def test_each_level_has_its_own_number_of_the_paper_and_those_of_the_paper_come_first(tmp_path):
  method = EXPERIMENTS['table2'].methods[1]
  for level in ('a_level_of_ours', 'seekavoid_arena_01', 'rooms_watermaze'):
    folder = paper_experiments.sweep_folder(str(tmp_path), level, method)
    os.makedirs(folder)
    space = search_space.parse(['seed=uniform(1,9)'])
    definition.check_or_save(
      folder, Sweep({'total_environment_frames': 10**9}, space, num_trials=1)
    )
  paper_report.write(str(tmp_path), str(tmp_path / 'report'))
  with open(tmp_path / 'report' / 'table2.csv', newline='') as file:
    rows = [(row['method'], row['level'], row['paper']) for row in csv.DictReader(file)]
  levels = [('rooms_watermaze', '51.8'), ('seekavoid_arena_01', '43.7'), ('a_level_of_ours', '')]
  assert rows == [('1-step IS', *level) for level in levels]


@pytest.fixture(scope='module')
def ran(tmp_path_factory):
  """A folder in which Figures E.3 and E.4 have run on the small task, and the exit code."""
  logdir = str(tmp_path_factory.mktemp('paper'))
  return logdir, paper_run.run(EXPERIMENTS['figureE3'], logdir, SMALL)


def test_sweeps_run_each_method_with_the_same_samples(ran):
  logdir, code = ran
  assert code == 0
  configurations = {}
  for method in EXPERIMENTS['figureE3'].methods:
    folder = paper_experiments.sweep_folder(logdir, LEVEL, method)
    sweep = definition.load(folder)
    assert sweep.given['total_environment_frames'] == 3_000
    trials = Study(folder, sweep).trials()
    assert [trial.state for trial in trials] == ['finished'] * 2
    configurations[method.folder] = [trial.hyper_parameters for trial in trials]
  assert configurations['impala'] == configurations['impala_q_baseline']
  assert len({sample['seed'] for sample in configurations['impala']}) == 2


def test_what_has_run_does_not_run_again(ran, capsys):
  logdir, _ = ran
  assert paper_run.run(EXPERIMENTS['figureE3'], logdir, SMALL) == 0
  assert ' runs: ' not in capsys.readouterr().out
  with pytest.raises(ConfigurationError, match='total_environment_frames'):
    paper_run.run(EXPERIMENTS['figureE3'], logdir, dataclasses.replace(SMALL, scale=1e-5))


def test_the_report_has_what_ran_and_blanks_for_the_rest(ran, tmp_path):
  logdir, _ = ran
  text = paper_report.write(logdir, str(tmp_path))
  assert (tmp_path / 'report.md').read_text() == text
  # Table 2 shares a method with this figure; the other tables have nothing.
  assert '## Figures E.3 and E.4' in text
  assert '## Table 2' in text
  assert '## Table 1' not in text
  assert 'Scale 3e-06 of' in text
  assert '7 of the methods and levels have not been run' in text
  with open(tmp_path / 'figureE3.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert [row['method'] for row in rows] == ['r + gamma v(s+1)', 'r + gamma V(x(s+1))']
  for row, method in zip(rows, EXPERIMENTS['figureE3'].methods, strict=True):
    folder = paper_experiments.sweep_folder(logdir, LEVEL, method)
    values = [
      trial.value for trial in sweep_report.ranked(Study(folder, definition.load(folder)).trials())
    ]
    assert float(row['all']) == pytest.approx(np.mean(values))
    assert (row['trials'], row['frames'], row['paper']) == ('2 of 2', '3_000', '')
  for name in (f'figureE3_{LEVEL}_best.png', f'figureE3_{LEVEL}_sorted.png'):
    assert (tmp_path / name).read_bytes().startswith(b'\x89PNG')
    assert f'({name})' in text


def test_throughput_is_measured_once_and_stands_beside_the_papers(tmp_path, capsys):
  table1 = EXPERIMENTS['table1']
  # One method that is quick to start; its network is the one of Atari.
  experiment = dataclasses.replace(table1, methods=table1.methods[2:3])
  settings = paper_run.Settings(
    levels=('pong',),
    given={'batch_size': 4, 'unroll_length': 5},
    benchmark=('--seconds=0.1', '--repeats=1', '--warm_up_seconds=0'),
    fake_environment=True,
  )
  assert paper_run.run(experiment, str(tmp_path), settings) == 0
  assert '--level_name=pong --fake_environment --seconds=0.1' in capsys.readouterr().out
  assert paper_run.run(experiment, str(tmp_path), settings) == 0
  assert 'was measured before' in capsys.readouterr().out
  deep = dataclasses.replace(settings, given={**settings.given, 'agent': 'deep'})
  with pytest.raises(
    ConfigurationError, match=r'other settings \(agent: shallow there, deep now\)\. Remove it'
  ):
    paper_run.run(experiment, str(tmp_path), deep)
  text = paper_report.write(str(tmp_path), str(tmp_path / 'report'))
  with open(tmp_path / 'report' / 'table1.csv', newline='') as file:
    rows = {row['architecture']: row for row in csv.DictReader(file) if row['paper: GPUs'] == '0'}
  measured = {name: row['here: pong, zero-cost environment'] for name, row in rows.items()}
  assert {name for name, rate in measured.items() if rate} == {'Batched A2C (sync traj.)'}
  assert float(measured['Batched A2C (sync traj.)'].replace(',', '')) > 0
  cost = rows['Batched A2C (sync traj.)'][
    'here: pong, zero-cost environment, CPU-seconds per 1000 frames'
  ]
  assert re.fullmatch(r'\d+\.\d\d', cost)
  assert rows['Batched A2C (sync traj.)']['paper: seekavoid_arena_01'] == '16,000'
  assert '## Table 1' in text


def test_agents_are_trained_and_evaluated_by_the_suites_own_commands(tmp_path, monkeypatch, capsys):
  tape = []
  monkeypatch.setattr(
    paper_run, '_call', lambda module, *arguments: (tape.append((module, arguments)), 0)[1]
  )
  monkeypatch.setattr(
    paper_run,
    '_train',
    lambda arguments, folder, runner: (tape.append(('train', (*arguments, folder))), 0)[1],
  )
  settings = paper_run.Settings(scale=1e-5, levels=('pong', 'qbert'), episodes=3, trials=5)
  assert paper_run.run(EXPERIMENTS['table4'], str(tmp_path), settings) == 0
  kinds = [(name, arguments[-1]) for name, arguments in tape if name == 'train']
  folders = ['a3c_shallow', 'a3c_deep', 'impala_shallow', 'impala_deep']
  assert [folder for _, folder in kinds] == [
    os.path.join(str(tmp_path), 'atari57', folder, level)
    for folder in folders
    for level in ('pong', 'qbert')
  ]
  first = tape[0][1]
  assert {
    '--level_name=pong',
    '--total_environment_frames=2000',
    '--agent=shallow',
    '--architecture=a3c',
  } <= set(first)
  evaluations = [arguments for name, arguments in tape if name == 'atari57.evaluate']
  runs = os.path.join(str(tmp_path), 'atari57', 'impala_deep')
  output = f'--output={os.path.join(runs, "evaluation")}'
  # Not of others that may be in training there.
  assert evaluations[-1] == (f'--logdir={runs}', output, '--levels=pong,qbert', '--episodes=3')
  assert 'Left out' in capsys.readouterr().out

  tape.clear()
  only_one = dataclasses.replace(EXPERIMENTS['table4'], methods=EXPERIMENTS['table4'].methods[:1])
  assert (
    paper_run.run(only_one, str(tmp_path), dataclasses.replace(settings, levels=('/mine/of gold',)))
    == 0
  )
  assert tape[0][1][-1] == os.path.join(str(tmp_path), 'atari57', 'a3c_shallow', 'mine_of gold')

  tape.clear()
  settings = dataclasses.replace(
    settings, space={'epsilon': 'uniform(0.1,0.2)'}, sweep_seed=7, time_slice=900.0
  )
  without_sweeps = dataclasses.replace(
    EXPERIMENTS['table3'], methods=EXPERIMENTS['table3'].methods[4:]
  )
  assert (
    paper_run.run(without_sweeps, str(tmp_path), dataclasses.replace(settings, levels=None)) == 0
  )
  ((name, arguments),) = tape
  assert name == 'impala_tf.pbt'
  assert {
    '--population=5',
    '--level_name=dmlab30',
    '--total_environment_frames=100000',
    '--agent=deep',
  } <= set(arguments)
  assert {'--population_seed=7', '--space=epsilon=uniform(0.1,0.2)', '--time_slice=900.0'} <= set(
    arguments
  )
  # At this scale the paper's burn-in would be longer than the training.
  assert {'--burn_in_frames=200', '--episodes=1'} <= set(arguments)
  assert 'IMPALA, deep, PBT is not evaluated' in capsys.readouterr().out


def test_a_failure_shows_in_the_exit_code_and_a_signal_ends_all(monkeypatch):
  experiment = EXPERIMENTS['figureE3']
  for codes, expected, started in (
    ([0, 1], 1, 2),
    ([1, 0], 1, 2),
    ([143, 0], 143, 1),
    ([0, 0], 0, 2),
  ):
    remaining, count = list(codes), []
    monkeypatch.setattr(
      paper_run, '_sweep', lambda *args, r=remaining, c=count: (c.append(0), r.pop(0))[1]
    )
    assert paper_run.run(experiment, 'nowhere', SMALL) == expected
    assert len(count) == started


@pytest.mark.parametrize(
  ('name', 'given', 'message'),
  [
    ('table1', {'cluster': 2}, '--cluster=2: table1 measures what one machine does'),
    ('figureE1', {'cluster': 2}, 'all methods of figureE1 keep actors and learner in step'),
    ('table2', {'cluster': 'node7:x'}, "--cluster='node7:x' is not an address"),
    ('table2', {'cluster': 'node7:1', 'parallel': 2}, 'there is room for one learner at a time'),
    # What the population would refuse comes before the other rows are trained.
    ('table3', {'given': {'seed': 2}}, '--seed is set by the population itself'),
    ('table4', {'space': {'seed': 'uniform(1,9)'}}, 'seed is not changed by a population'),
    # And what a run would, before a folder is bound to it.
    ('table2', {'levels': ('pnog',)}, 'Did you mean pong?'),
    ('table3', {'given': {'batch_size': 0}}, 'batch_size=0'),
    ('table4', {'levels': ('pong', 'atari')}, "'atari' is neither"),
    (
      'figure4',
      {'levels': ('pong',), 'given': {'replay_fraction': 0.5}},
      '--replay_fraction must be left out',
    ),
    (
      'table1',
      {'given': {'num_actors': 10}},
      '--num_actors=10 does not divide the 32 environments of Batched A2C (sync step)',
    ),
    (
      'table1',
      {'given': {'envs_per_actor': 4}},
      'leave --envs_per_actor out, which follows from --num_actors',
    ),
  ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, name, given, message):
  with pytest.raises(ConfigurationError) as refused:
    paper_run.run(EXPERIMENTS[name], str(tmp_path), paper_run.Settings(**given))
  assert message in str(refused.value)
  assert list(tmp_path.iterdir()) == []


def test_what_can_be_a_cluster_is_one(tmp_path, monkeypatch, capsys):
  runners = {}
  note = lambda folder, runner: (runners.setdefault(os.path.relpath(folder, tmp_path), runner), 0)[
    1
  ]
  monkeypatch.setattr(
    paper_run, '_call', lambda module, *arguments: (runners.setdefault(module, arguments), 0)[1]
  )
  monkeypatch.setattr(paper_run, '_train', lambda arguments, folder, runner: note(folder, runner))
  monkeypatch.setattr(worker, 'run', lambda folder, sweep, parallel, runner: note(folder, runner))
  settings = paper_run.Settings(levels=('pong',), cluster=3, runner='my.own runner')
  launched = "impala_tf.launch --num_actor_processes=3 --runner='my.own runner'"
  assert paper_run.run(EXPERIMENTS['table4'], str(tmp_path), settings) == 0
  assert {folder: runner for folder, runner in runners.items() if folder.endswith('pong')} == {
    'atari57/a3c_shallow/pong': 'my.own runner',
    'atari57/a3c_deep/pong': 'my.own runner',
    'atari57/impala_shallow/pong': launched,
    'atari57/impala_deep/pong': launched,
  }
  assert (
    'On this machine alone, as they have no form for a cluster: A3C, shallow, experts; A3C'
    in capsys.readouterr().out
  )
  multi_task = dataclasses.replace(EXPERIMENTS['table4'], methods=EXPERIMENTS['table4'].methods[4:])
  assert paper_run.run(multi_task, str(tmp_path), dataclasses.replace(settings, levels=None)) == 0
  assert f'--runner={launched}' in runners['impala_tf.pbt']

  runners.clear()
  settings = dataclasses.replace(settings, cluster='node7:8470', runner='run_experiment')
  assert paper_run.run(EXPERIMENTS['figure4'], str(tmp_path), settings) == 0
  assert runners == {
    'sweeps/pong/impala': 'run_experiment --job_name=learner --learner_address=node7:8470',
    'sweeps/pong/a2c': 'run_experiment',
    'sweeps/pong/a3c': 'run_experiment',
  }
  assert paper_run.run(multi_task, str(tmp_path), dataclasses.replace(settings, levels=None)) == 0
  assert (
    'at --cluster=node7:8470 is room for one learner; let them take --time_slice'
    in capsys.readouterr().out
  )
  assert 'impala_tf.pbt' not in runners
  assert (
    paper_run.run(
      multi_task, str(tmp_path), dataclasses.replace(settings, levels=None, given={'seed': 2})
    )
    == 0
  )
  assert (
    paper_run.run(
      multi_task, str(tmp_path), dataclasses.replace(settings, levels=None, time_slice=60.0)
    )
    == 0
  )
  assert {
    '--time_slice=60.0',
    '--runner=run_experiment --job_name=learner --learner_address=node7:8470',
  } < {*runners['impala_tf.pbt']}


def test_a_cluster_is_checked_as_one():
  multi_task = dataclasses.replace(EXPERIMENTS['table4'], methods=EXPERIMENTS['table4'].methods[4:])
  # Each actor process has some of the 57 levels, one process alone would need them all.
  few = paper_run.Settings(given={'num_actors': 6})
  dataclasses.replace(few, cluster=10).check(multi_task)
  with pytest.raises(ConfigurationError, match='num_actors=6 must be at least 57'):
    few.check(multi_task)


def test_sweeps_are_given_what_was_asked_for(tmp_path, monkeypatch):
  asked = []
  monkeypatch.setattr(
    worker, 'run', lambda folder, sweep, **how: (asked.append((sweep, how['parallel'])), 0)[1]
  )
  settings = paper_run.Settings(
    levels=('pong',), trials=5, sweep_seed=7, parallel=3, given={'seed': 2}
  )
  assert paper_run.run(EXPERIMENTS['figureE3'], str(tmp_path), settings) == 0
  assert [parallel for _, parallel in asked] == [3, 3]
  (first, second) = (sweep for sweep, _ in asked)
  for sweep in (first, second):
    assert (sweep.num_trials, sweep.sweep_seed) == (5, 7)
    assert sweep.space == search_space.TABLE_D1
  assert second.given['q_estimate'] == 'baseline'
  assert second.given['seed'] == 2
  assert second.given['total_environment_frames'] == 10**9


def test_some_methods_only():
  chosen = paper_experiments.with_methods(EXPERIMENTS['figure4'], ['a3c', 'impala'])
  assert [method.folder for method in chosen.methods] == ['impala', 'a3c']
  assert paper_experiments.with_methods(EXPERIMENTS['figure4'], []) == EXPERIMENTS['figure4']


def test_flags_become_settings(monkeypatch):
  given = [
    '--scale=0.5',
    '--levels=pong,qbert',
    '--trials=5',
    '--space=seed=categorical(1,2)',
    '--sweep_seed=7',
    '--parallel=3',
  ]
  given += [
    '--episodes=4',
    '--seconds=1.5',
    '--repeats=2',
    '--warm_up_seconds=0',
    '--fake_environment',
    '--runner=my.own',
  ]
  values = own_flags.parse(
    monkeypatch, paper.define_flags, *given, '--cluster=6', '--batch_size=16'
  )
  assert paper._settings(values) == paper_run.Settings(
    scale=0.5,
    levels=('pong', 'qbert'),
    trials=5,
    space={'seed': 'categorical(1,2)'},
    sweep_seed=7,
    given={'batch_size': 16},
    parallel=3,
    episodes=4,
    benchmark=('--seconds=1.5', '--repeats=2', '--warm_up_seconds=0.0'),
    fake_environment=True,
    runner='my.own',
    cluster=6,
  )


def test_an_empty_folder_has_no_report(tmp_path):
  with pytest.raises(ConfigurationError, match='Nothing of the paper has run'):
    paper_report.write(str(tmp_path / 'runs'), str(tmp_path / 'report'))


def test_the_command_lists_and_refuses(tmp_path):
  run = lambda *arguments: subprocess.run(
    [sys.executable, '-m', 'impala_tf.paper', *arguments, f'--logdir={tmp_path}'],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  listed = run('list')
  assert listed.returncode == 0
  assert [line.split()[0] for line in listed.stdout.splitlines()] == list(EXPERIMENTS)
  for arguments, message in (
    (['run', 'table9'], "'table9' is none of the tables and figures: table1, table2"),
    (['run', 'table2', '--lags=1'], '--lags goes with figureE1'),
    (['run', 'figureE1', '--lags=1,x'], "--lags has 'x'"),
    (['run', 'table2', '--level_name=pong'], 'use --levels'),
    (
      ['run', 'figure4', '--methods=ppo'],
      "--methods has 'ppo', but those of figure4 are impala, a2c, a3c.",
    ),
    (
      ['run', 'table2', '--cluster=node7'],
      '--cluster=node7 is neither a number of actor processes',
    ),
    (['run', 'table2', '--cluster=0'], '--cluster=0 is neither'),
  ):
    refused = run(*arguments)
    assert refused.returncode == 1
    assert message in refused.stderr
  assert list(tmp_path.iterdir()) == []
  assert paper.listed().count('\n') == len(EXPERIMENTS) - 1


def test_folders_that_no_file_system_has_are_refused():
  with pytest.raises(ConfigurationError, match='gs://bucket/paper is no folder'):
    paper_run.run(EXPERIMENTS['table4'], 'gs://bucket/paper', paper_run.Settings())
