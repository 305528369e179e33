"""Lists in messages."""

from impala_tf import errors


def test_a_long_list_is_cut_and_counted():
  assert errors.listed(['a', 'b'], 2) == 'a, b'
  assert errors.listed(['a', 'b', 'c', 'd'], 2, '; ') == 'a; b; and 2 more'
