"""Histories of populations, and the ancestry of an agent, by hand."""

import pytest

from impala_tf.pbt import lineage
from tests.support.histories import event

# c copied b when they were at 300 and 250 frames; b had copied a when they were at 200 and 180.
HISTORIES = {
  'a': [event(0, 0, 1.0), event(1, 100, 1.2, 10.0), event(2, 210, 1.0, 50.0)],
  'b': [event(0, 0, 2.0), event(1, 200, 1.44, 20.0, ('a', 180, 1)), event(2, 260, 1.2, 60.0)],
  'c': [
    event(0, 0, 3.0),
    event(1, 90, 3.6, 5.0),
    event(2, 300, 1.7, 6.0, ('b', 250, 1)),
    event(3, 400, 1.7, 70.0),
  ],
}


def curve(segments):
  return [
    (frames, name, event.frames, event.fitness) for frames, name, event in lineage.curve(segments)
  ]


def test_ancestry_follows_the_weights_through_copies_of_copies():
  segments = lineage.ancestry(HISTORIES, 'c')
  assert [segment[:4] for segment in segments] == [
    ('a', 0, 180, 0),
    ('b', 200, 250, 180),
    ('c', 300, 400, 230),
  ]
  # a's evaluation of 210 and b's of 260 came after they were copied; what c measured before its
  # copy was another agent's.
  assert curve(segments) == [(100, 'a', 100, 10.0), (330, 'c', 400, 70.0)]
  assert [
    (frames, name, event.frames, event.hyper_parameters['learning_rate'])
    for frames, name, event in lineage.schedule(segments)
  ] == [
    (0, 'a', 0, 1.0),
    (100, 'a', 100, 1.2),
    (180, 'b', 200, 1.44),
    (230, 'c', 300, 1.7),
    (330, 'c', 400, 1.7),
  ]


def test_an_agent_that_never_copied_has_one_segment():
  segments = lineage.ancestry(HISTORIES, 'a', end=230)
  assert [segment[:4] for segment in segments] == [('a', 0, 230, 0)]
  assert curve(segments) == [(100, 'a', 100, 10.0), (210, 'a', 210, 50.0)]


def test_two_members_that_copied_each_other():
  histories = {
    'a': [event(0, 0, 1.0), event(1, 50, 1.0, 1.0), event(2, 100, 1.0, 2.0, ('b', 90, 1))],
    'b': [event(0, 0, 2.0), event(1, 60, 2.0, 9.0, ('a', 55, 1))],
  }
  assert [s[:4] for s in lineage.ancestry(histories, 'a')] == [
    ('a', 0, 55, 0),
    ('b', 60, 90, 55),
    ('a', 100, 100, 85),
  ]


def test_a_history_that_is_missing_or_contradicts_itself_ends_the_ancestry():
  histories = {name: HISTORIES[name] for name in ('b', 'c')}
  assert [s[:4] for s in lineage.ancestry(histories, 'c')] == [
    ('b', 200, 250, 0),
    ('c', 300, 400, 50),
  ]
  assert lineage.ancestry({}, 'c') == []
  circle = {
    'a': [event(0, 0, 1.0), event(1, 10, 1.0, 1.0, ('b', 10, 1))],
    'b': [event(0, 0, 1.0), event(1, 10, 1.0, 1.0, ('a', 10, 1))],
  }
  assert [s.member for s in lineage.ancestry(circle, 'a')] == ['b', 'a']


def test_files_of_events(tmp_path):
  folder = str(tmp_path)
  assert lineage.read(folder) == []
  for one in HISTORIES['b']:
    lineage.append(folder, one)
  assert lineage.read(folder) == HISTORIES['b']


@pytest.mark.parametrize('junk', ['{"evaluation": 3, "fra', '[1]', '{"evaluation": 3}', 'null'])
def test_torn_lines_are_passed_over_and_repaired(tmp_path, junk):
  folder = str(tmp_path)
  for one in HISTORIES['b']:
    lineage.append(folder, one)
  path = tmp_path / lineage.FILE_NAME
  path.write_text(path.read_text() + junk)
  assert lineage.read(folder) == HISTORIES['b']
  lineage.repair(folder, 1)
  assert lineage.read(folder) == HISTORIES['b'][:2]
  lineage.append(folder, HISTORIES['a'][2])
  assert lineage.read(folder) == [*HISTORIES['b'][:2], HISTORIES['a'][2]]
