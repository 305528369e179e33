"""The reports on sweeps, from trials made up."""

import csv

import numpy as np
import pytest

from impala_tf.config import ConfigurationError
from impala_tf.sweeps import definition, report, search_space
from impala_tf.sweeps.definition import Sweep
from impala_tf.sweeps.study import Trial
from tests.support.run_files import write_episodes


def trial(number, state='finished', value=None, message='', **values):
  values = values or {'learning_rate': 0.001 * (number + 1), 'clip_global_norm': None}
  return Trial(number, values, state, value, message)


TRIALS = [
  trial(0, value=1.0),
  trial(1, value=5.0),
  trial(2, 'failed', message='Error: NaN'),
  trial(3, value=3.0),
  trial(4, 'pruned', value=-2.0),
  trial(5, 'waiting'),
]


@pytest.fixture
def sweep(tmp_path):
  for t in TRIALS:
    folder = tmp_path / 'sweep' / t.name
    folder.mkdir(parents=True)
    write_episodes(folder, [(100 * (i + 1), 'catch', t.value or 0.0) for i in range(10)])
  return str(tmp_path / 'sweep')


def test_sweeps_are_distinguished_by_their_labels(sweep, tmp_path):
  space = search_space.parse(['learning_rate=uniform(0,1)'])
  definition.check_or_save(sweep, Sweep({}, space, num_trials=2))
  found = report.read([sweep, f'again={sweep}'])
  assert [(label, folder, len(trials)) for label, (folder, trials) in found.items()] == [
    ('sweep', sweep, 2),
    ('again', sweep, 2),
  ]
  with pytest.raises(ConfigurationError, match="'sweep'"):
    report.read([sweep, sweep])
  with pytest.raises(ConfigurationError, match=str(tmp_path)):
    report.read([str(tmp_path)])


@pytest.mark.parametrize('name', ['sweep.json', 'journal.log'])
def test_damage_to_one_sweep_of_many_costs_that_sweep_only(tmp_path, caplog, name):
  for label in ('a', 'b'):
    (tmp_path / label).mkdir()
    space = search_space.parse(['learning_rate=uniform(0,1)'])
    definition.check_or_save(str(tmp_path / label), Sweep({}, space, num_trials=2))
  (tmp_path / 'a' / name).write_text('[]\n')
  assert list(report.read([f'{tmp_path}/a', f'{tmp_path}/b'])) == ['b']
  assert f'{tmp_path}/a/{name}' in caplog.text
  with pytest.raises(ConfigurationError, match=f'a/{name}'):
    report.read([f'{tmp_path}/a'])


def test_trials_with_a_return_are_ranked_pruned_ones_last():
  trials = [*TRIALS, trial(6, 'pruned', value=99.0)]
  assert [t.number for t in report.ranked(trials)] == [1, 3, 0, 6, 4]
  assert [t.number for t in report.finished(trials)] == [1, 3, 0]
  text = report.markdown({'ours': ('', trials)})
  assert 'Best final return 5, mean of the best 3 3.' in text
  assert '99 (pruned)' in text


@pytest.mark.parametrize('name', ['episodes.csv', 'score.json'])
def test_damage_to_a_trial_costs_its_row_only(sweep, tmp_path, name):
  (tmp_path / 'sweep' / 'trial_001' / name).write_bytes(b'\xff\n\xff\n')
  (tmp_path / 'sweep' / 'trial_005' / name).write_bytes(b'{"x\nx,y\n')
  shown = report.status(sweep, TRIALS).splitlines()
  assert len(shown) == 1 + len(TRIALS) + 1
  assert '1_000' in shown[1]
  assert ('damaged' in shown[2]) == (name == 'episodes.csv')
  text = report.write({'ours': (sweep, TRIALS)}, str(tmp_path / 'report'))
  assert 'Best final return 5, mean of the best 3 3.' in text


def test_files(sweep, tmp_path, figures):
  text = report.write({'ours': (sweep, TRIALS)}, str(tmp_path / 'report'))
  assert 'Best final return 5, mean of the best 3 3.' in text
  assert '6 trials: 3 finished, 1 failed, 1 pruned, 1 waiting.' in text
  cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines()]
  assert ['1', 'trial_001', '5', '0.002', 'none'] in cells
  assert ['', 'trial_002', 'failed', '0.003', 'none'] in cells
  # Each trial stands there once, those with a return first.
  assert [row[1] for row in cells if row[1:] and row[1].startswith('trial_')] == [
    f'trial_{number:03}' for number in (1, 3, 0, 4, 2, 5)
  ]
  with open(tmp_path / 'report' / 'trials.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert [row['final_return'] for row in rows] == ['1.0', '5.0', '', '3.0', '-2.0', '']
  assert [row['state'] for row in rows[:3]] == ['finished', 'finished', 'failed']
  (sorted_line,), (best_line, *_) = (figure.axes[0].get_lines() for figure in figures)
  assert np.array(sorted_line.get_data()).tolist() == [[1, 2, 3], [5.0, 3.0, 1.0]]
  np.testing.assert_allclose(best_line.get_ydata(), 3.0)


def test_the_curve_of_the_best_ends_where_the_shortest_of_them_does(tmp_path, figures):
  trials = [trial(0, value=1.0), trial(1, value=2.0)]
  for t, frames in zip(trials, ([100, 200, 300], [150, 200, 900]), strict=True):
    (tmp_path / t.name).mkdir()
    write_episodes(tmp_path / t.name, [(f, 'catch', t.value) for f in frames])
  report.draw_best({'ours': (str(tmp_path), trials)}, str(tmp_path / 'best.png'))
  (line,) = figures[0].axes[0].get_lines()
  assert (line.get_xdata()[0], line.get_xdata()[-1]) == (150, 300)
  np.testing.assert_allclose(line.get_ydata(), 1.5)


def test_status(sweep):
  lines = report.status(sweep, TRIALS).splitlines()
  assert lines[0].split() == [
    'trial',
    'state',
    'frames',
    'return',
    'learning_rate',
    'clip_global_norm',
  ]
  assert lines[2].split() == ['trial_001', 'finished', '1_000', '5', '0.002', 'none']
  assert lines[-1] == 'trial_002 failed: Error: NaN'
