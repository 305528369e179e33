"""Scores of many levels as bars."""

import matplotlib


def draw(names, columns, output, *, label, symlog=None):
  """Draws a group of horizontal bars for each level, with lines at 0 and 100.

  Args:
    names: list of levels, from top to bottom.
    columns: dict from a column's label to its scores by level, a dict; a level that is missing
      there has no bar.
    output: PNG file to write.
    label: of the axis of scores.
    symlog: score up to which the axis is linear before it becomes logarithmic; None for a linear
      one.
  """
  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  height = 0.8 / len(columns)
  figure, axes = plt.subplots(
    figsize=(9, 1.5 + len(names) * (0.12 + 0.073 * len(columns))), layout='constrained'
  )
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
  axes.legend(loc='lower right')
  axes.grid(axis='x', alpha=0.3)
  figure.savefig(output, dpi=120)
  plt.close(figure)
