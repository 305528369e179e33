"""Scores of many levels as bars."""

from collections.abc import Mapping, Sequence

from impala_tf.reports import pictures


def draw(
  names: Sequence[str],
  columns: Mapping[str, Mapping[str, float]],
  output: str,
  *,
  label: str,
  symlog: float | None = None,
) -> None:
  """Draws a group of horizontal bars for each level, with lines at 0 and 100.

  Args:
    names: levels, from top to bottom.
    columns: from a column's label to its scores by level; a level that is missing there has no bar.
    output: PNG file to write.
    label: of the axis of scores.
    symlog: score up to which the axis is linear before it becomes logarithmic; None for a linear
      axis.
  """
  height = 0.8 / len(columns)
  size = (9, 1.5 + len(names) * (0.12 + 0.073 * len(columns)))

  with pictures.picture(output, size=size) as (axes,):
    for i, (column, scores) in enumerate(columns.items()):
      drawn = [name for name in names if name in scores]
      places = [names.index(name) + (i - (len(columns) - 1) / 2) * height for name in drawn]
      axes.barh(places, [scores[name] for name in drawn], height, label=column)

    if symlog is not None:
      axes.set_xscale('symlog', linthresh=symlog)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.axvline(100, color='gray', linestyle='--', linewidth=1)
    axes.axvline(0, color='gray', linewidth=1)
    axes.set_xlabel(label)
    pictures.show_scores(axes.xaxis)
    axes.grid(visible=False, axis='y')
