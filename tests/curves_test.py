"""Learning curves: what is read, averaged and drawn."""

import numpy as np
import pytest

from impala_tf import curves
from impala_tf.config import ConfigurationError
from tests.support.run_files import write_episodes

EPISODES = [(160, 'pong', -21.0), (320, 'qbert', 50.0), (480, 'pong', 5.5)]


@pytest.mark.parametrize('name', ['', 'episodes.csv'])
def test_reads_a_folder_or_its_file_by_level(tmp_path, name):
  write_episodes(tmp_path, EPISODES)
  run = curves.read_episodes(str(tmp_path / name))
  assert list(run) == ['pong', 'qbert']
  np.testing.assert_array_equal(run['pong'], [[160, 480], [-21.0, 5.5]])
  np.testing.assert_array_equal(run['qbert'], [[320], [50.0]])


def test_runs_have_their_folders_names_or_labels(tmp_path):
  for name in ('a/run', 'b/run'):
    (tmp_path / name).mkdir(parents=True)
    write_episodes(tmp_path / name, EPISODES)
  assert list(curves.read_runs([f'{tmp_path}/a/run/', f'other={tmp_path}/b/run'])) == [
    'run',
    'other',
  ]
  with pytest.raises(ConfigurationError, match="'run'"):
    curves.read_runs([f'{tmp_path}/a/run', f'{tmp_path}/b/run'])


def test_runs_of_one_label_and_those_in_a_folder_of_runs_are_seeds(tmp_path):
  for name in ('a', 'b', 'c'):
    (tmp_path / 'runs' / name).mkdir(parents=True)
    write_episodes(tmp_path / 'runs' / name, EPISODES)
    (tmp_path / 'runs' / name / 'config.json').write_text('{}')
  (tmp_path / 'runs' / 'report').mkdir()
  found = curves.read_runs([f'x={tmp_path}/runs/a', f'x={tmp_path}/runs/b', f'{tmp_path}/runs'])
  assert {label: len(runs) for label, runs in found.items()} == {'x': 2, 'runs': 3}


def test_damage_to_one_run_of_many_costs_that_run_only(tmp_path, caplog):
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()
    write_episodes(tmp_path / name, EPISODES)
  (tmp_path / 'a' / 'episodes.csv').write_bytes(b'\xff\n\xff\n')
  assert list(curves.read_runs([f'{tmp_path}/a', f'{tmp_path}/b'])) == ['b']
  assert f'{tmp_path}/a/episodes.csv' in caplog.text
  with pytest.raises(ConfigurationError, match=r'a/episodes\.csv'):
    curves.read_runs([f'{tmp_path}/a'])


def test_a_run_without_episodes_is_named(tmp_path):
  with pytest.raises(ConfigurationError, match=r'episodes\.csv'):
    curves.read_episodes(str(tmp_path))
  (tmp_path / 'episodes.csv').write_text('some,thing\nelse,entirely\n')
  with pytest.raises(ConfigurationError, match=r'episodes\.csv: line 2'):
    curves.read_episodes(str(tmp_path))
  write_episodes(tmp_path, [])
  with pytest.raises(ConfigurationError, match=r'episodes\.csv'):
    curves.read_episodes(str(tmp_path))


@pytest.fixture
def drawn(monkeypatch):
  """By title of a panel, the labels of its lines and their values; 'band' has that of the last
  band, [points, 2], and 'texts' those of references.
  """
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

  found = {'texts': []}
  save, fill = Figure.savefig, Axes.fill_between

  def keep(figure, *args, **kwargs):
    for axes in figure.axes:
      found[axes.get_title()] = {
        line.get_label(): np.array(line.get_ydata())
        for line in axes.get_lines()
        if not line.get_label().startswith('_')
      }
      found['texts'] += [text.get_text() for text in axes.texts]
    save(figure, *args, **kwargs)

  def keep_band(axes, x, low, high, **kwargs):
    found['band'] = np.stack([low, high], -1)
    return fill(axes, x, low, high, **kwargs)

  monkeypatch.setattr(Figure, 'savefig', keep)
  monkeypatch.setattr(Axes, 'fill_between', keep_band)
  return found


def test_draws_every_run_and_reference_in_the_panel_of_its_level(tmp_path, drawn):
  output = tmp_path / 'curve.png'
  run = (np.array([100, 200]), np.array([1.0, 3.0]))
  references = {'pong': {'random policy': -20.5}, 'qbert': {}}
  curves.draw(
    {'seed 1': [{'pong': run}], 'seed 2': [{'pong': run, 'qbert': run}]},
    str(output),
    references.get,
  )
  assert output.read_bytes().startswith(b'\x89PNG')
  assert set(drawn['pong']) == {'seed 1', 'seed 2'}
  assert set(drawn['qbert']) == {'seed 2'}
  np.testing.assert_allclose(drawn['pong']['seed 1'], [1.0, 2.0])
  assert drawn['texts'] == ['random policy -20.5']


def test_seeds_are_averaged_where_all_have_frames_with_a_band(tmp_path, drawn):
  seeds = [
    {'pong': (np.array([start, 300]), np.array([value, value]))}
    for start, value in ((0, -20.0), (100, 0.0), (50, 1.0), (0, 2.0), (0, 30.0))
  ]
  curves.draw({'ours': seeds}, str(tmp_path / 'a.png'), lambda level: {})
  values = drawn['pong']['ours, interquartile mean of 5 seeds']
  np.testing.assert_allclose(values, 1.0)  # The worst and the best do not count.
  assert drawn['band'].shape == (200, 2)
  assert (drawn['band'][:, 0] < 0).all()
  assert (drawn['band'][:, 1] > 2).all()

  curves.draw({'ours': seeds[1:4]}, str(tmp_path / 'c.png'), lambda level: {})
  np.testing.assert_allclose(drawn['pong']['ours, mean of 3 seeds'], 1.0)

  apart = [{'pong': (np.array([0, 9]), np.zeros(2))}, {'pong': (np.array([10, 20]), np.zeros(2))}]
  with pytest.raises(ConfigurationError, match='ours'):
    curves.draw({'ours': apart}, str(tmp_path / 'b.png'), lambda level: {})


def test_one_curve_over_levels_is_in_the_score_of_their_suite(tmp_path, drawn):
  # The human player's 14.6 is 100 %, the random one's -20.7 is 0.
  runs = [
    {
      'pong': (np.array([0, 100]), np.full(2, score)),
      'breakout': (np.array([0, 100]), np.full(2, 1.7)),
    }
    for score in (14.6, 14.6, -20.7, 14.6)
  ]
  curves.draw_normalised({'ours': runs}, str(tmp_path / 'a.png'))
  (values,) = drawn[''].values()
  # Of 0, 0, 0, 0, 0, 100, 100, 100 the middle four.
  np.testing.assert_allclose(values, 25.0, atol=1e-6)
  for name in ('gymnasium:CartPole-v1', 'seekavoid_arena_01'):  # The latter is none of the thirty.
    level = {name: (np.array([0, 100]), np.zeros(2))}
    with pytest.raises(ConfigurationError, match=name):
      curves.draw_normalised({'ours': [level]}, str(tmp_path / 'b.png'))
