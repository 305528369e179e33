"""Summaries of a run: what TensorBoard shows of it."""

import dataclasses
import os
import resource
import time
import types
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import files
from impala_tf.reports import scalars
from impala_tf.system import timing
from impala_tf.training import run_log, tracking
from impala_tf.training.episodes import Episode
from tests.support import catch
from tests.support.clock import Clock


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
    summaries = run_log.Summaries(str(tmp_path))
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


class Service(tracking.Tracker):
  """A service that notes what it gets."""

  def __init__(self, *arguments):
    self.got = []

  def write(self, frames, scalars):
    self.got.append((frames, {name: scalars[name] for name in scalars if 'episode' in name}))


def test_returns_of_levels_go_to_tensorboard_as_they_come_and_to_a_service_with_each_summary(
  tmp_path, monkeypatch
):
  clock, service = Clock(), Service()
  monkeypatch.setattr(run_log, 'time', clock)
  monkeypatch.setattr(tracking, 'start', lambda *arguments: service)
  actors = types.SimpleNamespace(shares=lambda: dict, restarts=0, connected=None, statistics=dict)
  settings = dataclasses.replace(catch.CONFIG, summary_interval=10.0, num_action_repeats=4)
  logger = run_log.RunLogger(
    catch.CatchSuite(),
    settings,
    str(tmp_path),
    types.SimpleNamespace(frames=0, updates=0),
    types.SimpleNamespace(actors=actors, queue_fill=lambda: (0, 1)),
    timing.StageTimer(),
  )
  metrics = types.SimpleNamespace(updates=1, lag_mean=0.0, _asdict=dict)
  for count, returns in enumerate([(1.0, 3.0), (), (5.0,), (7.0,)], 1):
    logger.log(80 * count, [Episode(0, r, 10) for r in returns], metrics)
    clock.now += 4
  shown = [row for row in read_scalars(tmp_path) if row[1] == 'catch/episode_return']
  assert shown == [
    (80, 'catch/episode_return', 2.0),
    *[(n, 'catch/episode_return', r) for n, r in ((240, 5.0), (320, 7.0))],
  ]
  ((frames, sent),) = service.got
  assert (frames, sent['catch/episode_return'], sent['catch/episode_frames']) == (320, 4.0, 40.0)


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
      summaries = run_log.Summaries(str(folder), start)
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
  make = lambda: run_log.Summaries(str(tmp_path))
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
