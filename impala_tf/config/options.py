"""One option of a configuration: a dataclass field with a help text, limits and a text form.

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class MyConfig(Config):
      num_arms: int = option('number of arms of the bandit', default=10, minimum=2)

An option is of type bool, int, float or str, or of `float | None`.
"""

import dataclasses
import difflib
import importlib
import json
import math
import os
import struct
import sys
import typing
from collections.abc import Callable, Container, Iterable, Mapping
from types import ModuleType
from typing import Any, Self

from impala_tf.errors import ConfigurationError

Value = bool | int | float | str | None

# What TensorFlow's int32 and int64 hold.
_INT32_MAXIMUM = 2**31 - 1
_INT64_MAXIMUM = 2**63 - 1


def option(
  help: str,
  *,
  default: Any = dataclasses.MISSING,
  runtime: bool = False,
  **limits: Any,
) -> Any:
  """Returns the dataclass field of an option.

  Args:
    help: what it means, a text that can be read alone.
    default: as in `dataclasses.field`; an option without one must be given.
    runtime: whether it leaves alone what is learned, so that it may differ when a run is resumed
      and between the machines of a cluster.
    **limits: minimum and maximum (allowed themselves; the maximum of a whole number is 2**31 - 1
      if it is left out), above and below (not allowed themselves), choices, and for text
      may_be_empty, may_be_reference ('package.module:name', see `import_reference`, besides the
      choices if there are any) and may_be_several (references, separated by commas).
  """
  metadata = {'help': help, 'runtime': runtime, **limits}
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """Base of the dataclasses whose fields are options."""

  def __init_subclass__(cls, **kwargs: Any) -> None:
    """Makes types of annotations that are texts, as after `from __future__ import annotations`."""
    super().__init_subclass__(**kwargs)
    types = typing.get_type_hints(cls)
    cls.__annotations__ = {name: types[name] for name in cls.__annotations__}

  def __post_init__(self) -> None:
    """Checks every field."""
    for field in dataclasses.fields(self):
      object.__setattr__(self, field.name, check(field, getattr(self, field.name)))

  def changes_from(self, preset: Self) -> str:
    """Returns a line for each field whose value is another one than in a preset; empty if none."""
    rows = [
      (name, as_text(getattr(self, name)), as_text(getattr(preset, name)))
      for name in self.field_names()
      if getattr(self, name) != getattr(preset, name)
    ]
    width = max((len(name) for name, *_ in rows), default=0)
    return '\n'.join(f'  {name:{width}}  {value} (preset: {was})' for name, value, was in rows)

  def to_json(self) -> str:
    """Returns the fields as the text of a JSON object; `from_values` undoes it."""
    return json.dumps(dataclasses.asdict(self), indent=2) + '\n'

  @classmethod
  def from_values(cls, values: Mapping[str, Any], ignored: Container[str] = ()) -> Self:
    """Returns the configuration that `to_json` made a text from.

    Args:
      values: the JSON object; fields that an older version did not have take their defaults.
      ignored: names of fields that may be there, and mean nothing to this class.

    Raises:
      ConfigurationError: if there is a field too many or too few, or a value is refused.
    """
    values = cls.of_older_version(dict(values))
    names = cls.field_names()
    values = {name: value for name, value in values.items() if name in names or name not in ignored}
    required = [
      field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING
    ]
    problems = []
    if unknown := [name for name in values if name not in names]:
      unknown = [name + suggestion(name, names) for name in unknown]
      problems.append(f'unknown: {", ".join(unknown)}')

    if missing := [name for name in required if name not in values]:
      problems.append(f'missing: {", ".join(missing)}')
    if problems:
      raise ConfigurationError(
        'The fields of the configuration are not those of this version '
        f'({"; ".join(problems)}). Correct them, or use the version that wrote it.'
      )

    return cls(**values)

  @classmethod
  def of_older_version(cls, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields that a file of an older version has, as this version has them."""
    return values

  @classmethod
  def field_names(cls) -> list[str]:
    """Returns the names of all fields."""
    return [field.name for field in dataclasses.fields(cls)]

  @classmethod
  def learning_fields(cls) -> list[str]:
    """Returns the names of the fields that decide what is learned."""
    return [field.name for field in dataclasses.fields(cls) if not field.metadata['runtime']]


def types_of(field: dataclasses.Field) -> tuple[type, ...]:
  """Returns the types of an option's values; NoneType is the last, if it is one of them."""
  return typing.get_args(field.type) or (field.type,)


def check(field: dataclasses.Field, value: Any) -> Value:
  """Returns a value of an option as a configuration keeps it: whole numbers become floats where the
  option is a float, so that equal settings print equal.

  Raises:
    ConfigurationError: if it is of the wrong type or outside the option's limits.
  """
  value = _typed(field, value)
  if value is not None:
    _check_limits(field, value)
  return value


def parse(field: dataclasses.Field, text: str) -> Value:
  """Returns the value of an option that a text means; `as_text` and str make such texts.

  Raises:
    ConfigurationError: if it does not mean a value of the option.
  """
  first, *others = types_of(field)
  text = text.strip()
  if others and text.lower() == 'none':
    return check(field, None)
  if first is bool and text.lower() in ('true', 'false'):
    return text.lower() == 'true'
  if first not in (int, float):
    return check(field, text)

  try:
    return check(field, first(text))
  except ConfigurationError:
    raise
  except ValueError:
    wanted = 'a whole number' if first is int else 'a number or none' if others else 'a number'
    raise ConfigurationError(f'--{field.name}={text} is not {wanted}.') from None


def as_text(value: Value) -> str:
  """Returns the value of an option, for people to read."""
  if value is None:
    return 'none'
  if type(value) is int:
    return f'{value:_}'
  return str(value) or "''"


def import_module(name: str) -> ModuleType:
  """Imports a module of the path, or else of the working directory.

  Raises:
    ConfigurationError: if there is none, or it can't be loaded; a module that it needs and that is
      missing is named.
  """
  folder = os.getcwd()
  if folder not in sys.path:
    # Last, so that it hides nothing; processes of environments get the path from this one.
    sys.path.append(folder)

  try:
    return importlib.import_module(name)
  except ModuleNotFoundError as error:
    missing = (error.name or name).partition('.')[0]
    if missing != name.partition('.')[0]:
      raise ConfigurationError(
        f'The module {name} needs {error.name}, which is not installed. Install it, such as by '
        f'`pip install {missing}`.'
      ) from error
    raise ConfigurationError(
      f'{error}. Install it, such as by `pip install {missing}`, start in its folder, or put that '
      'on PYTHONPATH.'
    ) from error
  except Exception as error:  # Of any kind, as the module runs its own code.
    raise ConfigurationError(
      f'The module {name} can not be imported: {type(error).__name__}: {error}'
    ) from error


def import_reference(name: str, text: str) -> Callable[..., Any]:
  """Imports what an option's text such as 'package.module:function' names.

  Args:
    name: of the option, for messages.
    text: the dotted name of a module that can be imported, a colon, and a name in that module.

  Raises:
    ConfigurationError: if there is no such module, or nothing of that name in it.
  """
  module, _, attribute = text.partition(':')
  try:
    return getattr(import_module(module), attribute)
  except (ConfigurationError, AttributeError) as error:
    raise ConfigurationError(
      f'{name}={text!r} can not be imported: {error} Write it as package.module:function.'
    ) from error


def suggestion(name: str, choices: Iterable[str]) -> str:
  """Returns the nearest of some names, as text to follow a wrong one; empty if none is near."""
  matches = difflib.get_close_matches(name, list(choices), n=1)
  return f' (did you mean {matches[0]}?)' if matches else ''


def did_you_mean(name: str, known: Iterable[str]) -> str:
  """Returns a sentence with the names that are nearest to a wrong one, or with all if none is."""
  known = list(known)
  nearest = difflib.get_close_matches(name, known)
  return f'Did you mean {" or ".join(nearest)}?' if nearest else f'Known: {", ".join(known)}.'


def _typed(field, value):
  types = types_of(field)
  # bool is an int to Python, but a flag given as a number is a mistake.
  if type(value) in types:
    return value
  if float in types and type(value) is int:
    return float(value)

  names = ' or '.join('none' if t is type(None) else t.__name__ for t in types)
  hint = ''
  if int in types and isinstance(value, float) and value.is_integer():
    hint = f'; write {int(value)}'
  raise ConfigurationError(
    f'{field.name}={value!r} is of type {type(value).__name__}, but {field.name} '
    f'({field.metadata["help"]}) must be of type {names}{hint}.'
  )


def _check_limits(field, value):
  limits = field.metadata
  if isinstance(value, str) and not value.strip():
    if limits.get('may_be_empty'):
      return
    reason = 'must not be empty'
  elif limits.get('may_be_reference') and (':' in value or 'choices' not in limits):
    for reference in value.split(',') if limits.get('may_be_several') else [value]:
      import_reference(field.name, reference)
    return
  elif 'choices' in limits and value not in limits['choices']:
    choices = limits['choices']
    reason = f'must be one of {", ".join(choices)}{suggestion(value, choices)}'
  elif isinstance(value, (int, float)):
    reason = number_problem(value) or _outside(limits, value)
    if not reason:
      return
  else:
    return

  raise ConfigurationError(
    f'{field.name}={value!r} ({limits["help"]}) {reason}. Change --{field.name}.'
  )


def number_problem(value: int | float) -> str:
  """Returns why a number is none that TensorFlow can compute with; empty if it is one."""
  if isinstance(value, int):
    return '' if abs(value) <= _INT64_MAXIMUM else 'must have at most 64 bits'
  if not math.isfinite(value):
    return 'must be a finite number'
  return '' if math.isfinite(_single(value)) else 'must be finite in single precision'


def _outside(limits, value):
  """Returns which limit a number is not within; empty if it is within all."""
  maximum = limits.get('maximum', _INT32_MAXIMUM if isinstance(value, int) else math.inf)
  # The network and its loss compute in single precision, where 1e-50 is 0.
  single = _single(value)
  if 'minimum' in limits and value < limits['minimum']:
    return f'must be at least {limits["minimum"]}'
  if value > maximum:
    return f'must be at most {maximum}'
  if 'above' in limits and single <= limits['above']:
    return f'must be above {limits["above"]}'
  if 'below' in limits and single >= limits['below']:
    return f'must be below {limits["below"]}'
  return ''


def _single(value):
  """Returns the nearest number of single precision."""
  try:
    return struct.unpack('f', struct.pack('f', value))[0]
  except OverflowError:
    return math.copysign(math.inf, value)
