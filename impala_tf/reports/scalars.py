"""Scalars that a run wrote for TensorBoard, read back."""

import contextlib
import os
from typing import NamedTuple

import tensorflow as tf


class Point(NamedTuple):
  """Value of a scalar after so many frames and hours of training."""

  frames: int
  hours: float
  value: float


def read(logdir: str, name: str) -> list[Point]:
  """Reads a scalar over frames and over time.

  Args:
    logdir: folder of a run, anything that tf.io.gfile takes.
    name: of the scalar.

  Returns:
    Points in the order of their frames. Hours between two starts of the run do not count.
  """
  points: list[Point] = []
  hours_before = 0.0

  for path in sorted(tf.io.gfile.glob(os.path.join(logdir, 'events.out.tfevents.*')), key=_start):
    start = last = None

    for event in _events(path):
      start = event.wall_time if start is None else start
      last = event.wall_time
      for value in event.summary.value:
        if value.tag == name:
          hours = hours_before + (event.wall_time - start) / 3600
          # A start continues from its checkpoint, before the end of the start that it follows.
          while points and points[-1].frames >= event.step:
            points.pop()
          points.append(Point(event.step, hours, float(tf.make_ndarray(value.tensor))))

    hours_before += (last - start) / 3600 if start is not None else 0.0
  return points


def _events(path):
  """Yields the events of a file, but for a last one that is cut off: a writer that lives, or was
  killed, may leave a part of it.
  """
  with contextlib.suppress(tf.errors.DataLossError):
    yield from tf.compat.v1.train.summary_iterator(path)


def _start(path):
  """Returns when a file was begun, which its name says in seconds."""
  return int(os.path.basename(path).split('.')[3])
