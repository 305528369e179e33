"""Numbers of a run at a service that shows many, beside TensorBoard: --track=wandb.

Weights & Biases keeps them in `wandb` of the run's folder; with WANDB_MODE=offline nothing leaves
the machine, and `wandb sync` sends them later.
"""

import dataclasses
import importlib
import os
import secrets
from collections.abc import Mapping
from typing import Any

from impala_tf import files
from impala_tf.config import Config, ConfigurationError
from impala_tf.system.paths import is_remote

_PROJECT = 'impala-tf'
_ID_FILE = 'wandb_id'


def check(config: Config) -> None:
  """Raises `ConfigurationError` if the service of `config.track` is not installed."""
  if config.track != 'none':
    _import(config.track)


def start(config: Config, logdir: str) -> 'Tracker':
  """Returns what takes the numbers of a run; of one without a service, all calls do nothing."""
  return Tracker() if config.track == 'none' else _WeightsAndBiases(config, logdir)


class Tracker:
  """A service to which nothing is sent."""

  def write(self, frames: int, scalars: Mapping[str, Any]) -> None:
    """Takes numbers by name at the given frames; those that are None are left out."""

  def close(self) -> None:
    """Ends the run's session."""


class _WeightsAndBiases(Tracker):
  """A run at Weights & Biases, which a later start of the same folder continues.

  Its id is in `wandb_id` of the folder: paths are alike on other machines, and a folder that was
  removed may be made again. A copy of the folder is the same run, unless it is without that file.
  """

  def __init__(self, config: Config, logdir: str):
    path = os.path.join(logdir, _ID_FILE)
    run_id = (files.read_text(path) or '').strip()
    if not run_id:
      run_id = secrets.token_hex(4)
      files.write(path, run_id + '\n')
    self._run = _import('wandb').init(
      project=_PROJECT,
      id=run_id,
      name=os.path.basename(os.path.normpath(logdir)),
      dir=None if is_remote(logdir) else os.path.abspath(logdir),
      config=dataclasses.asdict(config),
      resume='allow',
      settings={'console': 'off', 'silent': True},
    )
    # Frames and not its own count of calls, which a resumed run would begin again.
    self._run.define_metric('frames')
    self._run.define_metric('*', step_metric='frames')

  def write(self, frames: int, scalars: Mapping[str, Any]) -> None:
    known = {name: float(value) for name, value in scalars.items() if value is not None}
    self._run.log({'frames': int(frames), **known})

  def close(self) -> None:
    self._run.finish()


def _import(name):
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise ConfigurationError(
      f'--track={name} needs a package that is not installed ({error}). Run `pip install {name}`, '
      'or leave --track out.'
    ) from error
