"""The report on a population, from histories made up."""

import csv
import dataclasses

import pytest

from impala_tf.config import ConfigurationError
from impala_tf.pbt import __main__ as pbt
from impala_tf.pbt import folder, lineage, report
from impala_tf.pbt.population import Population
from tests.support import own_flags
from tests.support.histories import event

POPULATION = Population(population=2, given={'level_name': 'catch'}, space={})
# The second copied the first when that had 180 frames and it had 200 itself.
HISTORIES = {
  'member_000': [event(0, 0, 1.0), event(1, 100, 1.2, 10.0)],
  'member_001': [
    event(0, 0, 2.0),
    event(1, 200, 1.44, 20.0, ('member_000', 180, 1)),
    event(2, 260, 1.2, 60.0),
  ],
}


@pytest.fixture
def written(tmp_path):
  """The report's text, and its tables by name."""
  folder.define(str(tmp_path), POPULATION)
  for name, events in HISTORIES.items():
    (tmp_path / name).mkdir()
    for one in events:
      lineage.append(
        str(tmp_path / name),
        dataclasses.replace(one, changed=['learning_rate'] * bool(one.evaluation)),
      )
  text = report.write(str(tmp_path), str(tmp_path / 'report'))
  assert (tmp_path / 'report' / 'report.md').read_text() == text
  for name in ('ancestry.png', 'schedule.png'):
    assert (tmp_path / 'report' / name).read_bytes().startswith(b'\x89PNG')
  tables = {}
  for name in ('members', 'ancestry', 'schedule'):
    with open(tmp_path / 'report' / f'{name}.csv', newline='') as file:
      tables[name] = list(csv.reader(file))
  return text, tables


def test_the_best_agent_and_who_trained_it(written):
  text, _ = written
  assert 'that of member_001, of fitness 60 at its last evaluation' in text
  assert 'by member_000 (its frames 0 to 180), then by member_001 (its frames 200 to 260).' in text


def test_each_member_is_summed_up(written):
  header, *rows = written[1]['members']
  assert header == [
    'member',
    'evaluations',
    'copies',
    'changes',
    'first_fitness',
    'last_fitness',
    'learning_rate',
  ]
  assert rows == [
    ['member_000', '1', '0', '1', '10.0', '10.0', '1.2'],
    ['member_001', '2', '1', '2', '20.0', '60.0', '1.2'],
  ]


def test_curve_and_schedule_are_over_the_frames_of_the_weights(written):
  _, tables = written
  assert tables['ancestry'] == [
    ['frames', 'member', 'member_frames', 'fitness'],
    ['100', 'member_000', '100', '10.0'],
    ['240', 'member_001', '260', '60.0'],
  ]
  assert tables['schedule'] == [
    ['frames', 'member', 'member_frames', 'learning_rate'],
    ['0', 'member_000', '0', '1.0'],
    ['100', 'member_000', '100', '1.2'],
    ['180', 'member_001', '200', '1.44'],
    ['240', 'member_001', '260', '1.2'],
  ]


def test_a_member_that_has_copied_has_the_fitness_of_what_it_copied():
  copied = dataclasses.replace(
    event(1, 200, 1.0, 20.0, ('member_000', 180, 1)), opponent_fitness=60.0
  )
  histories = {'member_000': [event(1, 100, 1.0, 30.0)], 'member_001': [copied]}
  assert lineage.best_member(histories) == 'member_001'
  histories['member_001'] = [dataclasses.replace(copied, fitness=50.0, opponent_fitness=29.0)]
  assert lineage.best_member(histories) == 'member_000'


def test_a_report_of_nothing_is_refused(tmp_path):
  with pytest.raises(ConfigurationError, match=str(tmp_path)):
    report.write(str(tmp_path), str(tmp_path / 'report'))
  folder.define(str(tmp_path), POPULATION)
  with pytest.raises(ConfigurationError, match=str(tmp_path)):
    report.write(str(tmp_path), str(tmp_path / 'report'))


def test_the_command_reports_after_the_word(tmp_path, monkeypatch, capsys):
  calls = []
  monkeypatch.setattr(report, 'write', lambda *folders: calls.append(folders) or 'The report.\n')
  values = own_flags.parse(monkeypatch, pbt.define_flags, f'--logdir={tmp_path}')
  assert pbt.main(['pbt', 'report']) == 0
  assert calls == [(str(tmp_path), str(tmp_path / 'report'))]
  assert capsys.readouterr().out == 'The report.\n'
  assert pbt.main(['pbt', 'report', 'more']) == 1
  assert "'more'" in capsys.readouterr().err
  assert values.logdir == str(tmp_path)
