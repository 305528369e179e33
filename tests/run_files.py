"""What a run has left in its folder."""

import csv

import tensorflow as tf


def read_episodes(logdir):
  """The rows of episodes.csv, dicts of str."""
  with open(logdir / 'episodes.csv', newline='') as file:
    return list(csv.DictReader(file))


def read_scalars(logdir):
  """{tag: [(step, value)]} of the only event file."""
  (path,) = logdir.glob('events*')
  found = {}
  for event in tf.compat.v1.train.summary_iterator(str(path)):
    for value in event.summary.value:
      found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
  return found
