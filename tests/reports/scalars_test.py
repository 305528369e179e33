"""Summaries, read back."""

import os

import pytest
import tensorflow as tf
from tensorflow.core.framework import summary_pb2
from tensorflow.core.util import event_pb2

from impala_tf.reports import scalars


def write(logdir, start, events):
  """An event file as one start of a run leaves it: (seconds since the start, frames, {name:
  value}).
  """
  path = os.path.join(logdir, f'events.out.tfevents.{start}.host.1.0.v2')
  with tf.io.TFRecordWriter(path) as writer:
    writer.write(event_pb2.Event(wall_time=start, file_version='brain.Event:2').SerializeToString())
    for seconds, frames, values in events:
      summary = summary_pb2.Summary()
      for name, value in values.items():
        summary.value.add(tag=name, tensor=tf.make_tensor_proto(value))
      writer.write(
        event_pb2.Event(wall_time=start + seconds, step=frames, summary=summary).SerializeToString()
      )


def test_frames_hours_and_values_over_several_starts(tmp_path):
  write(
    tmp_path,
    9_000_000,
    [
      (3600, 100, {'score': 1.0, 'other': 9.0}),
      (7200, 200, {'score': 2.0}),
      (9000, 300, {'score': 3.0}),
    ],
  )
  # A day later it goes on from a checkpoint at frame 250.
  write(
    tmp_path,
    10_000_000,
    [(1800, 300, {'score': 3.5}), (3600, 400, {'other': 8.0}), (5400, 500, {'score': 5.0})],
  )
  write(tmp_path, 11_000_000, [(7200, 600, {'score': 6.0})])
  assert scalars.read(str(tmp_path), 'score') == [
    (100, pytest.approx(1.0), 1.0),
    (200, pytest.approx(2.0), 2.0),
    (300, pytest.approx(3.0), 3.5),
    (500, pytest.approx(4.0), 5.0),
    (600, pytest.approx(6.0), 6.0),
  ]
  assert scalars.read(str(tmp_path), 'missing') == []
  assert scalars.read(str(tmp_path / 'nowhere'), 'score') == []


def test_of_many_events_those_of_the_scalar_are_parsed(tmp_path, monkeypatch):
  events = [
    (10 * i, i, {'score' if i % 4000 == 1 else f'level_{i % 57}/episode_return': float(i)})
    for i in range(10_000)
  ]
  write(tmp_path, 9_000_000, events)
  parse, parsed = scalars._event, []
  monkeypatch.setattr(scalars, '_event', lambda record: parsed.append(record) or parse(record))
  found = scalars.read(str(tmp_path), 'score')
  assert [point.frames for point in found] == [1, 4001, 8001]
  assert 3 <= len(parsed) <= 5  # The first one and the last one tell the hours.


def test_files_of_other_names_are_left_alone(tmp_path):
  write(tmp_path, 9_000_000, [(3600, 100, {'score': 1.0})])
  (tmp_path / 'events.out.tfevents.copy').write_text('')
  assert scalars.read(str(tmp_path), 'score') == [(100, pytest.approx(1.0), 1.0)]


def test_an_event_that_is_cut_off_is_left_out(tmp_path):
  write(tmp_path, 9_000_000, [(3600, 100, {'score': 1.0}), (7200, 200, {'score': 2.0})])
  (path,) = tmp_path.iterdir()
  path.write_bytes(path.read_bytes()[:-5])
  assert scalars.read(str(tmp_path), 'score') == [(100, pytest.approx(1.0), 1.0)]
