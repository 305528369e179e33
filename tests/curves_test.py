"""Learning curves: what is read, averaged and drawn."""

import numpy as np
import pytest

from impala_tf import curves
from impala_tf.config import ConfigurationError

CSV = (
  'frames,level,episode_return,episode_frames\n'
  '160,pong,-21.0,3000\n320,qbert,50.0,3100\n480,pong,5.5,9000\n'
)


@pytest.mark.parametrize('name', ['', 'episodes.csv'])
def test_reads_a_folder_or_its_file_by_level(tmp_path, name):
  (tmp_path / 'episodes.csv').write_text(CSV)
  run = curves.read_episodes(str(tmp_path / name))
  assert list(run) == ['pong', 'qbert']
  np.testing.assert_array_equal(run['pong'], [[160, 480], [-21.0, 5.5]])
  np.testing.assert_array_equal(run['qbert'], [[320], [50.0]])


def test_runs_have_their_folders_names_or_labels(tmp_path):
  for name in ('a/run', 'b/run'):
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / name / 'episodes.csv').write_text(CSV)
  assert list(curves.read_runs([f'{tmp_path}/a/run/', f'other={tmp_path}/b/run'])) == [
    'run',
    'other',
  ]
  with pytest.raises(ConfigurationError, match="Two runs are called 'run'"):
    curves.read_runs([f'{tmp_path}/a/run', f'{tmp_path}/b/run'])


def test_a_run_without_episodes_is_named(tmp_path):
  with pytest.raises(ConfigurationError, match=r'has no episodes yet'):
    curves.read_episodes(str(tmp_path))
  (tmp_path / 'episodes.csv').write_text('some,thing\nelse,entirely\n')
  with pytest.raises(ConfigurationError, match=r"Can't read .* as the episodes of a run"):
    curves.read_episodes(str(tmp_path))
  (tmp_path / 'episodes.csv').write_text(CSV.splitlines(keepends=True)[0])
  with pytest.raises(ConfigurationError, match=r'episodes.csv has no episodes yet'):
    curves.read_episodes(str(tmp_path))


def test_draws_every_run_and_reference_in_the_panel_of_its_level(tmp_path, monkeypatch):
  from matplotlib.figure import Figure

  drawn = {}
  save = Figure.savefig

  def keep(figure, *args, **kwargs):
    for axes in figure.axes:
      lines = ((line.get_label(), np.array(line.get_ydata())) for line in axes.get_lines())
      drawn[axes.get_title()] = {
        label: values for label, values in lines if not label.startswith('_')
      }
    save(figure, *args, **kwargs)

  monkeypatch.setattr(Figure, 'savefig', keep)
  output = tmp_path / 'curve.png'
  run = (np.array([100, 200]), np.array([1.0, 3.0]))
  references = {'pong': {'random policy': -20.5}, 'qbert': {}}
  curves.draw(
    {'seed 1': {'pong': run}, 'seed 2': {'pong': run, 'qbert': run}}, str(output), references.get
  )
  assert output.read_bytes().startswith(b'\x89PNG')
  first, second = (f'seed {i}, mean of the last 100 episodes' for i in (1, 2))
  assert {level: set(lines) for level, lines in drawn.items()} == {
    'pong': {first, second, 'random policy (-20.5)'},
    'qbert': {second},
  }
  np.testing.assert_allclose(drawn['pong'][first], [1.0, 2.0])
  np.testing.assert_allclose(drawn['pong']['random policy (-20.5)'], [-20.5, -20.5])
