"""What is run for the paper's experiments: the commands, their order, and what failures do."""

import dataclasses
import json
import os
import pathlib
import shlex
import signal

import pytest

from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.paper import experiments, run
from impala_tf.paper.experiments import EXPERIMENTS
from impala_tf.paper.settings import PaperSettings
from impala_tf.pbt import lineage
from impala_tf.system import locks, processes
from tests.support.children import script
from tests.support.clock import Clock
from tests.support.run_files import make_run
from tests.support.sweeps import sweep_of

TABLE_3, TABLE_4 = EXPERIMENTS['table3'], EXPERIMENTS['table4']
SHALLOW, EXPERTS, POPULATION = TABLE_3.methods[1], TABLE_4.methods[3], TABLE_3.methods[4]


def only(name, *folders):
  return experiments.with_methods(EXPERIMENTS[name], folders)


def listed(experiment, logdir, codes=(), **settings):
  """The commands of an experiment as lists of words; they end with `codes` in turn, else well, or
  are not run with None.
  """
  codes, found = list(codes), []
  for command in run.commands(experiment, str(logdir), PaperSettings(**settings)):
    words = shlex.split(str(command))
    assert words[:2] == ['python', '-m']
    found.append(words[2:])
    command.code = codes.pop(0) if codes else 0
  return found


def flags_of(words):
  return dict(word.removeprefix('--').split('=', 1) for word in words if '=' in word)


def test_sweeps_of_all_methods_and_levels_have_the_same_samples(tmp_path):
  commands = listed(
    EXPERIMENTS['figureE3'],
    tmp_path,
    levels=('pong', 'qbert'),
    scale=0.01,
    trials=5,
    sweep_seed=7,
    parallel=3,
    space={'seed': 'uniform(1,9)', 'epsilon': 'categorical(0.1,0.2)'},
    given={'batch_size': 16},
  )
  assert [words[0] for words in commands] == ['impala_tf.sweeps'] * 4
  for words, (level, folder) in zip(
    commands,
    [(level, f) for level in ('pong', 'qbert') for f in ('impala', 'impala_q_baseline')],
    strict=True,
  ):
    assert {'--space=seed=uniform(1,9)', '--space=epsilon=categorical(0.1,0.2)'} < set(words)
    expected = {
      'level_name': level,
      'total_environment_frames': '10000000',
      'num_trials': '5',
      'sweep_seed': '7',
      'parallel': '3',
      'batch_size': '16',
      'logdir': str(tmp_path / 'sweeps' / level / folder),
    }
    assert flags_of(words).items() >= expected.items()
    assert ('--q_estimate=baseline' in words) == (folder == 'impala_q_baseline')


def test_sweeps_of_the_paper_have_table_d1_by_default(tmp_path):
  (words, *_) = listed(EXPERIMENTS['figureE3'], tmp_path, levels=('pong',))
  assert not any('space' in word or 'cluster' in word for word in words)
  assert '--total_environment_frames=1000000000' in words


def test_experts_are_trained_by_level_and_then_evaluated(tmp_path):
  levels = ('pong', 'qbert')
  commands = listed(TABLE_4, tmp_path, scale=1e-5, levels=levels, episodes=3)
  folders = ['a3c_shallow', 'a3c_deep', 'impala_shallow', 'impala_deep']
  runs = [tmp_path / 'atari57' / folder for folder in folders]
  assert [(words[0], flags_of(words)['logdir']) for words in commands] == [
    command
    for folder in runs
    for command in (
      ('impala_tf', str(folder / 'pong')),
      ('impala_tf', str(folder / 'qbert')),
      ('atari57.evaluate', str(folder)),
    )
  ]
  first = {'--level_name=pong', '--total_environment_frames=2000', '--agent=shallow'}
  assert first | {'--architecture=a3c'} <= set(commands[0])
  # Not of others that may be in training there.
  expected = {'--levels=pong,qbert', '--episodes=3', f'--output={runs[-1] / "evaluation"}'}
  assert expected <= set(commands[-1])


def test_agents_of_levels_with_slashes_have_folders_just_below_their_methods(tmp_path):
  (first, *_) = listed(only('table4', 'a3c_shallow'), tmp_path, levels=('/mine/of gold',))
  assert f'--logdir={tmp_path / "atari57" / "a3c_shallow" / "mine_of gold"}' in first


def test_an_agent_for_all_levels_is_left_out_where_some_are_given(tmp_path, capsys):
  assert listed(only('table4', 'impala_multitask'), tmp_path, levels=('pong',)) == []
  assert 'Left out' in capsys.readouterr().out


@pytest.mark.parametrize(('cards', 'is_run'), [(0, False), (7, False), (8, True)])
def test_eight_learners_are_left_out_where_there_are_fewer_cards(
  tmp_path, capsys, monkeypatch, cards, is_run
):
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', ','.join(map(str, range(cards))))
  commands = listed(only('table3', 'impala_deep_pbt_8'), tmp_path)
  assert [words[0] for words in commands] == ['impala_tf.pbt'] * is_run
  assert ['--num_learners=8' in words for words in commands] == [True] * is_run
  assert ('its 8 learners have a graphics card each' in capsys.readouterr().out) != is_run


def test_a_population_has_rules_of_the_same_scale(tmp_path, capsys):
  (words,) = listed(
    only('table3', 'impala_deep_pbt'),
    tmp_path,
    scale=1e-5,
    trials=5,
    space={'epsilon': 'uniform(0.1,0.2)'},
    sweep_seed=7,
    time_slice=900.0,
  )
  assert words[0] == 'impala_tf.pbt'
  expected = {'--population=5', '--population_seed=7', '--level_name=dmlab30', '--agent=deep'}
  expected |= {'--total_environment_frames=100000', '--space=epsilon=uniform(0.1,0.2)'}
  # At this scale the paper's burn-in would be longer than the training.
  expected |= {'--burn_in_frames=200', '--episodes=1', '--time_slice=900.0'}
  assert expected <= set(words)
  assert 'IMPALA, deep, PBT is not evaluated: no run' in capsys.readouterr().out


def members_of(folder, *fitnesses):
  """A population whose members have these fitnesses."""
  for number, fitness in enumerate(fitnesses):
    member = os.path.join(folder, f'member_{number:03d}')
    os.makedirs(member, exist_ok=True)
    lineage.append(
      member, lineage.Event(evaluation=number, frames=9, hyper_parameters={}, fitness=fitness)
    )


def test_the_best_trial_is_the_agent(tmp_path):
  folder = experiments.agents_folder(str(tmp_path), TABLE_3, SHALLOW)
  assert run.best_run(folder, SHALLOW) is None
  trials = sweep_of(folder, [1.0, 3.0, 2.0])
  assert run.best_run(folder, SHALLOW) == str(trials[1])


def test_the_best_member_is_the_agent(tmp_path):
  folder = experiments.agents_folder(str(tmp_path), TABLE_3, POPULATION)
  assert run.best_run(folder, POPULATION) is None
  members_of(folder, None, 7.0, 5.0)
  assert run.best_run(folder, POPULATION) == os.path.join(folder, 'member_001')


def test_an_agent_that_became_the_best_has_an_evaluation_of_its_own(tmp_path):
  folder = experiments.agents_folder(str(tmp_path), TABLE_3, POPULATION)
  for fitnesses, best in (((1.0, 7.0), 'member_001'), ((9.0,), 'member_000')):
    members_of(folder, *fitnesses)
    _, evaluation = listed(only('table3', 'impala_deep_pbt'), tmp_path)
    assert evaluation == [
      'dmlab30.evaluate',
      f'--logdir={os.path.join(folder, best)}',
      f'--output={os.path.join(folder, "evaluation", best)}',
    ]
    # The report has that of the agent which is best now.
    assert run.evaluation_folder(folder, POPULATION) == os.path.join(folder, 'evaluation', best)


def test_a_listing_of_a_whole_suite_names_few_runs_that_are_to_come(tmp_path, capsys):
  assert len(listed(only('table4', 'impala_deep'), tmp_path, [None] * 57)) == 57
  assert capsys.readouterr().out.count(str(tmp_path)) == 5


def test_what_failed_is_not_evaluated_yet_but_for_sweeps(tmp_path, capsys):
  # Or a half-trained agent would be in the way of the one to come.
  experts = listed(only('table4', 'impala_deep'), tmp_path, [0, 1], levels=('pong', 'qbert'))
  assert [words[0] for words in experts] == ['impala_tf'] * 2
  assert (
    f'experts is not evaluated before these are complete: {tmp_path}' in capsys.readouterr().out
  )

  members_of(experiments.agents_folder(str(tmp_path), TABLE_3, POPULATION), 1.0)
  assert len(listed(only('table3', 'impala_deep_pbt'), tmp_path, [1])) == 1
  assert 'is not evaluated before these are complete: ' in capsys.readouterr().out
  assert len(listed(only('table3', 'impala_deep_pbt'), tmp_path, [0])) == 2

  # A sweep has failed trials for good, and another one is the best.
  sweep = experiments.agents_folder(str(tmp_path), TABLE_3, SHALLOW)
  sweep_of(sweep, [1.0])
  assert len(listed(only('table3', 'impala_shallow'), tmp_path, [1])) == 2

  capsys.readouterr()
  pathlib.Path(sweep, 'sweep.json').write_text('[]')
  assert len(listed(only('table3', 'impala_shallow'), tmp_path, [1])) == 1
  assert f'{sweep}/sweep.json' in capsys.readouterr().out


@pytest.mark.parametrize(('frames', 'is_evaluated'), [(1999, False), (2000, True)])
def test_agents_are_evaluated_when_their_runs_are_complete(tmp_path, frames, is_evaluated):
  config = dataclasses.replace(suites.resolve('pong')[1], total_environment_frames=2000)
  suite = suites.find('pong')
  # Where commands are only listed, their codes are not known.
  make_run(suite, config, tmp_path / 'atari57' / 'impala_deep' / 'pong', frames)
  experts = listed(only('table4', 'impala_deep'), tmp_path, [None], levels=('pong',))
  assert [words[0] for words in experts] == ['impala_tf', 'atari57.evaluate'][: 1 + is_evaluated]

  # One that diverged is not in the way of a population's best.
  population = tmp_path / 'atari57' / 'impala_multitask'
  members_of(population, 1.0, 2.0)
  make_run(suite, config, population / 'member_001', frames)
  commands = listed(only('table4', 'impala_multitask'), tmp_path, [1])
  assert [words[0] for words in commands] == ['impala_tf.pbt', 'atari57.evaluate'][
    : 1 + is_evaluated
  ]


def test_what_can_be_a_cluster_is_one(tmp_path, capsys):
  experts = listed(TABLE_4, tmp_path, levels=('pong',), cluster='3')
  modules = {
    flags_of(words)['logdir']: words[:2] for words in experts if 'evaluate' not in words[0]
  }
  launched = ['impala_tf.launch', '--num_actor_processes=3']
  assert {folder.split('atari57/')[1]: words == launched for folder, words in modules.items()} == {
    'a3c_shallow/pong': False,
    'a3c_deep/pong': False,
    'impala_shallow/pong': True,
    'impala_deep/pong': True,
  }
  alone = 'On this machine alone, as they have no form for a cluster: A3C, shallow, experts; A3C'
  assert alone in capsys.readouterr().out

  (population, *_) = listed(only('table4', 'impala_multitask'), tmp_path, cluster='3')
  assert '--cluster=3' in population
  address = 'node7:8470'
  sweeps = listed(EXPERIMENTS['figure4'], tmp_path, levels=('pong',), cluster=address)
  assert [f'--cluster={address}' in words for words in sweeps] == [True, True, False, False]
  (expert, *_) = listed(only('table4', 'impala_deep'), tmp_path, levels=('pong',), cluster=address)
  learner = ['impala_tf', '--job_name=learner', f'--learner_address={address}']
  assert expert[:3] == learner


def test_members_at_one_address_must_take_turns(tmp_path, capsys):
  multi_task, address = only('table4', 'impala_multitask'), 'node7:8470'
  # What a population would refuse is not refused where there is none.
  assert listed(multi_task, tmp_path, cluster=address, given={'seed': 2}) == []
  assert 'let them take --time_slice' in capsys.readouterr().out
  (words, *_) = listed(multi_task, tmp_path, cluster=address, time_slice=60.0)
  assert {'--time_slice=60.0', f'--cluster={address}'} < set(words)


def test_what_was_measured_is_not_measured_again(tmp_path, capsys):
  settings = {'levels': ('pong',), 'given': {'batch_size': 4}, 'fake_environment': True}
  table1 = only('table1', 'a2c', 'impala_48')
  first, second = listed(table1, tmp_path, benchmark=('--seconds=0.1',), **settings)
  assert first[:2] == ['impala_tf.benchmark', 'train']
  assert {'--level_name=pong', '--fake_environment', '--seconds=0.1', '--batch_size=4'} < set(first)
  output = flags_of(first)['output']
  assert output == experiments.rate_file(str(tmp_path), 'pong', table1.methods[0], is_fake=True)

  given = PaperSettings(**settings).hyper_parameters(table1.methods[0])
  config = dataclasses.asdict(suites.resolve('pong', **given)[1])
  os.makedirs(os.path.dirname(output))
  with open(output, 'w') as file:
    machine = {'cores': 2, 'processor': 'Z80', 'tensorflow': '2.0'}
    result = {'frames_per_second': 1.0, 'cpu_seconds_per_1000_frames': 1.0}
    json.dump({'machine': machine, 'config': config, 'results': [result]}, file)
  assert [flags_of(words)['output'] for words in listed(table1, tmp_path, **settings)] == [
    flags_of(second)['output']
  ]
  assert 'was measured before' in capsys.readouterr().out
  deep = settings | {'given': {'batch_size': 4, 'agent': 'deep'}}
  with pytest.raises(ConfigurationError, match=r'agent: shallow .* deep'):
    listed(table1, tmp_path, **deep)


@pytest.fixture
def started(monkeypatch):
  """A function that has the commands end with the given codes, or with None at a signal to this
  process; it returns a list that gets what is started.
  """
  clock = Clock(0.0)
  monkeypatch.setattr(processes, 'time', clock)

  def prepare(*codes):
    codes, tape = list(codes), []

    def start(kind, *arguments):
      tape.append((kind, *arguments))
      code = codes.pop(0)
      if code is None:
        signal.raise_signal(signal.SIGTERM)
      return script(clock, (5, code))[0]()

    for kind in ('Child', 'RunProcess'):
      monkeypatch.setattr(processes, kind, lambda *arguments, kind=kind: start(kind, *arguments))
    return tape

  return prepare


@pytest.mark.parametrize(
  ('codes', 'expected'), [((0, 0), 0), ((0, 1), 1), ((1, 0), 1), ((None,), 143), ((1, None), 143)]
)
def test_a_failure_shows_in_the_exit_code_and_a_signal_ends_all(
  tmp_path, started, capsys, codes, expected
):
  tape = started(*codes)
  settings = PaperSettings(levels=('pong',))
  assert run.run(EXPERIMENTS['figureE3'], str(tmp_path), settings) == expected
  assert [(kind, module) for kind, module, _ in tape] == [('Child', 'impala_tf.sweeps')] * len(
    codes
  )
  printed = capsys.readouterr()
  assert printed.out.count('python -m impala_tf.sweeps --') == len(codes)
  assert ('impala_tf.sweeps ended with exit code 1' in printed.err) == (1 in codes)


def test_a_single_run_has_its_folder_and_its_code_decides_on_the_evaluation(tmp_path, started):
  tape = started(0, 1)
  settings = PaperSettings(levels=('pong', 'qbert'))
  assert run.run(only('table4', 'impala_deep'), str(tmp_path), settings) == 1
  folder = tmp_path / 'atari57' / 'impala_deep'
  assert [(kind, module, logdir) for kind, module, _, logdir in tape] == [
    ('RunProcess', 'impala_tf', str(folder / 'pong')),
    ('RunProcess', 'impala_tf', str(folder / 'qbert')),
  ]
  assert all(not any('logdir' in word for word in arguments) for _, _, arguments, _ in tape)


def test_a_folder_that_stays_busy_is_not_in_the_way_of_others(tmp_path, started, capsys):
  def busy(*arguments):
    raise locks.FolderBusyError('Another process trains there.')

  tape = started(0, 0)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(processes, 'RunProcess', busy)
    experts = only('table4', 'impala_deep')
    assert run.run(experts, str(tmp_path), PaperSettings(levels=('pong', 'qbert'))) == 1
  assert tape == []
  assert capsys.readouterr().err.count('Another process trains there.') == 2
