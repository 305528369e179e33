"""Rates that were measured for Table 1: what is read here of the files of `impala_tf.benchmark`."""

import dataclasses
from typing import Any

from impala_tf import config as config_lib
from impala_tf import files
from impala_tf.config import Config, options


@dataclasses.dataclass(frozen=True)
class Machine:
  """The machine that a rate was measured on."""

  cores: int
  processor: str
  tensorflow: str
  gpus: int = 0


@dataclasses.dataclass(frozen=True)
class Measured:
  """The speed of one part; see `measurement.Result`."""

  frames_per_second: float
  cpu_seconds_per_1000_frames: float


@dataclasses.dataclass(frozen=True)
class Rate:
  """A measurement: where, of what configuration, and the speed of the parts, the whole first."""

  machine: Machine
  config: dict[str, Any]
  results: list[Measured]

  def __post_init__(self):
    """Checks that something was measured, with options that can be."""
    if not self.results:
      raise ValueError('it has no results')
    for name in self.config.keys() & {*Config.field_names()}:
      options.check(config_lib.field_of(name), self.config[name])


def read(path: str) -> Rate | None:
  """Returns the measurement in a file, None if it does not exist; raises FileError."""
  return files.read_json(path, Rate | None, 'Remove it and measure again.')
