"""Tables as lists of rows of cells, the header first, where None is a blank cell; as Markdown and
as CSV.
"""

import os
from collections.abc import Mapping, Sequence

from impala_tf import files


def markdown(rows: Sequence[Sequence]) -> str:
  """Returns a table as Markdown. Numbers get one decimal."""
  cells = [[_cell(value).replace('|', '\\|') for value in row] for row in rows]
  widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(cells[0]))]

  # The first column is text, the others are numbers.
  lines = []
  for first, *others in cells:
    aligned = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
    lines.append('| ' + ' | '.join([first.ljust(widths[0]), *aligned]) + ' |')
  rule = ['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])]
  return '\n'.join([lines[0], '| ' + ' | '.join(rule) + ' |', *lines[1:]])


def short(value: str | float | None) -> str:
  """Returns a cell for people to read: numbers with a fraction get four digits."""
  if isinstance(value, float):
    return f'{value:.4g}'
  return '' if value is None else str(value)


def write(folder: str, contents: Mapping[str, str | Sequence[Sequence]]) -> None:
  """Writes texts as they are, and tables as CSV, to files of the given names; makes the folder if
  it is missing.

  Args:
    folder: anything that tf.io.gfile takes.
    contents: by the names of the files.

  Raises:
    StorageError: if one can't be written.
  """
  files.make_folder(folder)
  for name, content in contents.items():
    path = os.path.join(folder, name)
    if isinstance(content, str):
      files.write(path, content)
    else:
      files.write_csv(path, content)


def side_by_side(columns: Mapping[str, Mapping]) -> list[list]:
  """Returns a table with a column for each dict and a row for each of their keys."""
  names = dict.fromkeys(name for column in columns.values() for name in column)
  return [
    ['', *columns],
    *([name, *(str(column.get(name, '')) for column in columns.values())] for name in names),
  ]


def _cell(value):
  if value is None:
    return ''
  return value if isinstance(value, str) else f'{value:.1f}'
