"""The arrangements of actors and learner by name; see `arrangement`."""

from impala_tf.cluster import cluster_learner
from impala_tf.config import ConfigurationError
from impala_tf.training import a3c, pipeline, synchronous

_CLASSES = {
  'impala': pipeline.Pipeline,
  'a2c_sync_step': synchronous.SynchronousSteps,
  'a2c_sync_trajectories': synchronous.SynchronousTrajectories,
  'a3c': a3c.A3C,
}


def check(config, in_cluster=False):
  """Raises `config.ConfigurationError` if the other hyper-parameters don't go with
  `config.architecture`.

  Args:
    config: `config.Config`.
    in_cluster: whether the actors are other processes.
  """
  if in_cluster and config.architecture != 'impala':
    raise ConfigurationError(
      f"architecture={config.architecture} is for one machine; a cluster's is impala. Leave out --architecture, or --job_name."
    )
  if in_cluster and config.inference == 'shared':
    raise ConfigurationError(
      'inference=shared (all actors of a process wait for one batch) looks for new weights at each step, which is too often '
      'with a learner on another machine. Leave --inference out.'
    )
  if config.num_learners > 1 and config.architecture == 'a3c':
    raise ConfigurationError(
      f'num_learners={config.num_learners}: with architecture=a3c actors compute the gradients. Leave it out.'
    )
  _CLASSES[config.architecture].check(config)


def make(suite, config, agent, seed, version=0, in_cluster=False):
  """The `arrangement.Learning` that `config.architecture` and `in_cluster` name; the other
  arguments as there.
  """
  check(config, in_cluster)
  made = cluster_learner.ClusterPipeline if in_cluster else _CLASSES[config.architecture]
  return made(suite, config, agent, seed, version)
