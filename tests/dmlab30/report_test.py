"""Tests of the tables that put evaluations beside the paper's results."""

import csv

import pytest

from dmlab30 import levels, report
from impala_tf.config import ConfigurationError
from impala_tf.evaluation import results
from impala_tf.paper.experiments import EXPERIMENTS
from tests.support import columns, evaluations, own_flags

PROTOCOL = {'episodes_per_level': 2, 'seed': 1}


def save(folder, means, agent='deep', trained_on='dmlab30', protocol=PROTOCOL, **origin):
  """An evaluation with two episodes a level around the given means."""
  found = {
    name: evaluations.result(
      name,
      [mean - 1, mean + 1],
      trained_on=trained_on or name,
      agent=agent,
      weights=str(folder),
      **origin,
    )
    for name, mean in means.items()
  }
  results.Evaluation(dict(protocol), found).save(str(folder), {})
  return str(folder)


def paper_column():
  return {level.test_name: level.paper_impala for level in levels.all_levels()}


def read(path):
  with open(path, newline='') as file:
    return list(csv.reader(file))


def test_complete_evaluation_stands_beside_the_paper(tmp_path):
  ours = save(tmp_path / 'run' / 'evaluation', paper_column())
  text = report.write([ours], str(tmp_path / 'out'))
  assert text == (tmp_path / 'out' / 'report.md').read_text()
  table = read(tmp_path / 'out' / 'table_3.csv')
  assert table[0] == ['agent', 'paper', 'run']
  assert {row[0]: row[1:] for row in table[1:] if row[0] != 'IMPALA, deep'} == {
    'A3C, deep': ['23.8', ''],
    'IMPALA, shallow': ['37.1', ''],
    'IMPALA-Experts, deep': ['44.5', ''],
    'IMPALA, deep, PBT': ['49.4', ''],
    'IMPALA, deep, PBT, 8 learners': ['49.1', ''],
  }
  (row,) = (row for row in table if row[0] == 'IMPALA, deep')
  assert row[1] == '46.5'
  assert float(row[2]) == pytest.approx(49.36, abs=0.02)
  table = read(tmp_path / 'out' / 'table_b1.csv')
  assert table[0] == [
    'level',
    'human',
    'random',
    'paper: IMPALA-Experts, deep',
    'paper: IMPALA, deep, PBT',
    'run',
  ]
  assert [row[0] for row in table[1:31]] == [level.test_name for level in levels.all_levels()]
  for level, row in zip(levels.all_levels(), table[1:31], strict=True):
    expected = [
      level.human_paper,
      level.random_paper,
      level.paper_experts,
      level.paper_impala,
      level.paper_impala,
    ]
    assert [float(cell) for cell in row[1:]] == pytest.approx(expected)
  scores = [[float(cell) for cell in row[3:]] for row in table[31:]]
  assert scores[0] == pytest.approx([44.45, 49.36, 49.36], abs=0.02)
  assert scores[1] == pytest.approx([45.75, 50.06, 50.06], abs=0.02)
  assert (tmp_path / 'out' / 'scores.png').read_bytes().startswith(b'\x89PNG')
  assert '|  49.4 |' in text
  assert 'episodes_per_level' in text


def test_what_was_not_evaluated_stays_blank(tmp_path):
  means = paper_column()
  del means['rooms_watermaze']
  ours = save(tmp_path / 'run' / 'evaluation', means)
  text = report.write([ours], str(tmp_path / 'out'))
  assert all(row[2] == '' for row in read(tmp_path / 'out' / 'table_3.csv')[1:])
  rows = {row[0]: row for row in read(tmp_path / 'out' / 'table_b1.csv')}
  assert rows['rooms_watermaze'][-2:] == ['31.1', '']
  assert rows['natlab_fixed_large_map'][-1] == '12.2'
  assert [row[-1] for row in list(rows.values())[31:]] == ['', '']
  assert '- run: 29 of 30 levels' in text
  assert 'nan' not in text.lower().split()


def test_without_evaluations_there_are_the_papers_tables(tmp_path):
  report.write([], str(tmp_path / 'out'))
  assert [row[0] for row in read(tmp_path / 'out' / 'table_3.csv')][1:] == list(report._TABLE_3)
  assert (tmp_path / 'out' / 'scores.png').exists()


def test_several_columns_and_experts_from_many_folders(tmp_path):
  shallow = save(tmp_path / 'shallow', paper_column(), agent='shallow')
  experts = [
    save(tmp_path / str(i), {name: mean}, trained_on=None)
    for i, (name, mean) in enumerate(paper_column().items())
  ]
  report.write(
    [f'one net={shallow}', *(f'thirty nets={folder}' for folder in experts)], str(tmp_path / 'out')
  )
  table = {row[0]: row[1:] for row in read(tmp_path / 'out' / 'table_3.csv')}
  assert table['agent'] == ['paper', 'one net', 'thirty nets']
  assert table['IMPALA, shallow'][2] == table['IMPALA-Experts, deep'][1] == ''
  assert float(table['IMPALA, shallow'][1]) == pytest.approx(49.36, abs=0.02)
  assert float(table['IMPALA-Experts, deep'][2]) == pytest.approx(49.36, abs=0.02)


def test_shallow_experts_have_a_row_that_the_paper_has_not(tmp_path):
  shallow = save(tmp_path / 'shallow', paper_column(), agent='shallow', trained_on=None)
  report.write([shallow], str(tmp_path / 'out'))
  row = read(tmp_path / 'out' / 'table_3.csv')[-1]
  assert row[:2] == ['IMPALA-Experts, shallow', '']
  assert float(row[2]) > 49


@pytest.mark.parametrize(
  ('kind', 'origin'),
  [
    ('A3C, deep', {'method': 'A3C'}),
    ('A3C-Experts, deep', {'method': 'A3C', 'trained_on': None}),
    ('IMPALA, deep, PBT', {'method': 'IMPALA', 'is_of_population': True}),
    ('IMPALA, deep, PBT, 8 learners', {'is_of_population': True, 'num_learners': 8}),
  ],
)
def test_an_agent_stands_in_the_row_of_its_method(tmp_path, kind, origin):
  columns, _ = report.read_columns([save(tmp_path / 'ours', paper_column(), **origin)])
  assert columns[0].kind == kind


def test_other_levels_have_a_table_of_their_own(tmp_path):
  ours = save(tmp_path / 'arena', {'seekavoid_arena_01': 43.8}, trained_on='seekavoid_arena_01')
  text = report.write([ours], str(tmp_path / 'out'))
  assert '| seekavoid_arena_01 |  43.8 |' in text
  assert 'seekavoid_arena_01' not in (tmp_path / 'out' / 'table_b1.csv').read_text()


def test_evaluations_with_one_label_are_seeds(tmp_path):
  # Each seed is capped by itself: a level far above its cap makes up for no worse seed.
  worse = {level.test_name: level.random_paper for level in levels.all_levels()}
  better = {level.test_name: 2 * level.human_paper for level in levels.all_levels()}
  folders = [save(tmp_path / str(i), means) for i, means in enumerate((worse, better, better))]
  report.write([f'ours={folder}' for folder in folders], str(tmp_path / 'out'))
  header, row = read(tmp_path / 'out' / 'statistics.csv')
  assert header == ['agent', 'seeds', 'mean capped', 'low', 'high']
  assert row[:2] == ['ours', '3']
  score, low, high = map(float, row[2:])
  assert score == pytest.approx(200 / 3)
  assert 0 < low < score < high < 100
  rows = {row[0]: row[-1] for row in read(tmp_path / 'out' / 'table_b1.csv')}
  level = levels.get('rooms_watermaze')
  assert float(rows[level.test_name]) == pytest.approx(
    (level.random_paper + 4 * level.human_paper) / 3
  )


def test_what_does_not_fit_together_is_refused(tmp_path):
  one = save(tmp_path / 'one', {'rooms_watermaze': 1.0})
  two = save(tmp_path / 'two', {'rooms_watermaze': 1.0})  # A seed beside `one`.
  other = save(tmp_path / 'other', {'natlab_fixed_large_map': 1.0}, protocol=PROTOCOL | {'seed': 2})
  with pytest.raises(ConfigurationError, match=r"'a'.* agent .*rooms_watermaze"):
    report.read_columns([f'a={one}', f'a={one}'])
  with pytest.raises(ConfigurationError, match=r"'a'.*seed: "):
    report.read_columns([f'a={one}', f'a={other}'])
  with pytest.raises(ConfigurationError, match='No evaluation in'):
    report.read_columns([str(tmp_path / 'nothing')])
  columns, _ = report.read_columns([one, two + '/results.json', f'a={other}'])
  assert [column.label for column in columns] == ['one', 'two', 'a']
  ((column,), _) = report.read_columns([f'a={one}', f'a={two}'])
  assert column.means == {'rooms_watermaze': [1.0, 1.0]}


def test_command(tmp_path, monkeypatch, capsys):
  ours = save(tmp_path / 'run' / 'evaluation', paper_column())
  flags = [f'--evaluations={ours}', f'--output={tmp_path / "out"}']
  own_flags.parse(monkeypatch, report.define_flags, *flags)
  assert report.main(['report']) == 0
  assert capsys.readouterr().out == (tmp_path / 'out' / 'report.md').read_text()


def test_each_row_of_table_3_can_be_run():
  assert set(report._TABLE_3) == {method.label for method in EXPERIMENTS['table3'].methods}


def test_table_3_is_the_papers():
  assert columns.pin(report._TABLE_3) == (6, 250.4, 'd4784cf76334')
