"""run_experiment.py for the tests' small task: the same flags, and catch in place of the suites."""

import dataclasses

import run_experiment
from impala_tf.environments import suites
from tests.support import catch


class FoundCatch:
  """Stands for a `suites.FoundSuite`."""

  def configure(self, level_name, **given):
    """Catch's hyper-parameters, but for the fields that are given."""
    return dataclasses.replace(catch.CONFIG, level_name=level_name, **given)

  def make(self):
    """The suite."""
    return catch.CatchSuite()


if __name__ == '__main__':
  suites.find = lambda level_name: FoundCatch()
  run_experiment.run()
