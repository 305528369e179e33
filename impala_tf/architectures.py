"""The arrangements of actors and learner by name; see `arrangement`."""

from impala_tf import a3c, pipeline, synchronous

_CLASSES = {
  'impala': pipeline.Pipeline,
  'a2c_sync_step': synchronous.SynchronousSteps,
  'a2c_sync_trajectories': synchronous.SynchronousTrajectories,
  'a3c': a3c.A3C,
}


def check(hparams):
  """Raises `hparams.ConfigurationError` if the other hyper-parameters don't go with `hparams.architecture`."""
  _CLASSES[hparams.architecture].check(hparams)


def make(suite, hparams, agent, seed, version=0):
  """The `arrangement.Arrangement` that `hparams.architecture` names; arguments as there."""
  check(hparams)
  return _CLASSES[hparams.architecture](suite, hparams, agent, seed, version)
