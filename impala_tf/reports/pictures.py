"""Pictures of reports, in one style."""

import contextlib
import io
import typing
from collections.abc import Iterator, Mapping, Sequence

from impala_tf import files

if typing.TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.axis import Axis

_STYLE: typing.Any = {
  'axes.grid': True,
  'axes.axisbelow': True,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.titlesize': 'medium',
  'grid.alpha': 0.3,
  'legend.frameon': False,
  'legend.fontsize': 'small',
}


@contextlib.contextmanager
def picture(
  output: str, *, rows: int = 1, columns: int = 1, size: tuple[float, float] = (8, 4.5)
) -> 'Iterator[Sequence[Axes]]':
  """Gives axes to draw on while the context lasts, and saves them as PNG when it ends, with one
  legend below them for all that has a label.

  Args:
    output: file to write, anything that tf.io.gfile takes.
    rows, columns: how many axes there are, given row by row. Those of a single column have one
      horizontal scale.
    size: width and height in inches.
  """
  # Not pyplot, which would keep each figure, and look for a screen.
  import matplotlib
  from matplotlib.figure import Figure

  with matplotlib.rc_context(_STYLE):
    figure = Figure(figsize=size, layout='constrained')
    yield figure.subplots(rows, columns, sharex=columns == 1, squeeze=False).flatten().tolist()
    _add_legend(figure)
    contents = io.BytesIO()
    figure.savefig(contents, dpi=120, format='png')

  with files.open_file(output, 'wb') as file:
    file.write(contents.getvalue())


def _add_legend(figure):
  handles = {}
  for axes in figure.axes:
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
      handles.setdefault(label, handle)
  if not handles:
    return
  # As many columns as fit: a letter takes some 0.09 inches at this size, a sign before it 0.5.
  widest = 0.5 + 0.09 * max(map(len, handles))
  columns = max(1, min(len(handles), int(figure.get_size_inches()[0] / widest)))
  figure.legend(list(handles.values()), list(handles), loc='outside lower center', ncols=columns)


def show_frames(axes: 'Axes') -> None:
  """Labels the horizontal axis as environment frames, in numbers such as 10M."""
  from matplotlib import ticker

  axes.set_xlabel('environment frames')
  axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))


def show_scores(axis: 'Axis') -> None:
  """Writes the numbers of an axis in full, such as 20,000."""
  from matplotlib import ticker

  axis.set_major_formatter(ticker.StrMethodFormatter('{x:,.10g}'))


def show_ranks(axes: 'Axes') -> None:
  """Has whole numbers only at the horizontal axis."""
  from matplotlib import ticker

  axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))


def draw_references(axes: 'Axes', references: Mapping[str, float]) -> None:
  """Draws scores to compare with as dashed lines, each with its name and value on it."""
  for (label, score), color in zip(references.items(), ('gray', 'black'), strict=False):
    axes.axhline(score, linestyle='--', linewidth=1, color=color)
    axes.annotate(
      f'{label} {score:g}',
      (1.0, score),
      xycoords=('axes fraction', 'data'),
      ha='right',
      va='bottom',
      fontsize='small',
      color=color,
      bbox={'facecolor': 'white', 'edgecolor': 'none', 'alpha': 0.7, 'pad': 0.5},
    )
