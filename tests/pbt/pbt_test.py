"""Who runs when: members side by side and in turn. The processes are stand-ins, but for one
population of real ones.
"""

import csv
import functools
import itertools
import pathlib
import signal

import pytest

from impala_tf import config, config_flags, processes, saved_config
from impala_tf.pbt import command as pbt
from impala_tf.pbt import lineage, pbt_member, pbt_report
from impala_tf.sweeps import search_space
from tests.support import own_flags

RULES = {
  'burn_in_frames': 2000,
  'episodes': 300,
  'threshold': 5.0,
  'probability': 0.5,
  'factor': 1.2,
}
DEFINITION = {
  'population': 2,
  'seed': 3,
  'given': {
    'level_name': 'catch',
    'num_actors': 2,
    'total_environment_frames': 30_000,
    'checkpoint_interval': 2.0,
  },
  'space': {
    'learning_rate': 'categorical(0.003,0.000001)',
    'entropy_cost': 'log_uniform(0.001,0.01)',
  },
  'rules': RULES,
}


def test_first_values_are_the_samples_of_the_space_and_seeds_differ():
  space = {name: search_space.parse_one(name, form) for name, form in DEFINITION['space'].items()}
  samples = search_space.draw(space, 5, seed=3)
  for number in range(5):
    arguments = pbt.member_arguments(DEFINITION, number)
    assert arguments[0] == '--population_member'
    assert set(config_flags.arguments(samples[number])) < set(arguments)
    assert {'--learning_rate_decay=none', f'--seed={3 + number}', '--level_name=catch'} < set(
      arguments
    )


@pytest.mark.parametrize(
  ('changes', 'members', 'message'),
  [
    ({'space': {'decay': 'uniform(0.9,0.99)'}}, None, 'decay is not changed by a population'),
    ({'space': {'clip_global_norm': 'categorical(none,40)'}}, None, 'none is no number'),
    (
      {'given': {'level_name': 'catch', 'learning_rate': 0.1}},
      None,
      '--learning_rate is set by the population',
    ),
    ({'given': {'level_name': 'catch', 'seed': 3}}, None, '--seed is set by the population'),
    ({'rules': RULES | {'factor': 0.5}}, None, 'factor=0.5'),
    ({}, [2], '--member=2 is none of 0 to 1'),
  ],
)
def test_what_makes_no_sense_is_refused(tmp_path, changes, members, message):
  with pytest.raises(config.ConfigurationError, match=message):
    pbt.run(str(tmp_path), DEFINITION | changes, members=members)


def test_flags_define_the_population(monkeypatch):
  calls = []
  monkeypatch.setattr(
    pbt, 'run', lambda path, definition, **how: (calls.append((path, definition, how)), 143)[1]
  )
  given = [
    '--level_name=catch',
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
    '--runner=my.own',
  )
  assert pbt.main(['pbt']) == 143
  definition = {
    'population': 3,
    'seed': 5,
    'given': {'level_name': 'catch', 'batch_size': 4},
    'space': {'epsilon': 'categorical(0.1,0.2)'},
    'rules': rules,
  }
  assert calls == [('here', definition, {'members': [0], 'time_slice': 9.0, 'runner': 'my.own'})]


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ([], '--level_name is missing'),
    (['--level_name=pnog', '--population=2'], 'Did you mean pong?'),
  ],
)
def test_a_population_without_a_level_is_refused_and_binds_no_folder(
  tmp_path, monkeypatch, capsys, given, message
):
  own_flags.parse(monkeypatch, pbt.define_flags, f'--logdir={tmp_path}', *given)
  assert pbt.main(['pbt']) == 1
  assert message in capsys.readouterr().err
  assert list(tmp_path.iterdir()) == []


class Clock:
  """Time that passes by sleeping."""

  def __init__(self):
    self.now = 0.0

  def monotonic(self):
    return self.now

  def sleep(self, seconds):
    self.now += seconds


class Process:
  """Ends after so many seconds in total of all its starts, with a code; on `stop` with that of a
  run that saved.
  """

  def __init__(self, clock, needs, code, spent, when_stopped):
    self._clock, self._needs, self._code, self._when_stopped = clock, needs, code, when_stopped
    self._spent, self._start, self._stopped = spent, clock.now, None
    self.was_stopped = False

  def poll(self):
    if self._stopped is not None:
      return self._stopped
    return self._code if self.seconds() >= self._needs else None

  def seconds(self):
    return self._spent + self._clock.now - self._start

  def stop(self):
    self.was_stopped = True
    if self.poll() is None:
      self._stopped = self._when_stopped

  def wait_or_kill(self, timeout):
    del timeout
    return self.poll()

  def last_lines(self):
    return 'the last lines'


@pytest.fixture
def starts(monkeypatch):
  """Makes members that need so many seconds each, and gives the (time, member) of their starts."""
  clock, tape, spent = Clock(), [], {}
  monkeypatch.setattr(processes, 'time', clock)
  monkeypatch.setattr(processes, 'POLL_SECONDS', 0.25)

  def prepare(needs, codes=None, when_stopped=128 + signal.SIGTERM):
    def start(runner, arguments, folder):
      assert (runner, arguments[0]) == ('runner', '--population_member')
      number = int(folder.removeprefix('folder/member_'))
      if tape:  # What the one before has done counts for its next start.
        last, process = spent['last']
        spent[last] = process.seconds()
      code = (codes or {}).get(number, [0])
      process = Process(
        clock,
        needs[number],
        code.pop(0) if len(code) > 1 else code[0],
        spent.get(number, 0.0),
        when_stopped,
      )
      spent['last'] = (number, process)
      tape.append((round(clock.now), number))
      return process

    monkeypatch.setattr(processes, 'RunProcess', start)
    return tape

  return prepare


def test_members_take_turns_until_each_is_done(starts):
  tape = starts({0: 15, 1: 5, 2: 25})
  assert pbt.run_in_turn('folder', DEFINITION, [0, 1, 2], False, 'runner', seconds=10)
  assert tape == [(0, 0), (10, 1), (15, 2), (25, 0), (30, 2), (40, 2)]


def test_a_member_that_fails_does_not_hold_up_the_others(starts, capsys):
  tape = starts({0: 5, 1: 12}, codes={0: [1]})
  assert not pbt.run_in_turn('folder', DEFINITION, [0, 1], False, 'runner', seconds=10)
  assert tape == [(0, 0), (5, 1), (15, 1)]
  assert 'Member 0 ended with exit code 1:\nthe last lines' in capsys.readouterr().err


def test_a_member_that_fails_beside_others_is_reported(starts, capsys):
  starts({0: 5, 1: 100}, codes={0: [1]})
  assert not pbt.run_together('folder', DEFINITION, [0, 1], False, 'runner')
  assert 'Member 0 ended with exit code 1:\nthe last lines' in capsys.readouterr().err


def test_a_slice_in_which_nothing_can_begin_is_refused(starts):
  starts({0: 50}, when_stopped=-signal.SIGTERM)
  with pytest.raises(
    config.ConfigurationError, match=r'before it had begun\. Give a longer --time_slice than 10'
  ):
    pbt.run_in_turn('folder', DEFINITION, [0], False, 'runner', seconds=10)


IN_TURN = functools.partial(pbt.run_in_turn, seconds=10)


@pytest.mark.parametrize('run', [pbt.run_together, IN_TURN])
def test_a_member_that_is_killed_is_restarted_but_not_for_ever(starts, capsys, run):
  tape = starts({0: 5}, codes={0: [-signal.SIGKILL, 0]})
  assert run('folder', DEFINITION, [0], False, 'runner')
  assert [number for _, number in tape] == [0, 0]
  tape.clear()
  starts({1: 0}, codes={1: [-signal.SIGKILL]})
  assert not run('folder', DEFINITION, [1], False, 'runner')
  assert 'Member 1 was killed by SIGKILL 3 times in a row' in capsys.readouterr().err


def test_members_whose_folders_are_busy_in_their_turn_wait_for_the_next(starts, monkeypatch):
  tape = starts({0: 5, 1: 5})
  start = processes.RunProcess

  def busy_at_first(runner, arguments, folder):
    if folder.endswith('member_000') and processes.time.now < 12:
      raise processes.FolderBusyError('Another process trains there.')
    return start(runner, arguments, folder)

  monkeypatch.setattr(processes, 'RunProcess', busy_at_first)
  assert IN_TURN('folder', DEFINITION, [0, 1], False, 'runner')
  assert tape == [(10, 1), (15, 0)]


def test_a_population_of_real_runs_and_its_report(tmp_path, monkeypatch):
  monkeypatch.chdir(pathlib.Path(__file__).parents[2])  # Where the runner is found.
  path = str(tmp_path / 'population')
  assert pbt.run(path, DEFINITION, runner='tests.support.catch_experiment') == 0
  histories = {
    name: lineage.read(folder) for name, folder in pbt_member.member_folders(path).items()
  }
  assert list(histories) == ['member_000', 'member_001']
  for name, events in histories.items():
    assert [event.evaluation for event in events] == list(range(len(events)))
    assert len(events) > 5
    initial = saved_config.load(f'{path}/{name}')
    assert events[0].hyper_parameters == pytest.approx(
      {field: getattr(initial, field) for field in events[0].hyper_parameters}, rel=1e-6
    )
    assert all(event.frames > RULES['burn_in_frames'] for event in events[1:])
    for before, after in itertools.pairwise(events):
      moved = {
        n for n, value in after.hyper_parameters.items() if value != before.hyper_parameters[n]
      }
      assert after.copied_from or moved == set(after.changed)
  assert sum(len(event.changed) for event in histories['member_000']) > 1

  text = pbt_report.write(path, str(tmp_path / 'report'))
  best = pbt_report.best_member(histories)
  assert f'that of {best}' in text
  rows = lambda name: list(csv.DictReader((tmp_path / 'report' / name).read_text().splitlines()))
  assert [row['member'] for row in rows('members.csv')] == ['member_000', 'member_001']
  schedule = rows('schedule.csv')
  assert int(schedule[0]['frames']) == 0
  assert [int(r['frames']) for r in schedule] == sorted(int(r['frames']) for r in schedule)
  last = histories[best][-1]
  assert {n: float(schedule[-1][n]) for n in last.hyper_parameters} == last.hyper_parameters
  if last.copied_from is None:
    assert float(rows('ancestry.csv')[-1]['fitness']) == last.fitness
  for name in ('ancestry.png', 'schedule.png'):
    assert (tmp_path / 'report' / name).read_bytes().startswith(b'\x89PNG')


def test_a_report_of_nothing_is_refused(tmp_path):
  with pytest.raises(config.ConfigurationError, match='No population'):
    pbt_report.write(str(tmp_path), str(tmp_path / 'report'))
  pbt_member.define(str(tmp_path), DEFINITION)
  with pytest.raises(config.ConfigurationError, match=r'No member .* evaluated yet'):
    pbt_report.write(str(tmp_path), str(tmp_path / 'report'))
