"""Tables as text and as files."""

from impala_tf.reports import tables

ROWS = [['game', 'a|b'], ['x', 1.26], ['long name', None]]


def test_markdown_is_aligned_and_escaped():
  assert tables.markdown(ROWS).splitlines() == [
    '| game      | a\\|b |',
    '| --------- | ---: |',
    '| x         |  1.3 |',
    '| long name |      |',
  ]


def test_files_are_texts_or_csv_with_blanks(tmp_path):
  tables.write(str(tmp_path / 'new'), {'a.md': 'as it is\n', 'b.csv': ROWS})
  assert (tmp_path / 'new' / 'a.md').read_text() == 'as it is\n'
  assert (tmp_path / 'new' / 'b.csv').read_text() == 'game,a|b\nx,1.26\nlong name,\n'


def test_columns_stand_side_by_side_with_blanks_where_one_lacks_a_row():
  columns = {'one': {'seed': 1, 'n': 2}, 'two': {'n': 3, 'm': 4}}
  assert tables.side_by_side(columns) == [
    ['', 'one', 'two'],
    ['seed', '1', ''],
    ['n', '2', '3'],
    ['m', '', '4'],
  ]
