"""Summaries of a run: what TensorBoard shows of it."""

import os
import resource
import time
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import files
from impala_tf.reports import scalars
from impala_tf.training import run_log
from impala_tf.training.episodes import Episode


def read_scalars(logdir):
  """[(step, name, value)] of all event files."""
  found = []
  for path in sorted(logdir.glob('events*')):
    for record in tf.data.TFRecordDataset(str(path)):
      event = tf.compat.v1.Event.FromString(record.numpy())
      found += [
        (event.step, value.tag, float(tf.make_ndarray(value.tensor)))
        for value in event.summary.value
      ]
  return found


class TestSummaries:
  def test_scalars_over_frames(self, tmp_path):
    summaries = run_log.Summaries(str(tmp_path), ['pong'], 4)
    summaries.write(
      2**40, {'total_loss': 1.5, 'mean_return': None, 'learning_rate': tf.constant(0.25)}
    )
    summaries.write(np.int64(2**40 + 1), {'total_loss': 2.5, 'restarts': 0})
    summaries.close()
    assert read_scalars(tmp_path) == [
      (2**40, 'total_loss', 1.5),
      (2**40, 'learning_rate', 0.25),
      (2**40 + 1, 'total_loss', 2.5),
      (2**40 + 1, 'restarts', 0.0),
    ]

  def test_episodes(self, tmp_path):
    summaries = run_log.Summaries(str(tmp_path), ['pong', 'breakout'], 4)
    summaries.write_episodes(80, [Episode(1, -2.5, 100), Episode(0, 21.0, 7)])
    assert read_scalars(tmp_path) == [
      (80, 'breakout/episode_return', -2.5),
      (80, 'breakout/episode_frames', 400.0),
      (80, 'pong/episode_return', 21.0),
      (80, 'pong/episode_frames', 28.0),
    ]

  def test_episodes_of_a_level_that_end_together_are_one_point(self, tmp_path):
    summaries = run_log.Summaries(str(tmp_path), ['pong', 'breakout'], 4)
    summaries.write_episodes(80, [Episode(0, 1.0, 1), Episode(1, 5.0, 3), Episode(0, 4.0, 2)])
    assert read_scalars(tmp_path) == [
      (80, 'pong/episode_return', 2.5),
      (80, 'pong/episode_frames', 6.0),
      (80, 'breakout/episode_return', 5.0),
      (80, 'breakout/episode_frames', 12.0),
    ]


@pytest.mark.parametrize(
  ('restored', 'of_after', 'shown'),
  [
    (0, (10, 20, 30, 40), [10, 20, 30, 40]),
    (20, (30, 40), [10, 20, 30, 40]),
    # What was lost with the training from 20 on does not come again.
    (20, (50,), [10, 20, 50]),
  ],
)
def test_each_step_is_shown_once_after_a_resume(tmp_path, restored, of_after, shown):
  from tensorboard.backend.event_processing import plugin_event_accumulator

  folder = tmp_path / 'br[a]ck'  # A pattern to TensorFlow's functions for files.
  folder.mkdir()

  names = {'of_before': (10, 20, 30, 40), 'of_after': of_after}
  for when, steps in names.items():
    # Within a second, which starts of real runs are not.
    with mock.patch.object(time, 'time', lambda when=when: 1e9 + (when == 'of_after')):
      start = restored if when == 'of_after' else 0
      summaries = run_log.Summaries(str(folder), ['pong'], 4, start)
    for step in steps:
      summaries.write(step, {'loss': 1.0})
    summaries.close()
  first, *_ = sorted(folder.glob('events*'), key=os.path.getmtime)
  first = first.rename(folder / 'events.out.tfevents.0999999999.host.1.0.v2')

  accumulator = plugin_event_accumulator.EventAccumulator(str(folder)).Reload()
  assert [event.step for event in accumulator.Tensors('loss')] == shown
  assert [point.frames for point in scalars.read(str(folder), 'loss')] == shown
  # The clock of another machine, which resumes it, may be behind.
  first.rename(folder / 'events.out.tfevents.9999999999.host.1.0.v2')
  assert [point.frames for point in scalars.read(str(folder), 'loss')] == shown


def test_summaries_tell_of_a_disk_that_takes_no_more(tmp_path):
  make = lambda: run_log.Summaries(str(tmp_path), ('pong',), 4)
  summaries = make()
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  # No file may grow: what a full disk does, to this process alone.
  resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
  try:
    for deed in (lambda: summaries.write(0, {'x': 1.0}), make):
      with pytest.raises(files.StorageError, match=f'{tmp_path}: .*File too large'):
        deed()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
