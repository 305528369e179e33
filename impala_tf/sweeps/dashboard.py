"""The contents of TensorBoard's HParams page: a sweep's search space, and each trial's values,
state and final metrics.

Written without TensorFlow's own summaries, whose first use would take hold of the graphics card
that the trials need.
"""

import contextlib
import os
import time

from optuna.distributions import CategoricalDistribution, IntDistribution
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import api as hp
from tensorboard.plugins.hparams import api_pb2, summary
from tensorboard.plugins.scalar import summary_v2 as scalar
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from impala_tf.sweeps.search_space import Space
from impala_tf.sweeps.study import Trial

_SUFFIX = '.hparams'
_METRICS = {
  'final_return': 'mean of the last 100 episodes, or of the last 10 scores of the suite',
  'frames': 'environment frames of the training',
}
_STATUS = {
  'running': api_pb2.STATUS_RUNNING,
  'finished': api_pb2.STATUS_SUCCESS,
  'pruned': api_pb2.STATUS_SUCCESS,
  'failed': api_pb2.STATUS_FAILURE,
}


def write_space(logdir: str, space: Space) -> None:
  """Describes a sweep in its folder, in place of an earlier description."""
  hyper_parameters = [
    hp.HParam(name, _domain(distribution)) for name, distribution in space.items()
  ]
  metrics = [
    hp.Metric(f'sweep/{name}', display_name=name, description=text)
    for name, text in _METRICS.items()
  ]
  _write(logdir, [hp.hparams_config_pb(hyper_parameters, metrics)], step=0)


def write_trial(logdir: str, trial: Trial, frames: int, value: float | None) -> None:
  """Describes a trial in its folder, in place of an earlier description.

  Args:
    logdir: the trial's folder.
    trial: in any state but 'waiting'.
    frames: how far it has come.
    value: its final return; None if it has none.
  """
  values = {name: _shown(v) for name, v in trial.hyper_parameters.items()}
  summaries = [hp.hparams_pb(values, trial_id=trial.name)]
  if trial.state != 'running':
    summaries.append(summary.session_end_pb(_STATUS[trial.state]))
    metrics = {'frames': float(frames)} | ({} if value is None else {'final_return': value})
    summaries += [scalar.scalar_pb(f'sweep/{name}', metric) for name, metric in metrics.items()]
  _write(logdir, summaries, step=frames)


def _write(logdir, summaries, step):
  os.makedirs(logdir, exist_ok=True)
  # The page takes the first state it finds, so there must be but one.
  for name in os.listdir(logdir):
    # Another worker of the sweep may do the same.
    if name.endswith(_SUFFIX):
      with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(logdir, name))

  writer = EventFileWriter(logdir, filename_suffix=_SUFFIX)
  for message in summaries:
    # Some are TensorFlow's protocol buffers, which are TensorBoard's under another name.
    event = event_pb2.Event(
      step=step, summary=summary_pb2.Summary.FromString(message.SerializeToString())
    )
    event.wall_time = time.time()
    writer.add_event(event)

  writer.close()


def _domain(distribution):
  if not isinstance(distribution, CategoricalDistribution):
    kind = hp.IntInterval if isinstance(distribution, IntDistribution) else hp.RealInterval
    return kind(distribution.low, distribution.high)
  # A choice of none beside numbers fits in no domain; the page then takes the values it finds.
  return hp.Discrete(list(distribution.choices)) if None not in distribution.choices else None


def _shown(value):
  return 'none' if value is None else value
