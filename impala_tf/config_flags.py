"""The fields of `config.Config` as flags, for the commands that take them.

config_flags.define()            # before the command line is parsed
given = config_flags.given()     # when flags are parsed
command += config_flags.arguments(given)
"""

import dataclasses
import typing

from absl import flags

from impala_tf import config as config_lib
from impala_tf.config import Config

flags.disclaim_key_flags()  # So that --help shows them among those of the command.


def define():
  """Defines one flag for each field; left out, it has no value."""
  for field in dataclasses.fields(Config):
    types = typing.get_args(field.type) or (field.type,)
    help_ = field.metadata['help']
    if bool in types:
      flags.DEFINE_boolean(field.name, None, help_)
    elif 'choices' in field.metadata:
      flags.DEFINE_enum(field.name, None, field.metadata['choices'], help_)
    elif types == (int,):
      flags.DEFINE_integer(field.name, None, help_)
    elif types == (float,):
      flags.DEFINE_float(field.name, None, help_)
    else:
      flags.DEFINE_string(field.name, None, help_)


def given():
  """The fields that were given as flags, a dict.

  Raises:
    ConfigurationError: for a value that is none of its field's.
  """
  values = {}
  for field in dataclasses.fields(Config):
    value = flags.FLAGS[field.name].value
    if value is not None:
      values[field.name] = (
        config_lib.parse(field.name, value) if field.type == float | None else value
      )
  return values


def arguments(values):
  """A list of command line arguments from which `given` makes `values`, a dict."""
  as_text = lambda value: 'none' if value is None else str(value)
  return [f'--{name}={as_text(value)}' for name, value in values.items()]
