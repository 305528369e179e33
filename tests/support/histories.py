"""Histories of members of a population, made up."""

from impala_tf.pbt.lineage import Event, Source


def event(evaluation, frames, rate, fitness=None, copied=None):
  """An event; `copied` has the fields of the source of a copy."""
  return Event(
    evaluation=evaluation,
    frames=frames,
    hyper_parameters={'learning_rate': rate},
    fitness=fitness,
    copied_from=copied and Source(*copied),
  )
