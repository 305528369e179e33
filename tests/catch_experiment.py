"""run_experiment.py for the tests' small task: the same flags, and catch in place of the suites."""

import dataclasses

import run_experiment
from tests import catch


def preset(level_name, agent):
  """Catch's hyper-parameters."""
  return dataclasses.replace(catch.HPARAMS, level_name=level_name, agent=agent)


if __name__ == '__main__':
  run_experiment._suite_of = lambda level_name: (preset, catch.CatchSuite)
  run_experiment.run()
