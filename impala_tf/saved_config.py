"""The configuration of a run in its folder: config.json, by which a later start resumes with the
same one.

    check(logdir, config)              # when training starts or is resumed
    save(logdir, config)               # when all is known to go together
    config = load(logdir)
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

from impala_tf import config as config_lib
from impala_tf import files
from impala_tf.config import Config, ConfigurationError, options
from impala_tf.environments import suites
from impala_tf.errors import FileError

FILE_NAME = 'config.json'
HISTORY_NAME = 'lineage.jsonl'  # Beside it if the run is a member of a population.
_MAX_NAME_BYTES = 255
_REMEDY = 'Repair or remove the file, or use another --logdir.'


def save(logdir: str, config: Config) -> None:
  """Writes config.json, which exists either whole or not at all.

  Args:
    logdir: an existing folder, anything that tf.io.gfile takes.
    config: the run's.

  Raises:
    files.StorageError: if it can't be written.
  """
  files.write(os.path.join(logdir, FILE_NAME), config.to_json())


def load(logdir: str, default: type[Config] | None = None) -> Config | None:
  """Returns the configuration of the run in a folder, None if it has no config.json.

  Args:
    logdir: anything that tf.io.gfile takes.
    default: the class of a suite that can't be found by the name of its level.

  Raises:
    FileError: if the file can't be read or understood, or its suite is not installed.
  """
  values = _read(logdir)
  if values is None:
    return None
  try:
    try:
      config_class = suites.find(str(values.get('level_name', ''))).config_class
    except ConfigurationError:
      if default is None:
        raise
      config_class = default
    # Once all suites had their options in one configuration.
    return config_class.from_values(values, ignored=suites.option_names())
  except ConfigurationError as error:
    raise FileError(os.path.join(logdir, FILE_NAME), f'is refused: {error}', _REMEDY) from error


def _read(logdir):
  """Returns the JSON object of the file, None if it does not exist."""
  return files.read_json(os.path.join(logdir, FILE_NAME), dict[str, Any], _REMEDY)


def check(logdir: str, config: Config) -> Config | None:
  """Makes sure that the run in a folder, if there is one, has the configuration of the one that is
  about to start; nothing is written.

  Args:
    logdir: anything that tf.io.gfile takes.
    config: its runtime fields may differ from those in the file.

  Returns:
    The configuration in the file, None if there is no run.

  Raises:
    ConfigurationError: if another field differs, naming each with both values, or if the file can't
      be understood.
  """
  old = load(logdir, type(config))
  if old is not None:
    _check_same(logdir, old, config)
  return old


def learning_values(config: Config) -> dict[str, Any]:
  """Returns the options that decide what is learned, by name."""
  return {name: getattr(config, name) for name in config.learning_fields()}


def values_in(logdir: str) -> dict[str, Any]:
  """Returns what config.json of a folder has by name, as it stands there; empty without the file.

  Raises:
    FileError: if the file can't be read or understood.
  """
  return _read(logdir) or {}


def load_with(
  logdir: str, overrides: Mapping[str, Any], default: type[Config] | None = None
) -> Config:
  """Returns the configuration of the run in a folder, with other values for some of its runtime
  fields; nothing is written.

  Args:
    logdir: folder of a run, anything that tf.io.gfile takes.
    overrides: a field of learning must have the run's own value.
    default: as for `load`.

  Raises:
    ConfigurationError: if there is not a run, its file can't be understood, or its configuration is
      another one.
  """
  run = load(logdir, default)
  if run is None:
    raise ConfigurationError(
      f'No run in {logdir}: it has no {FILE_NAME}. Train first, or give --logdir the folder of a '
      'run.'
    )
  config = dataclasses.replace(run, **overrides)
  _check_same(logdir, run, config)
  return config


def default_logdir(level_name: str) -> str:
  """Returns the folder of a run without --logdir.

  Raises:
    ConfigurationError: if the name of the level leads out of `runs`.
  """
  # The path of a level script may begin with a slash.
  parts = level_name.split('/')
  if '..' in parts:
    raise ConfigurationError(
      f'--level_name={level_name} leads out of `runs`, where runs are by default. Give --logdir, '
      'the folder of the run.'
    )
  return os.path.join('runs', *(_short(part) for part in parts))


def _short(name):
  """Returns the name of a folder, which may not be longer than file systems allow."""
  if len(name.encode()) <= _MAX_NAME_BYTES:
    return name
  return f'{name[:32]}...{hashlib.sha256(name.encode()).hexdigest()[:16]}'


def runs_in(logdirs: Iterable[str]) -> list[str]:
  """Returns the folders of runs among folders of runs and folders of such."""
  runs: list[str] = []
  for logdir in logdirs:
    below = []
    if not _is_run(logdir):
      folders = [os.path.join(logdir, name) for name in files.names_in(logdir)]
      below = [folder for folder in folders if _is_run(folder)]
    runs += below or [logdir]
  return runs


def _is_run(folder):
  return files.exists(os.path.join(folder, FILE_NAME))


def _check_same(logdir, old, new):
  different = config_lib.differences(old, new)
  if different:
    as_text = options.as_text
    rows = '\n'.join(
      f'  {name}: {as_text(was)} in {FILE_NAME}, {as_text(now)} now' for name, was, now in different
    )
    raise ConfigurationError(
      f'The run in {logdir} has another configuration:\n{rows}\n'
      'To resume that run, give these their old values; for a new run, use another --logdir.'
    )
