"""Values of JSON as values of declared types: where the structure of files is checked.

    @dataclasses.dataclass
    class Score:
      frames: int
      score: float | None

    convert({'frames': 3, 'score': 1}, Score)          # Score(3, 1.0)
    convert({'frames': 'x', 'score': 1}, Score)        # MismatchError of the field 'frames'

The types are dataclasses, `list`, `dict` with text as keys, `bool`, `int`, `float`, `str`, `None`,
unions of them, and `Any`. What a dataclass has no field for, as in a file of a later version, is
passed over.
"""

import dataclasses
import math
import types
import typing
from typing import Any

_MAX_SHOWN = 40
_INT64 = range(-(2**63), 2**63)
_NAMES = {
  bool: 'true or false',
  int: 'a whole number of at most 64 bits',
  float: 'a finite number',
  str: 'a text',
  list: 'a list',
  dict: 'an object',
  type(None): 'null',
}


class MismatchError(ValueError):
  """A value is not of the declared type.

  Attributes:
    field: where it is, such as 'levels.pong.returns[3]'; empty for the whole value.
    problem: what is wrong with it.
  """

  def __init__(self, field: str, problem: str):
    """Takes both."""
    super().__init__(f'{field} {problem}' if field else problem)
    self.field = field
    self.problem = problem


def convert(value: Any, type_: Any, field: str = '') -> Any:
  """Returns a value of JSON as one of a type.

  Args:
    value: as from `json.loads`.
    type_: what it should be.
    field: where it is, for errors.

  Raises:
    MismatchError: if it is not; it has the field and the problem.
  """
  if type_ is Any:
    return value
  origin = typing.get_origin(type_) or type_
  arguments = typing.get_args(type_)
  if origin in (typing.Union, types.UnionType):
    return _one_of(value, arguments, field)
  if dataclasses.is_dataclass(type_):
    return _object(value, type_, field)
  if origin is float and type(value) is int and value in _INT64:
    value = float(value)
  if type(value) is not origin or value in (math.inf, -math.inf) or value != value:
    _refuse(field, value, origin)
  if origin is int and value not in _INT64:
    _refuse(field, value, origin)
  if origin is list and arguments:
    return [convert(item, arguments[0], f'{field}[{i}]') for i, item in enumerate(value)]
  if origin is dict and arguments:
    return {name: convert(item, arguments[1], _below(field, name)) for name, item in value.items()}
  return value


def _one_of(value, types_, field):
  for type_ in types_:
    # Not the first one that would take it: a whole number would become a float, a dict a failure.
    if type(value) is (typing.get_origin(type_) or type_):
      return convert(value, type_, field)
  others = [type_ for type_ in types_ if type_ is not type(None)]
  if len(others) == 1 or (type(value) is int and float in others):
    return convert(value, others[0] if len(others) == 1 else float, field)
  raise MismatchError(
    field, f'is {_shown(value)}, not {" or ".join(_NAMES.get(t, t.__name__) for t in types_)}'
  )


def _object(value, type_, field):
  if type(value) is not dict:
    _refuse(field, value, dict)
  hints = typing.get_type_hints(type_)
  fields = {one.name: one for one in dataclasses.fields(type_)}
  missing = dataclasses.MISSING
  for name, one in fields.items():
    if name not in value and one.default is one.default_factory is missing:
      raise MismatchError(_below(field, name), 'is missing')

  values = {
    name: convert(value[name], hints[name], _below(field, name)) for name in fields if name in value
  }
  try:
    return type_(**values)
  except (ValueError, TypeError) as error:  # Values that do not go together.
    raise MismatchError(field, f'is not sound: {error}'.removesuffix('.')) from error


def _below(field, name):
  return f'{field}.{_cut(name)}' if field else _cut(name)


def _refuse(field, value, type_):
  raise MismatchError(field, f'is {_shown(value)}, not {_NAMES[type_]}')


def _shown(value):
  return _cut(repr(value)) if not isinstance(value, list | dict) else _NAMES[type(value)]


def _cut(text):
  return text if len(text) <= _MAX_SHOWN else f'{text[:_MAX_SHOWN]}...'
