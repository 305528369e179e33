"""The arrangements of actors and learner by name; see `arrangement`."""

from impala_tf import a3c, cluster_learner, pipeline, synchronous
from impala_tf.hparams import ConfigurationError

_CLASSES = {
  'impala': pipeline.Pipeline,
  'a2c_sync_step': synchronous.SynchronousSteps,
  'a2c_sync_trajectories': synchronous.SynchronousTrajectories,
  'a3c': a3c.A3C,
}


def check(hparams, in_cluster=False):
  """Raises `hparams.ConfigurationError` if the other hyper-parameters don't go with `hparams.architecture`.

  Args:
    hparams: `hparams.HParams`.
    in_cluster: whether the actors are other processes.
  """
  if in_cluster and hparams.architecture != 'impala':
    raise ConfigurationError(
      f"architecture={hparams.architecture} is for one machine; a cluster's is impala. Leave out --architecture, or --job_name."
    )
  if in_cluster and hparams.inference == 'shared':
    raise ConfigurationError(
      'inference=shared (all actors of a process wait for one batch) looks for new weights at each step, which is too often '
      'with a learner on another machine. Leave --inference out.'
    )
  if hparams.num_learners > 1 and hparams.architecture == 'a3c':
    raise ConfigurationError(
      f'num_learners={hparams.num_learners}: with architecture=a3c actors compute the gradients. Leave it out.'
    )
  _CLASSES[hparams.architecture].check(hparams)


def make(suite, hparams, agent, seed, version=0, in_cluster=False):
  """The `arrangement.Learning` that `hparams.architecture` and `in_cluster` name; the other arguments as there."""
  check(hparams, in_cluster)
  made = cluster_learner.ClusterPipeline if in_cluster else _CLASSES[hparams.architecture]
  return made(suite, hparams, agent, seed, version)
