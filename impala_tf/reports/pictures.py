"""Pictures of reports."""

import contextlib
import io
import typing
from collections.abc import Iterator, Sequence

if typing.TYPE_CHECKING:
  from matplotlib.axes import Axes


@contextlib.contextmanager
def picture(
  output: str, *, rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 4.5)
) -> 'Iterator[Sequence[Axes]]':
  """Gives axes to draw on while the context lasts, and saves them as PNG when it ends.

  Args:
    output: file to write, anything that tf.io.gfile takes.
    rows, columns: how many axes there are, given row by row. Those of a single column have one
      horizontal scale.
    size: width and height in inches.
  """
  # Not pyplot, which would keep each figure, and look for a screen.
  from matplotlib.figure import Figure

  figure = Figure(figsize=size, layout='constrained')
  yield figure.subplots(rows, columns, sharex=columns == 1, squeeze=False).flatten().tolist()

  if '://' not in output:
    figure.savefig(output, dpi=120, format='png')
    return

  import tensorflow as tf

  contents = io.BytesIO()
  figure.savefig(contents, dpi=120, format='png')
  with tf.io.gfile.GFile(output, 'wb') as file:
    file.write(contents.getvalue())
