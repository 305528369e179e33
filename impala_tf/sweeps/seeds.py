"""Runs that differ in their seeds alone, as a sweep."""

from collections.abc import Collection

from impala_tf.config import Config
from impala_tf.environments.suite import Suite
from impala_tf.sweeps import definition, search_space, worker


def train(
  suite: Suite,
  config: Config,
  count: int,
  logdir: str,
  parallel: int = 1,
  derived: Collection[str] = (),
) -> int:
  """Trains a run for each of some seeds, or resumes them; returns the exit code.

  Args:
    suite: of the levels.
    config: of the run with the first seed; the others have those after it.
    count: how many seeds.
    logdir: folder of the sweep.
    parallel: how many runs at a time.
    derived: fields that each run is to choose for itself, as its share of the machine is another
      one than what `config` was made for.

  Raises:
    ConfigurationError: if another sweep is in `logdir`, or the runs are refused.
  """
  preset = suite.configure(config.level_name)
  given = {'level_name': config.level_name} | {
    name: getattr(config, name)
    for name in config.field_names()
    if getattr(config, name) != getattr(preset, name) and name not in ('seed', *derived)
  }
  seeds = search_space.Each(tuple(range(config.seed, config.seed + count)))
  return worker.run(logdir, definition.Sweep(given, {'seed': seeds}, count), parallel=parallel)
