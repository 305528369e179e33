"""The options of the configuration as flags, for the commands that take them.

    config_flags.define()             # when the module of a command is loaded
    cli.run(main, config_flags.parse_flags)
    overrides = config_flags.given()  # in main
    command += config_flags.arguments(overrides)

There is a flag for each option of `Config` and of the suites: those that are registered, and that
of --level_name=my_package.module:level.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from impala_tf import cli
from impala_tf.config import Config, options
from impala_tf.environments import suites
from impala_tf.environments.suite import Suite
from impala_tf.errors import ConfigurationError

flags.disclaim_key_flags()  # So that --help shows the flags among those of the command.

TASK, LEARNING, RUNNING, CLUSTER = 'Task', 'Learning', 'Running', 'Cluster'
MISSING_LEVEL = '--level_name is missing: name the level, such as --level_name=pong.'
_TASK_OPTIONS = ('level_name', 'agent', 'total_environment_frames', 'seed')
_SUITES = 'Options of '  # And names of suites.
_defined: dict[str, dataclasses.Field] = {}
_command = '__main__'


def define(command: str = '__main__') -> None:
  """Defines a flag for each option; one that is left out has no value.

  Args:
    command: name of the module whose docstring and flags --help shows first. It differs from
      `__main__` where an installed script calls the command.
  """
  global _command
  _command = command
  for field in dataclasses.fields(Config):
    if field.name in _TASK_OPTIONS:
      _define(field, TASK)
    else:
      _define(field, RUNNING if field.metadata['runtime'] else LEARNING)

  owners: dict[str, list[str]] = {}
  fields: dict[str, dataclasses.Field] = {}
  for name, suite in suites.registered().items():
    for field in _own_fields(suite):
      owners.setdefault(field.name, []).append(name)
      fields.setdefault(field.name, field)

  for name, field in fields.items():
    _define_own(field, ', '.join(owners[name]))


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses a command line, for `cli.run`; first defines the options of a suite that is not
  registered and whose level is on the line. --help shows all flags in groups.
  """
  try:
    if level_name := cli.values_on_line(argv).get('level_name'):
      define_options_of(suites.find(level_name))
  except ConfigurationError:
    pass  # `main` will meet it, too, and say it.
  if {'--help', '-help', '-h'} & {*argv[1:]}:
    print(_help())
    sys.exit(0)
  return cli.parse_flags(argv)


def given(suite: Suite | None = None) -> dict[str, Any]:
  """Returns the options that were given as flags; only those that a suite has besides those of all,
  if one is named.

  Raises:
    ConfigurationError: for a value that is refused.
  """
  values = {}
  own = None if suite is None else {field.name for field in _own_fields(suite)}
  for name, field in _defined.items():
    if own is not None and name not in own:
      continue
    value = flags.FLAGS[name].value if name in flags.FLAGS else None
    if value is not None:
      is_text = len(options.types_of(field)) > 1
      values[name] = options.parse(field, value) if is_text else value
  return values


def given_with_level() -> dict[str, Any]:
  """Returns the options that were given as flags, the level among them.

  Raises:
    ConfigurationError: if the level is missing, or a value is refused.
  """
  values = given()
  if 'level_name' not in values:
    raise ConfigurationError(MISSING_LEVEL)
  return values


def arguments(values: Mapping[str, Any]) -> list[str]:
  """Returns command line arguments from which `given` makes `values`."""
  return [f'--{name}={"none" if value is None else value}' for name, value in values.items()]


def _own_fields(suite):
  known = Config.__dataclass_fields__
  return [field for field in dataclasses.fields(suite.config_class) if field.name not in known]


def define_options_of(suite: Suite, runtime_only: bool = False) -> None:
  """Defines the flags that are missing for the options which a suite has besides those of all.

  Args:
    suite: the suite.
    runtime_only: whether options that decide what is learned have none.
  """
  for field in _own_fields(suite):
    is_defined = field.name in _defined and field.name in flags.FLAGS
    if not is_defined and (field.metadata['runtime'] or not runtime_only):
      _define_own(field, suite.name)


def _define_own(field, owners):
  """Defines the flag of an option that suites have, unless the command has one of that name."""
  if field.name in flags.FLAGS:
    print(
      f'The option {field.name} of {owners} has the name of a flag of this command and keeps its '
      'default here. Rename it.',
      file=sys.stderr,
    )
  else:
    _define(field, f'{_SUITES}{owners}')


def _define(field, group):
  """Defines a flag; `group` takes the place of the module's name, by which absl groups flags."""
  types, help_ = options.types_of(field), field.metadata['help']
  known = {'module_name': group}
  if bool in types:
    flags.DEFINE_boolean(field.name, None, help_, **known)
  elif 'choices' in field.metadata and not field.metadata.get('may_be_reference'):
    flags.DEFINE_enum(field.name, None, field.metadata['choices'], help_, **known)
  elif types == (int,):
    flags.DEFINE_integer(field.name, None, help_, **known)
  elif types == (float,):
    flags.DEFINE_float(field.name, None, help_, **known)
  else:
    flags.DEFINE_string(field.name, None, help_, **known)

  _defined[field.name] = field


def _help():
  """Returns the text of --help: what is played, the command's flags, then all others in groups."""
  values = flags.FLAGS
  groups = [group for group in values.flags_by_module_dict() if group.startswith(_SUITES)]
  texts = {
    group: values.module_help(group)
    for group in (TASK, LEARNING, RUNNING, *groups, CLUSTER)
    if group in values.flags_by_module_dict()
  }
  about, task = (sys.modules[_command].__doc__ or '').strip(), texts.pop(TASK)
  # absl names the group of the main module by the path of its file.
  own = values.module_help(sys.argv[0] if _command == '__main__' else _command)
  own = own.strip('\n').partition('\n')[2]
  return '\n'.join([about, task, f'\nCommand:\n{own}', *texts.values()])
