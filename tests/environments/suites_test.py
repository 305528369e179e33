"""Suites that are registered, or named by their module."""

import pytest

from impala_tf.config import ConfigurationError
from impala_tf.environments import suites


@pytest.mark.parametrize(
  'code', ['import nothing_of_that_name', 'raise RuntimeError("broken")', 'x = ', 'SUITE = 3']
)
def test_a_suite_that_can_not_be_loaded_costs_its_own_levels_only(
  code, tmp_path, monkeypatch, warnings
):
  (tmp_path / 'broken_suite.py').write_text(code)
  monkeypatch.syspath_prepend(tmp_path)
  entries = suites._entries()
  monkeypatch.setattr(suites, '_entries', lambda: {**entries, 'broken': 'broken_suite:SUITE'})
  suites.registered.cache_clear()
  try:
    assert suites.find('pong').name == 'atari57'
    (warning,) = warnings()
    assert 'broken_suite' in warning
    with pytest.raises(ConfigurationError, match='broken_suite'):
      suites.find('broken:easy')
  finally:
    suites.registered.cache_clear()
