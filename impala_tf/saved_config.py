"""The configuration of a run in its folder: config.json, by which a later start goes on with the
same one.

check_or_save(logdir, config)      # when training starts, or goes on
config = load(logdir)
"""

import dataclasses
import os

import tensorflow as tf

from impala_tf import config as config_lib
from impala_tf import files
from impala_tf.config import Config, ConfigurationError

FILE_NAME = 'config.json'


def save(logdir, config):
  """Writes config.json, which exists either whole or not at all.

  Args:
    logdir: an existing folder, anything that tf.io.gfile takes.
    config: the run's Config.

  Raises:
    files.StorageError: if it can't be written.
  """
  files.write(os.path.join(logdir, FILE_NAME), config.to_json())


def load(logdir):
  """The Config of the run in `logdir`, None if it has no config.json.

  Raises:
    ConfigurationError: if the file can't be read or understood; names it.
  """
  path = os.path.join(logdir, FILE_NAME)
  try:
    data = files.read(path)
    return None if data is None else Config.from_json(data.decode())
  except (ConfigurationError, UnicodeDecodeError, tf.errors.OpError) as error:
    raise ConfigurationError(
      f'{path}: {error} Repair or remove the file, or use another --logdir.'
    ) from error


def check_or_save(logdir, config):
  """Writes config.json on the first run, and on later ones makes sure that they go on with the same
  configuration.

  Args:
    logdir: an existing folder, anything that tf.io.gfile takes.
    config: the Config of the run about to start. Where only resumable fields differ from the file,
      they replace those.

  Raises:
    ConfigurationError: if another field differs, naming each with both values, or if the file can't
      be understood. The file is unchanged then.
  """
  old = load(logdir)
  if old == config:
    return
  if old is not None:
    _check_same(logdir, old, config)
  save(logdir, config)


def load_with(logdir, given):
  """The Config of the run in `logdir`, with other values for some of its resumable fields; nothing
  is written.

  Args:
    logdir: folder of a run, anything that tf.io.gfile takes.
    given: a dict of fields. One that is not resumable must have the run's own value.

  Raises:
    ConfigurationError: if there is no run, its file can't be understood, or its configuration is
      another one.
  """
  run = load(logdir)
  if run is None:
    raise ConfigurationError(
      f'No run in {logdir}: it has no {FILE_NAME}. Train first, or give --logdir the folder of a run.'
    )
  config = dataclasses.replace(run, **given)
  _check_same(logdir, run, config)
  return config


def _check_same(logdir, old, new):
  different = config_lib.differences(old, new)
  if different:
    as_text = config_lib.as_text
    rows = '\n'.join(
      f'  {name}: {as_text(was)} in {FILE_NAME}, {as_text(now)} now' for name, was, now in different
    )
    raise ConfigurationError(
      f'The run in {logdir} has another configuration:\n{rows}\n'
      'To go on with that run, give these their old values; for a new run, use another --logdir.'
    )
