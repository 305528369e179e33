"""Scalars that a run wrote for TensorBoard, read back."""

import contextlib
import os
import re
from typing import NamedTuple

from impala_tf import files
from impala_tf.system import quiet

_NAME = re.compile(r'events\.out\.tfevents\.(\d+)\.(?:.*\.(\d{6})\.v2$)?')


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
    Points in the order of their frames, without those of training that was lost. Hours between two
    starts of the run do not count.
  """
  quiet.load_tensorflow()
  import tensorflow as tf

  points: list[Point] = []
  hours_before = 0.0
  session_log = tf.compat.v1.SessionLog
  restart = tf.compat.v1.Event(session_log=session_log(status=session_log.START))
  # A long run on many levels has millions of events. Parsed are those that have one of these.
  in_scalar, in_restart = name.encode(), restart.SerializeToString()

  names = [name for name in files.names_in(logdir) if _NAME.match(name)]
  for file in sorted(names, key=_start):
    start, record = None, b''

    for record in _records(os.path.join(logdir, file)):
      if start is None:
        start = _event(record).wall_time
      if in_scalar not in record and in_restart not in record:
        continue
      event = _event(record)
      values = [value for value in event.summary.value if value.tag == name]
      # A start continues from its checkpoint, before the end of the start that it follows: where,
      # it says itself, but for those of earlier versions.
      if values or event.session_log.status == session_log.START:
        while points and points[-1].frames >= event.step:
          points.pop()
      hours = hours_before + (event.wall_time - start) / 3600
      points += [Point(event.step, hours, float(tf.make_ndarray(v.tensor))) for v in values]

    if start is not None:
      hours_before += (_event(record).wall_time - start) / 3600

  return points


def _records(path):
  """Yields the events of a file, serialized, but for a last one that is cut off: a writer that
  lives, or was killed, may leave a part of it.
  """
  import tensorflow as tf

  with contextlib.suppress(tf.errors.DataLossError):
    yield from tf.compat.v1.io.tf_record_iterator(path)


def _event(record):
  import tensorflow as tf

  return tf.compat.v1.Event.FromString(record)


def _start(name):
  """Returns when a file was begun: after how many others, which earlier versions do not say, and at
  which second of a clock.
  """
  seconds, number = _NAME.match(name).groups()
  return int(number or 0), int(seconds)
