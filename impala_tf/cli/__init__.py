"""Parts that all commands share: how they start and end, their errors, and flags for paths.

A command's module ends with these lines:

    cli.define_path('logdir', None, 'folder of the run')
    cli.run(main)
"""

import csv
import functools
import logging as std_logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from absl import app, flags, logging

from impala_tf.config import Config, ConfigurationError, options
from impala_tf.errors import UserError
from impala_tf.system import output
from impala_tf.system.paths import is_remote

flags.disclaim_key_flags()  # So that --help shows flags for paths among those of the command.

_FLAGS = flags.FLAGS
_LOG_FORMAT = '%(levelname)s: %(message)s'
_Main = TypeVar('_Main', bound=Callable[..., Any])
_LABEL = re.compile(r'[^/=~]+=')


def run(
  main: Callable[[list[str]], int], parse: Callable[[Sequence[str]], list[str]] | None = None
) -> NoReturn:
  """Runs a command, and ends the process with its exit code.

  Args:
    main: takes what is left of the command line; see `report_user_errors`.
    parse: parses the command line; by default `parse_flags`.
  """
  output.tolerate_failures()
  if any(argument.lstrip('-').startswith('help') for argument in sys.argv[1:]):
    # `--help | head` ends as other programs do, without a word.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
  try:
    app.run(main, flags_parser=parse or parse_flags)
  except KeyboardInterrupt:  # Before there was anything that could end in good order.
    sys.exit(128 + signal.SIGINT)


def parse_flags(argv: Sequence[str]) -> list[str]:
  """Parses a command line, for `run`; returns the words of it that are not flags.

  Values that no flag takes are refused here for all of them: text that is not of Unicode, numbers
  beyond 64 bits, and those that are not finite in single precision.
  """
  try:
    _check_text(argv)
    left = flags.FLAGS(list(argv))
    for name in flags.FLAGS:
      _check_number(name, flags.FLAGS[name].value)
    return left
  except (flags.Error, ValueError) as error:  # The latter of flags of absl itself, and --flagfile.
    print(f'Error: {error}\n--help shows all flags.', file=sys.stderr)
    sys.exit(1)


def values_on_line(argv: Sequence[str]) -> dict[str, str]:
  """Returns the values of flags on a command line by their names, for what has to be known before
  all flags are defined: those of `--name=value` and, where a word follows, `--name value`.
  """
  found = {}
  for argument, following in zip(argv[1:], [*argv[2:], '-'], strict=False):
    if argument == '--':
      break
    if argument.startswith('-'):
      name, equals, value = argument.lstrip('-').partition('=')
      if equals or not following.startswith('-'):
        found[name] = value if equals else following
  return found


def _check_text(argv):
  for argument in argv[1:]:
    try:
      argument.encode()
    except UnicodeEncodeError as error:
      raise ConfigurationError(
        f'{argument!r} is not text in UTF-8. Give it in that encoding, or rename the file.'
      ) from error


def _check_number(name, value):
  for number in value if isinstance(value, list) else [value]:
    problem = options.number_problem(number) if type(number) in (int, float) else None
    if problem:
      raise ConfigurationError(f'--{name}={number} {problem}. Change --{name}.')


def report_user_errors(*errors: type[Exception]) -> Callable[[_Main], _Main]:
  """Decorates a function that returns an exit code: it prints UserErrors in place of a traceback,
  and returns 1.

  Args:
    *errors: further classes, to be treated alike.
  """

  def decorate(function):
    @functools.wraps(function)
    def decorated(*args, **kwargs):
      try:
        return function(*args, **kwargs)
      except (UserError, *errors) as error:
        print(f'Error: {error}', file=sys.stderr)
        return 1

    return decorated

  return decorate


def no_positional_arguments(argv: Sequence[str]) -> None:
  """Refuses words that are not flags, as absl hands them to a command.

  Raises:
    ConfigurationError: names the first of them.
  """
  if len(argv) > 1:
    raise ConfigurationError(f'Not a flag: {argv[1]!r}. Leave it out; --help shows all flags.')


def define_path(name: str, default: str | None, help: str, **known: Any) -> flags.FlagHolder:
  """Defines a flag for a path: a ~ at its start is the home folder, and it is not empty.

  Args:
    name, default, help, **known: as of `absl.flags.DEFINE_string`.
  """
  return flags.DEFINE(_PathParser(), name, default, help, **known)


def define_paths(name: str, default: list[str] | None, help: str, **known: Any) -> flags.FlagHolder:
  """Defines a flag for paths separated by commas, each as of `define_path`; 'label=' may precede
  each.

  What is a path as a whole is taken for one, even if commas are in it; quotes protect the commas of
  one of several.

  Args:
    name, default, help, **known: as of `absl.flags.DEFINE_list`.
  """
  serializer = flags.CsvListSerializer(',')
  return flags.DEFINE(_PathsParser(), name, default, help, serializer=serializer, **known)


def path(text: str) -> str:
  """Returns a path that a user gave, with the home folder for a ~ at its start.

  Raises:
    ConfigurationError: if it is empty, or the home folder is not known.
  """
  if not text.strip():
    raise ConfigurationError('a path must not be empty')
  expanded = os.path.expanduser(text)
  if expanded.startswith('~'):
    home = text.split('/')[0]
    raise ConfigurationError(
      f'the home folder {home} does not exist; write ./{text} for such a name'
    )
  return expanded


def paths(text: str) -> list[str]:
  """Returns paths that a user gave, separated by commas; see `define_paths`.

  Raises:
    ConfigurationError: if they are not a list, or one is empty.
  """
  if not text or os.path.exists(os.path.expanduser(text)):
    return [path(text)] if text else []
  try:
    (texts,) = csv.reader([text], strict=True, skipinitialspace=True)
  except (csv.Error, ValueError) as error:
    raise ConfigurationError(f'{text!r} is not a list of paths: {error}') from error
  return [_labelled(text.strip()) for text in texts]


def _labelled(text):
  label = _LABEL.match(text)
  return label[0] + path(text[label.end() :]) if label else path(text)


class _PathParser(flags.ArgumentParser[str]):
  """A path."""

  syntactic_help = 'a path'

  def parse(self, argument):
    return path(argument)

  def flag_type(self):
    return 'path'


class _PathsParser(flags.ArgumentParser[list[str]]):
  """Paths, separated by commas."""

  syntactic_help = 'paths separated by commas'

  def parse(self, argument):
    return argument if isinstance(argument, list) else paths(argument)

  def flag_type(self):
    return 'comma separated list of paths'


def describe(deed: str, config: Config, preset: Config, name: str) -> str:
  """Returns what is about to be done as text, with the options that are other than a preset's.

  Args:
    deed: such as 'Training'.
    config: of the run.
    preset: to which it is compared.
    name: of the preset.
  """
  changes = config.changes_from(preset)
  actors = f'{config.num_actors} actor{"s" if config.num_actors > 1 else ""}'
  return (
    f'{deed} {config.level_name}: {config.agent} agent, {config.total_environment_frames:_} '
    f'frames, {actors} of {config.envs_per_actor} environments. Options are '
    + (f'those of {name} but for\n{changes}' if changes else f'those of {name}.')
  )


def set_up_log() -> None:
  """Leaves warnings and errors in the log, without time or place; --verbosity=1 shows all."""
  if not _FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().setFormatter(std_logging.Formatter(_LOG_FORMAT))


def check_local(logdir: str) -> None:
  """Refuses a folder that is not of a file system of this machine.

  Raises:
    ConfigurationError: for such as gs://bucket/runs.
  """
  if is_remote(logdir):
    raise ConfigurationError(
      f'{logdir} is not a folder of a file system, in which processes could lock files. Give one '
      'that all machines that take part have mounted.'
    )


def split_label(text: str, default_label: Callable[[str], str]) -> tuple[str, str]:
  """Returns label and path of 'label=path', or of a path alone.

  Args:
    text: taken for a path if that exists, even if '=' is in it.
    default_label: makes the label of a path without one.
  """
  if '=' not in text or os.path.exists(text):
    return default_label(text), text
  label, path = text.split('=', 1)
  return label, path


def last_part(path: str) -> str:
  """Returns the name of a file or folder without those of the folders around it, as a label."""
  return os.path.basename(os.path.abspath(path))
