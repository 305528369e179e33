"""Scores of agents over their training."""

import os

from impala_tf.paper.experiments import EXPERIMENTS
from impala_tf.paper.histories import Histories
from impala_tf.pbt import lineage
from impala_tf.reports import scalars

POPULATION = EXPERIMENTS['table3'].methods[4]


def test_a_populations_is_read_once_and_from_the_best_agents_ancestors_alone(tmp_path, monkeypatch):
  # The second member copied the first one at frame 2000, when it was at 1000 itself.
  events = {
    'member_000': [(0, 0, None, None), (1, 1000, 4.0, None), (2, 2000, 5.0, None)],
    'member_001': [
      (0, 0, None, None),
      (1, 1000, 1.0, ('member_000', 2000, 2)),
      (2, 3000, 9.0, None),
    ],
    'member_002': [(0, 0, None, None), (1, 1000, 2.0, None)],
  }
  for member, tape in events.items():
    os.makedirs(tmp_path / member)
    for evaluation, frames, fitness, copied in tape:
      event = lineage.Event(
        evaluation=evaluation,
        frames=frames,
        hyper_parameters={},
        fitness=fitness,
        copied_from=copied and lineage.Source(*copied),
      )
      lineage.append(str(tmp_path / member), event)

  read = []

  def points(logdir, name):
    read.append(os.path.basename(logdir))
    return [scalars.Point(frames, 0.5, float(logdir[-1])) for frames in (500, 1000, 2500)]

  monkeypatch.setattr(scalars, 'read', points)
  histories = Histories()
  for _ in range(2):  # As two figures do.
    # The second one's score at its frame 1000 is that of the agent which it gave up.
    assert histories.of(str(tmp_path), POPULATION) == [
      (500, 0.5, 0.0),
      (1000, 0.5, 0.0),
      (3500, 0.5, 1.0),
    ]
  assert sorted(read) == ['member_000', 'member_001']
