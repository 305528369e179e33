"""Tests of the tables that put evaluations beside the paper's results."""

import csv

import numpy as np
import pytest

from atari57 import games, report
from impala_tf.config import ConfigurationError
from impala_tf.evaluation import results
from tests.support import columns, evaluations, own_flags, run_files

PROTOCOL = {'episodes_per_level': 2, 'seed': 1}


def save(folder, means, agent='deep', trained_on='atari57', protocol=PROTOCOL, **origin):
  """An evaluation with two games a level around the given means."""
  found = {
    name: evaluations.result(
      name,
      [mean - 1, mean + 1],
      trained_on=trained_on or name,
      agent=agent,
      weights=str(folder),
      episode_frames=[400, 600],
      **origin,
    )
    for name, mean in means.items()
  }
  results.Evaluation(dict(protocol), found).save(str(folder), {})
  return str(folder)


def paper(field):
  return {game.name: getattr(game, field) for game in games.all_games()}


def read(path):
  with open(path, newline='') as file:
    return list(csv.reader(file))


# Table 4 as printed.
@pytest.mark.parametrize(
  ('field', 'median', 'mean', 'standard_mean'),
  [
    ('impala_shallow_experts', '93.2', '466.4', '707.4'),
    ('impala_deep_experts', '191.8', '957.6', '1592.5'),
    ('impala_deep_multitask', '59.7', '176.9', '179.4'),
  ],
)
def test_papers_medians_and_means_follow_from_its_scores_to_the_digit(
  tmp_path, field, median, mean, standard_mean
):
  ours = save(tmp_path / 'ours', paper(field))
  report.write([ours], str(tmp_path / 'out'))
  rows = {row[0]: row for row in read(tmp_path / 'out' / 'table_4.csv')}
  printed = lambda cells: [f'{float(cell):.1f}' for cell in cells]
  assert printed(rows['IMPALA, deep, multi-task'][3:]) == [median, mean]
  found = {(row[0], row[1]): row for row in read(tmp_path / 'out' / 'statistics.csv')}
  label = report._TABLE_C1[field]
  for agent in (label, 'ours'):
    implied, standard = found[agent, "implied by the paper's means"], found[agent, 'standard']
    assert printed([implied[3], standard[3]]) == [median, median]
    assert printed([implied[6], standard[6]]) == [mean, standard_mean]
  kind = label.removeprefix('paper: ')
  assert rows[kind][1:3] == [median, mean]
  column = [row[0] for row in read(tmp_path / 'out' / 'table_c1.csv')[-3:]]
  assert column == [
    'human-normalised median, %',
    'human-normalised mean, %',
    "the same by the references that the paper's means imply, %",
  ]
  assert printed(row[-1] for row in read(tmp_path / 'out' / 'table_c1.csv')[-3:]) == [
    median,
    standard_mean,
    mean,
  ]


def test_columns_stand_beside_the_papers(tmp_path):
  multi_task = save(tmp_path / 'run' / 'evaluation', paper('impala_deep_multitask'))
  experts = [
    save(tmp_path / str(i), {name: mean}, agent='shallow', trained_on=None)
    for i, (name, mean) in enumerate(paper('impala_shallow_experts').items())
  ]
  text = report.write(
    [multi_task, *(f'57 nets={folder}' for folder in experts)], str(tmp_path / 'out')
  )
  assert text == (tmp_path / 'out' / 'report.md').read_text()
  table = read(tmp_path / 'out' / 'table_4.csv')
  assert table[0] == [
    'agent',
    'paper, median',
    'paper, mean',
    'run, median',
    'run, mean',
    '57 nets, median',
    '57 nets, mean',
  ]
  rows = {row[0]: row[1:] for row in table[1:]}
  assert list(rows) == list(report._TABLE_4)
  assert rows['A3C, deep, experts'] == ['117.9', '503.6', '', '', '', '']
  assert rows['Reactor, experts'] == ['187.0', '', '', '', '', '']
  assert rows['IMPALA, deep, multi-task'][4:] == rows['IMPALA, shallow, experts'][2:4] == ['', '']
  assert float(rows['IMPALA, shallow, experts'][4]) == pytest.approx(93.2, abs=0.05)
  table = read(tmp_path / 'out' / 'table_c1.csv')
  assert table[0][:5] == ['game', 'random', 'human', 'paper: ACKTR', 'paper: Reactor']
  for game, row in zip(games.all_games(), table[1:58], strict=True):
    assert row[0] == game.name
    assert [float(row[i]) for i in (1, 2, 5, 6, 7, 8, 9)] == pytest.approx(
      [
        game.random,
        game.human,
        game.impala_deep_multitask,
        game.impala_shallow_experts,
        game.impala_deep_experts,
        game.impala_deep_multitask,
        game.impala_shallow_experts,
      ]
    )
    assert row[3] == ('' if game.acktr is None else str(game.acktr))
  assert (tmp_path / 'out' / 'scores.png').read_bytes().startswith(b'\x89PNG')
  assert 'episodes_per_level' in text
  assert not (tmp_path / 'out' / 'curves.png').exists()
  assert not (tmp_path / 'out' / 'random.csv').exists()


def test_what_was_not_evaluated_stays_blank(tmp_path):
  means = paper('impala_deep_experts')
  del means['zaxxon']
  ours = save(tmp_path / 'ours', means, trained_on=None)
  text = report.write([ours], str(tmp_path / 'out'))
  assert all(row[3:] == ['', ''] for row in read(tmp_path / 'out' / 'table_4.csv')[1:])
  rows = {row[0]: row for row in read(tmp_path / 'out' / 'table_c1.csv')}
  assert rows['zaxxon'][-2:] == ['32935.5', '']
  assert rows['yars_revenge'][-1] == str(means['yars_revenge'])
  assert rows['human-normalised median, %'][-1] == ''
  assert 'ours: 56 of 57 games' in text
  assert 'ours' not in {row[0] for row in read(tmp_path / 'out' / 'statistics.csv')}
  assert 'nan' not in text.lower().split()


def test_without_evaluations_there_are_the_papers_tables(tmp_path):
  report.write([], str(tmp_path / 'out'))
  assert [row[0] for row in read(tmp_path / 'out' / 'table_4.csv')][1:] == list(report._TABLE_4)


def test_seeds_are_averaged_and_give_intervals(tmp_path):
  factors = (0.5, 1.0, 1.5, 2.0)
  seeds = [
    save(
      tmp_path / str(factor),
      {g.name: g.random + factor * (g.human - g.random) for g in games.all_games()},
    )
    for factor in factors
  ]
  report.write([f'ours={folder}' for folder in seeds], str(tmp_path / 'out'))
  (row,) = (r for r in read(tmp_path / 'out' / 'statistics.csv') if r[:2] == ['ours', 'standard'])
  assert row[2] == '4'
  median, mean, interquartile = ([float(cell) for cell in row[i : i + 3]] for i in (3, 6, 9))
  for point, low, high in (median, mean, interquartile):
    assert point == pytest.approx(125)
    assert low < 125 < high
  # Seeds are drawn independently in each of the games: the mean's standard error is 56 / sqrt(4 *
  # 57).
  deviation = 100 * np.std(factors)
  assert mean[2] - mean[1] == pytest.approx(2 * 1.96 * deviation / np.sqrt(4 * 57), rel=0.1)
  table = {r[0]: r for r in read(tmp_path / 'out' / 'table_c1.csv')}
  pong = games.find('pong')
  assert float(table['pong'][-1]) == pytest.approx(pong.random + 1.25 * (pong.human - pong.random))


def test_interquartile_mean_is_that_of_the_middle_half_of_all_games_and_seeds():
  scores = [
    np.array([0.0, 1000.0]),
    np.array([10.0, 20.0]),
    np.array([30.0, 40.0]),
    np.array([-99.0, 70.0]),
  ]
  assert report.interquartile_mean(*scores) == pytest.approx(np.mean([10, 20, 30, 40]))
  assert report.median(*scores) == pytest.approx(np.median([500, 15, 35, -14.5]))
  assert report.mean(*scores) == pytest.approx(np.mean([500, 15, 35, -14.5]))
  assert report.interval(report.mean, [np.array([1.0])] * 57) is None


def test_an_agent_of_some_games_is_a_multi_task_one(tmp_path):
  ours = save(tmp_path / 'ours', {'pong': 21.0, 'breakout': 300.0}, trained_on='pong+breakout')
  columns, _ = report.read_columns([ours])
  assert columns[0].kind == 'IMPALA, deep, multi-task'


def test_an_agent_stands_in_the_row_of_its_method(tmp_path):
  ours = save(tmp_path / 'ours', {'pong': 21.0}, trained_on=None, method='A3C')
  columns, _ = report.read_columns([ours])
  assert columns[0].kind == 'A3C, deep, experts'


def test_random_policy_stands_beside_the_references(tmp_path):
  means = {game.name: game.random for game in games.all_games()} | {'pong': 14.6, 'boxing': 1.3}
  evaluated = save(tmp_path / 'random', means, agent='random', trained_on=None)
  text = report.write([evaluated, f'again={evaluated}'], str(tmp_path / 'out'))
  header, first, second, *rest = read(tmp_path / 'out' / 'random.csv')
  assert header[:5] == ['evaluation', 'game', 'mean return', 'standard error', 'reference']
  assert first == ['random', 'pong', '14.6', '1.0', '-20.7', '35.3', '100.0', '500.0']
  assert second[:2] == ['random', 'boxing']
  assert float(second[5]) == pytest.approx(1.2)
  assert [row[0] for row in rest] == ['random'] * 55 + ['again'] * 57
  assert '## random: the random policy beside the references' in text
  assert read(tmp_path / 'out' / 'table_4.csv')[-1][:3] == ['random policy', '', '']


def test_distance_to_a_reference_is_in_standard_errors():
  # A mean of -17.7, which is 3 above pong's reference, with a standard error of 5.
  result = evaluations.result('pong', [-22.7, -12.7], agent='random', episode_frames=[400, 800])
  _, row = report.random_table({'pong': [result]})
  assert row == ['pong', *map(pytest.approx, (-17.7, 5.0, -20.7, 3 / 5, 100 * 3 / 35.3, 600.0))]


def test_learning_curves_of_runs(tmp_path):
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()
    run_files.write_episodes(tmp_path / name, [(640, 'pong', -21.0)])
  runs = [str(tmp_path / 'a'), f'other={tmp_path / "b"}']
  report.write([], str(tmp_path / 'out'), runs)
  assert (tmp_path / 'out' / 'curves.png').read_bytes().startswith(b'\x89PNG')
  assert report._references('pong') == {'random': -20.7, 'human': 14.6}
  with pytest.raises(ConfigurationError, match=r'nothing/episodes\.csv'):
    report.write([], str(tmp_path / 'none'), [str(tmp_path / 'nothing')])
  assert not (tmp_path / 'none').exists()


def test_what_does_not_fit_together_is_refused(tmp_path):
  one = save(tmp_path / 'one', {'pong': 1.0})
  other = save(tmp_path / 'other', {'qbert': 1.0}, protocol=PROTOCOL | {'seed': 2})
  arena = save(tmp_path / 'arena', {'seekavoid_arena_01': 1.0})
  with pytest.raises(ConfigurationError, match=r"'a'.* agent .*pong"):
    report.read_columns([f'a={one}', f'a={one}'])
  with pytest.raises(ConfigurationError, match=r"'a'.*seed: "):
    report.read_columns([f'a={one}', f'a={other}'])
  with pytest.raises(ConfigurationError, match='seekavoid_arena_01'):
    report.read_columns([arena])
  with pytest.raises(ConfigurationError, match='No evaluation in'):
    report.read_columns([str(tmp_path / 'nothing')])
  text = (tmp_path / 'one' / 'results.json').read_text()
  (tmp_path / 'one' / 'results.json').write_text(text[: len(text) // 2])
  with pytest.raises(ConfigurationError, match=r'results\.json'):
    report.read_columns([one])


def test_command(tmp_path, monkeypatch, capsys):
  ours = save(tmp_path / 'run' / 'evaluation', paper('impala_deep_multitask'))
  flags = [f'--evaluations={ours}', f'--output={tmp_path / "out"}']
  own_flags.parse(monkeypatch, report.define_flags, *flags)
  assert report.main(['report']) == 0
  printed = capsys.readouterr().out
  assert printed == (tmp_path / 'out' / 'report.md').read_text()
  assert '191.8' in printed


def test_table_4_is_the_papers():
  medians = {kind: median for kind, (median, _) in report._TABLE_4.items()}
  means = {kind: mean for kind, (_, mean) in report._TABLE_4.items()}
  # A3C's medians are the commonly quoted ones.
  assert columns.pin(medians) == (6, 704.5, 'aaec1df2336e')
  assert columns.pin(means) == (5, 2390.4, '91b32fdf5386')
