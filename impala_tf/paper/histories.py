"""Scores of agents over their training, for Figures 5 and 6."""

import functools
import os
from collections.abc import Sequence

from impala_tf.paper import run
from impala_tf.paper.kinds import Method
from impala_tf.pbt import folder as pbt_folder
from impala_tf.pbt import lineage
from impala_tf.reports import scalars

SCORE = 'dmlab30/training_cap_100'


class Histories:
  """The scores of methods' best agents; those of each run are read once."""

  def __init__(self):
    """Reads nothing yet."""
    self._read = functools.cache(lambda logdir: scalars.read(logdir, SCORE))

  def of(self, folder: str, method: Method) -> Sequence[tuple[int, float, float]]:
    """Returns frames, hours and score of a method's best agent; of a population's through all
    members that had its weights.

    Args:
      folder: of the method's runs.
      method: a sweep or a population.

    Raises:
      FileError: if a file that says which agent is the best is damaged.
    """
    best = run.best_run(folder, method)
    if best is None:
      return []
    points = self._read(best)
    if method.trainer == 'sweep':
      return points

    histories = pbt_folder.read_histories(folder)
    end = points[-1].frames if points else None
    return [
      (segment.trained(frames), hours, score)
      for segment in lineage.ancestry(histories, os.path.basename(best), end)
      for frames, hours, score in self._read(os.path.join(folder, segment.member))
      # A score where a member was copied is that of the agent before.
      if segment.start < frames <= segment.end
    ]
