"""The updates of a source of batches without the rest of a run."""

from impala_tf.training import loop


def source_of(suite, config, learner=None, seed=(1, 1)):
  """The source that the configuration names, of a learner."""
  learner = learner or loop.make_learner(suite, config)
  return loop.SOURCES[config.architecture](suite, config, learner, list(seed))


def updates(source, learner, count=None):
  """Yields the episodes and the `learner.Metrics` of so many updates; endlessly without a count."""
  while count is None or int(learner.updates) < count:
    batch = source.next_batch()
    metrics = learner.update(batch.unrolls)
    source.publish(metrics.updates)
    yield batch.episodes, metrics
