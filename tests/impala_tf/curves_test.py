"""Learning curves: what is read, averaged and drawn."""

import numpy as np
import pytest

from impala_tf import curves

CSV = 'frames,level,episode_return,episode_frames\n160,pong,-21.0,3000\n320,pong,-19.0,3100\n480,pong,5.5,9000\n'


@pytest.mark.parametrize('name', ['', 'episodes.csv'])
def test_reads_a_folder_or_its_file(tmp_path, name):
  (tmp_path / 'episodes.csv').write_text(CSV)
  frames, returns = curves.read_episodes(str(tmp_path / name))
  np.testing.assert_array_equal(frames, [160, 320, 480])
  np.testing.assert_array_equal(returns, [-21.0, -19.0, 5.5])


def test_a_run_without_episodes_is_named(tmp_path):
  (tmp_path / 'episodes.csv').write_text(CSV.splitlines(keepends=True)[0])
  with pytest.raises(ValueError, match=r'episodes.csv has no episodes yet'):
    curves.read_episodes(str(tmp_path))


def test_moving_average_is_over_the_last_values_there_are():
  np.testing.assert_allclose(curves.moving_average([2.0, 4.0, 9.0, 1.0], window=2), [2.0, 3.0, 6.5, 5.0])
  np.testing.assert_allclose(curves.moving_average([2.0, 4.0], window=100), [2.0, 3.0])


def test_draws_every_run_and_the_random_policy(tmp_path, monkeypatch):
  from matplotlib.figure import Figure

  drawn = []
  save = Figure.savefig

  def keep(figure, *args, **kwargs):
    (axes,) = figure.axes
    drawn.extend((line.get_label(), np.array(line.get_ydata())) for line in axes.get_lines())
    save(figure, *args, **kwargs)

  monkeypatch.setattr(Figure, 'savefig', keep)
  output = tmp_path / 'curve.png'
  run = (np.array([100, 200]), np.array([1.0, 3.0]))
  curves.draw({'seed 1': run, 'seed 2': run}, str(output), random_score=-20.5)
  assert output.read_bytes().startswith(b'\x89PNG')
  labelled = {label: values for label, values in drawn if not label.startswith('_')}
  assert set(labelled) == {
    'seed 1, mean of the last 100 episodes',
    'seed 2, mean of the last 100 episodes',
    'random policy (-20.5)',
  }
  np.testing.assert_allclose(labelled['seed 1, mean of the last 100 episodes'], [1.0, 2.0])
