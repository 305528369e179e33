"""The paper's baselines (Section 5.1) on Catch, and what their first updates are."""

import dataclasses

from impala_tf.training import loop
from tests.support import catch, updates

BASELINES = {
  'a2c_sync_step': {'architecture': 'a2c_sync_step'},
  'a2c_sync_trajectories': {'architecture': 'a2c_sync_trajectories'},
  'a2c_dynamic_batching': {
    'architecture': 'a2c_sync_trajectories',
    'inference': 'shared',
    'inference_timeout_ms': 2.0,
  },
  'a3c': {'architecture': 'a3c', 'batch_size': 4, 'envs_per_actor': 4},
}


def settings_of(baseline, **given):
  """The configuration of a small training on Catch by a baseline."""
  return dataclasses.replace(catch.CONFIG, **BASELINES[baseline] | given)


def updates_of(suite, settings, count, look=lambda batch: None):
  """The episodes and metrics of the first updates from a source; `look` sees each batch."""
  learner = loop.make_learner(suite, settings)
  original = learner.update
  learner.update = lambda batch: (look(batch), original(batch))[1]
  with updates.source_of(suite, settings, learner) as source:
    return list(updates.updates(source, learner, count))
