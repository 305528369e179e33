"""What defines a population, and when its members run, side by side and in turn.

The processes are stand-ins, but for one member.
"""

import dataclasses
import signal

import pytest

from impala_tf import config, saved_config
from impala_tf.cli import config_flags
from impala_tf.pbt import __main__ as pbt
from impala_tf.pbt import folder, lineage
from impala_tf.pbt.population import Population
from impala_tf.pbt.rules import Rules
from impala_tf.sweeps import search_space
from impala_tf.system import locks, machine, processes
from tests.support import own_flags
from tests.support.children import script
from tests.support.clock import Clock
from tests.support.processes import ROOT

CATCH = 'tests.support.catch:catch'
RULES = Rules(burn_in_frames=1000, episodes=100, threshold=5.0, probability=0.5, factor=1.2)
POPULATION = Population(
  population=2,
  seed=3,
  given={'level_name': CATCH, 'num_actors': 2, 'total_environment_frames': 4_000},
  space={
    'learning_rate': 'categorical(0.003,0.000001)',
    'entropy_cost': 'log_uniform(0.001,0.01)',
  },
  rules=RULES,
)


def test_first_values_are_the_samples_of_the_space_and_seeds_differ():
  space = {name: search_space.parse_one(name, form) for name, form in POPULATION.space.items()}
  samples = search_space.draw(space, 5, seed=3)
  for number in range(5):
    arguments = POPULATION.member_arguments(number)
    assert arguments[0] == '--population_member'
    assert set(config_flags.arguments(samples[number])) < set(arguments)
    assert {'--learning_rate_decay=none', f'--seed={3 + number}', f'--level_name={CATCH}'} < set(
      arguments
    )


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'space': {'decay': 'uniform(0.9,0.99)'}}, '--space=decay|decay '),
    ({'space': {'clip_global_norm': 'categorical(none,40)'}}, '--space=clip_global_norm'),
    ({'given': {'learning_rate': 0.1}}, '--learning_rate '),
    ({'given': {'seed': 3}}, '--seed '),
    ({'given': {'learning_rate_decay': 'linear'}}, '--learning_rate_decay '),
  ],
)
def test_what_makes_no_sense_is_refused(changes, message):
  with pytest.raises(config.ConfigurationError, match=message):
    dataclasses.replace(POPULATION, **changes)


def test_a_member_beyond_the_population_is_refused(tmp_path):
  with pytest.raises(config.ConfigurationError, match='--member=2 '):
    pbt.run(str(tmp_path), POPULATION, members=[2])


def test_flags_define_the_population(monkeypatch):
  calls = []
  monkeypatch.setattr(
    pbt, 'run', lambda path, population, **how: (calls.append((path, population, how)), 143)[1]
  )
  given = [
    f'--level_name={CATCH}',
    '--batch_size=4',
    '--population=3',
    '--population_seed=5',
    '--space=epsilon=categorical(0.1,0.2)',
  ]
  rules = {'burn_in_frames': 7, 'episodes': 8, 'threshold': 1.5, 'probability': 0.25, 'factor': 1.5}
  given += [f'--{name}={value}' for name, value in rules.items()]
  own_flags.parse(
    monkeypatch,
    pbt.define_flags,
    '--logdir=here',
    *given,
    '--member=0',
    '--time_slice=9',
    '--cluster=5',
  )
  assert pbt.main(['pbt']) == 143
  population = Population(
    population=3,
    seed=5,
    given={'level_name': CATCH, 'batch_size': 4},
    space={'epsilon': 'categorical(0.1,0.2)'},
    rules=Rules(**rules),
  )
  assert calls == [('here', population, {'members': [0], 'time_slice': 9.0, 'cluster': '5'})]


@pytest.mark.parametrize('given', ['--time_slice=9', '--member=0'])
def test_members_that_run_one_at_a_time_may_share_a_learners_address(monkeypatch, given):
  clusters = []
  monkeypatch.setattr(pbt, 'run', lambda *args, cluster, **how: (clusters.append(cluster), 0)[1])
  flags = ('--logdir=here', f'--level_name={CATCH}', '--cluster=node7:1', given)
  own_flags.parse(monkeypatch, pbt.define_flags, *flags)
  assert pbt.main(['pbt']) == 0
  assert clusters == ['node7:1']


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ([], '--level_name '),
    (['--level_name=pnog', '--population=2'], ' pong?'),
    ([f'--level_name={CATCH}', '--cluster=node7:1'], '--cluster=node7:1 '),
    ([f'--level_name={CATCH}', '--cluster=0'], '--cluster=0 '),
  ],
)
def test_a_population_without_a_level_is_refused_and_binds_no_folder(
  tmp_path, monkeypatch, capsys, given, message
):
  monkeypatch.setattr(pbt, 'run', lambda *args, **how: pytest.fail('It has started.'))
  own_flags.parse(monkeypatch, pbt.define_flags, f'--logdir={tmp_path}', *given)
  assert pbt.main(['pbt']) == 1
  assert message in capsys.readouterr().err
  assert list(tmp_path.iterdir()) == []


@pytest.fixture
def clock(monkeypatch):
  clock = Clock(0.0)
  monkeypatch.setattr(processes, 'time', clock)
  monkeypatch.setattr(processes, 'POLL_SECONDS', 0.25)  # Which floats have.
  return clock


def in_turn(starts, stop=False):
  with processes.Supervisor(stop) as children:
    return pbt.run_in_turn(starts, children, stop, seconds=10)


def test_members_take_turns_until_each_is_done(clock):
  members = [
    script(clock, (15, 0), (5, 0)),
    script(clock, (5, 0)),
    # Its folder is busy for all of its first turn.
    script(clock, *[locks.FolderBusyError] * 41, (25, 0), (10, 0)),
  ]
  assert in_turn({number: start for number, (start, _) in enumerate(members)})
  assert [started for _, started in members] == [[0, 25], [10], [30, 40]]


def test_a_member_that_fails_does_not_hold_up_the_others(clock, capsys):
  fails, lasts = script(clock, (5, 1)), script(clock, (12, 0), (2, 0))
  assert not in_turn({0: fails[0], 1: lasts[0]})
  assert lasts[1] == [5, 15]
  assert 'Member 0 ended with exit code 1:\nthe last lines' in capsys.readouterr().err


def test_a_member_that_was_killed_as_it_did_not_save_has_another_turn(clock):
  start, started = script(clock, (20, 0, -signal.SIGKILL), (5, 0))
  assert in_turn({0: start})
  assert started == [0, 10]


def test_a_member_that_is_killed_again_and_again_has_failed(clock, capsys):
  start, started = script(clock, *[(1, -signal.SIGKILL)] * 5)
  assert not in_turn({0: start})
  assert len(started) == 3
  assert 'Member 0 was killed by SIGKILL 3 times in a row' in capsys.readouterr().err


def test_a_slice_in_which_nothing_can_begin_is_refused(clock):
  start, _ = script(clock, (50, 0, -signal.SIGTERM))
  with pytest.raises(config.ConfigurationError, match=r'--time_slice .*10'):
    in_turn({0: start})


def test_a_member_that_was_restarted_late_in_its_slice_has_another_turn(clock):
  start, started = script(clock, (8, -signal.SIGKILL), (50, 0, -signal.SIGTERM), (5, 0))
  assert in_turn({0: start})
  assert started == [0, 9, 10]


def test_a_stop_ends_the_turns(clock):
  stop = []
  start, started = script(clock, (50, 0, -signal.SIGTERM))
  assert in_turn({0: lambda: (stop.append('now'), start())[1], 1: start}, stop)
  assert started == [0]


def test_members_side_by_side_go_on_when_one_fails(clock, capsys):
  with processes.Supervisor(False) as children:
    starts = {0: script(clock, (5, 1))[0], 1: script(clock, (20, 0))[0]}
    assert not pbt.run_together(starts, children)
  assert clock.now >= 20
  assert 'Member 0 ended with exit code 1:\nthe last lines' in capsys.readouterr().err
  with processes.Supervisor(False) as children:
    assert pbt.run_together({0: script(clock, (5, 0))[0]}, children)


def test_a_member_whose_folder_stays_busy_has_failed(clock, capsys):
  start, _ = script(clock, *[locks.FolderBusyError] * 1000)
  with processes.Supervisor(False) as children:
    assert not pbt.run_together({0: start}, children)
  assert 'Member 0 ' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('how', 'codes', 'expected'),
  [
    ({}, (0, 0), 0),
    ({}, (0, 1), 1),
    ({'members': [1]}, (0,), 0),
    ({'time_slice': 9.0}, (0, 1), 1),
  ],
)
def test_each_member_runs_in_its_folder(tmp_path, monkeypatch, clock, how, codes, expected):
  started, codes, shares = {}, list(codes), []

  def start(runner, arguments, folder, environment):
    started[folder] = (runner, arguments)
    shares.append(environment)
    return script(clock, (5, codes.pop(0)))[0]()

  monkeypatch.setattr(processes, 'RunProcess', start)
  monkeypatch.setattr(machine, 'environment_of_share', lambda *share: share)
  assert pbt.run(str(tmp_path), POPULATION, cluster='5', **how) == expected
  assert started == {
    str(tmp_path / f'member_00{number}'): (
      'impala_tf.launch --num_actor_processes=5',
      POPULATION.member_arguments(number),
    )
    for number in how.get('members', [0, 1])
  }
  together = [(0, 2, 1), (1, 2, 1)]
  assert shares == (together if how == {} else [(0, 1, 1)] * len(shares))


def test_a_member_of_a_population_is_a_run_that_evaluates_and_explores(tmp_path, monkeypatch):
  monkeypatch.chdir(ROOT)  # Where the runner is found.
  path = str(tmp_path)
  assert pbt.run(path, POPULATION, members=[1]) == 0
  ((name, events),) = folder.read_histories(path).items()
  assert name == 'member_001'
  assert [event.evaluation for event in events] == list(range(len(events)))
  assert len(events) > 2
  initial = saved_config.load(f'{path}/{name}')
  assert initial.seed == 4
  assert events[0].hyper_parameters == pytest.approx(
    {field: getattr(initial, field) for field in events[0].hyper_parameters}, rel=1e-6
  )
  assert all(event.frames > RULES.burn_in_frames for event in events[1:])
  assert sum(len(event.changed) for event in events) > 0
  assert lineage.best_member({name: events}) == name
