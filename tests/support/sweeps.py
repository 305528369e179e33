"""Sweeps, made up."""

import os
import pathlib

from impala_tf.sweeps import definition, search_space
from impala_tf.sweeps.definition import Sweep
from impala_tf.sweeps.study import Study
from tests.support.run_files import write_episodes


def sweep_of(folder, values, frames=10**6):
  """A sweep whose trials ended with these final returns, and one that waits for each None; returns
  the folders of the trials.
  """
  os.makedirs(folder)
  space = search_space.parse(['seed=uniform(1,99)'])
  sweep = Sweep({'total_environment_frames': frames}, space, num_trials=len(values))
  definition.check_or_save(folder, sweep)
  study = Study(folder, sweep)
  folders = []
  for value in values:
    if value is None:
      continue
    claim = study.claim()
    claim.finish(value)
    folders.append(pathlib.Path(folder, claim.trial.name))
    write_episodes(folders[-1], [(100 * (i + 1), 'pong', value) for i in range(9)])
  return folders
