"""run_experiment.py within the process of the tests: a process of its own takes seconds to load."""

from unittest import mock

from absl import flags, logging
from absl.testing import flagsaver

from impala_tf import __main__ as run_experiment
from impala_tf.system import machine


def main(*given: str) -> int:
  """Runs the command with some flags; returns its exit code."""
  verbosity = logging.get_verbosity()
  try:
    # TensorFlow's threads are those of the tests.
    with flagsaver.flagsaver(), mock.patch.object(machine, 'configure_tensorflow'):
      flags.FLAGS(['run_experiment.py', *given])
      return run_experiment.main(['run_experiment.py'])
  finally:
    logging.set_verbosity(verbosity)
