"""Short trainings on catch, and what is in their folders."""

import dataclasses

from impala_tf.training import checkpoints, loop
from tests.support import catch

SHORT = dataclasses.replace(
  catch.CONFIG, total_environment_frames=160 * 12, checkpoint_interval=1e6, summary_interval=1e6
)


def restored(logdir, settings):
  """Frames, updates and weights in a folder's newest checkpoint."""
  suite = catch.CatchSuite()
  trained = loop.make_learner(suite, settings)
  checkpoints.Checkpointer(
    str(logdir), learner=trained, run=checkpoints.RunState(0)
  ).restore_latest()
  return (
    int(trained.frames),
    int(trained.updates),
    [v.numpy() for v in trained.agent.trainable_variables],
  )
