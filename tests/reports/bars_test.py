"""Bars are as long as the scores, in the order of the levels."""

import pytest

from impala_tf.reports import bars


@pytest.mark.parametrize(('symlog', 'scale'), [(None, 'linear'), (100, 'symlog')])
def test_each_column_has_a_bar_for_each_of_its_levels(tmp_path, figures, symlog, scale):
  columns = {'paper': {'pong': 50.0, 'qbert': 120.0}, 'ours': {'qbert': -10.0}}
  bars.draw(['pong', 'qbert'], columns, str(tmp_path / 'bars.png'), label='score', symlog=symlog)
  (axes,) = figures[0].axes
  found = {
    group.get_label(): [(bar.get_y() + bar.get_height() / 2, bar.get_width()) for bar in group]
    for group in axes.containers
  }
  assert found == {
    'paper': [(pytest.approx(-0.2), 50.0), (pytest.approx(0.8), 120.0)],
    'ours': [(pytest.approx(1.2), -10.0)],
  }
  assert [label.get_text() for label in axes.get_yticklabels()] == ['pong', 'qbert']
  assert axes.yaxis_inverted()  # The first is at the top.
  assert axes.get_xscale() == scale
