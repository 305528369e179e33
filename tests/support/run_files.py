"""The files that a run has left in its folder."""

import csv
import os
import pathlib

import tensorflow as tf

from impala_tf import saved_config
from impala_tf.training import checkpoints, episode_log, loop


def read_episodes(logdir):
  """The rows of episodes.csv, dicts of str."""
  with open(logdir / 'episodes.csv', newline='') as file:
    return list(csv.DictReader(file))


def write_episodes(folder, rows):
  """Writes episodes.csv with `rows` of frames, level and return."""
  lines = [
    ','.join(episode_log.COLUMNS),
    *(f'{frames},{level},{episode_return},7' for frames, level, episode_return in rows),
  ]
  pathlib.Path(folder, episode_log.FILE_NAME).write_text('\n'.join(lines) + '\n')


def read_scalars(logdir):
  """{tag: [(step, value)]} of the only event file."""
  (path,) = logdir.glob('events*')
  return _scalars([path])


def read_scalars_of_all(logdir):
  """{tag: [(step, value)]} of all event files together, a run's that was started several times."""
  return _scalars(logdir.glob('events*'))


def _scalars(paths):
  found = {}
  for path in paths:
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      for value in event.summary.value:
        found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
  return found


def make_run(suite, settings, logdir, frames=0):
  """Makes the files of a training that ended after `frames`, with new weights; returns its folder
  as str.
  """
  logdir.mkdir(parents=True, exist_ok=True)
  saved_config.save(str(logdir), settings)
  tf.random.set_seed(len(str(logdir)))
  learner = loop.make_learner(suite, settings)
  learner.frames.assign(frames)
  checkpoints.Checkpointer(str(logdir), learner=learner, run=checkpoints.RunState(1)).save()
  return str(logdir)


def shared_memory_names():
  """The names of what Python programs share; other programs have names of their own."""
  return {name for name in os.listdir('/dev/shm') if name.startswith(('psm_', 'sem.mp'))}
