"""Values of JSON as values of declared types."""

import dataclasses
from typing import Any

import pytest

from impala_tf.files import schema


@dataclasses.dataclass(frozen=True)
class Inner:
  returns: list[float]
  names: dict[str, int] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if not self.returns:
      raise ValueError('It is empty.')


@dataclasses.dataclass(frozen=True)
class Outer:
  name: str
  inner: Inner
  is_good: bool = True
  number: int | None = None
  value: bool | int | float | str | None = None
  source: Inner | None = None
  anything: Any = None


SOUND = {'name': 'a', 'inner': {'returns': [1, 2.5]}}


def test_values_of_each_type_are_taken():
  assert schema.convert(SOUND, Outer) == Outer('a', Inner([1.0, 2.5]))
  whole = {
    **{'is_good': False, 'number': 3, 'value': 'x', 'anything': [{}], 'of a later version': 1},
    'source': {'returns': [0], 'names': {'b': 2}},
  }
  assert schema.convert(SOUND | whole, Outer) == Outer(
    'a', Inner([1.0, 2.5]), False, 3, 'x', Inner([0.0], {'b': 2}), [{}]
  )
  assert [schema.convert(v, bool | int | float | None) for v in (True, 1, 1.5, None)] == [
    *(True, 1, 1.5, None)
  ]
  assert type(schema.convert(1, bool | float)) is float


@pytest.mark.parametrize(
  ('changes', 'field'),
  [
    ({'name': None}, 'name'),
    ({'name': 1}, 'name'),
    ({'inner': []}, 'inner'),
    ({'inner': {}}, 'inner.returns'),
    ({'inner': {'returns': 3}}, 'inner.returns'),
    ({'inner': {'returns': []}}, 'inner'),
    ({'inner': {'returns': [1.0, 'x']}}, 'inner.returns[1]'),
    ({'inner': {'returns': [float('nan')]}}, 'inner.returns[0]'),
    ({'inner': {'returns': [float('inf')]}}, 'inner.returns[0]'),
    ({'inner': {'returns': [10**400]}}, 'inner.returns[0]'),
    ({'inner': {'returns': [True]}}, 'inner.returns[0]'),
    ({'inner': {'returns': [1], 'names': {'b': 1.5}}}, 'inner.names.b'),
    ({'is_good': 1}, 'is_good'),
    ({'number': True}, 'number'),
    ({'number': 2**63}, 'number'),
    ({'number': 1.5}, 'number'),
    ({'value': []}, 'value'),
    ({'source': {'returns': None}}, 'source.returns'),
  ],
)
def test_what_is_of_another_type_is_refused_by_its_place(changes, field):
  with pytest.raises(schema.MismatchError) as error:
    schema.convert(SOUND | changes, Outer)
  assert error.value.field == field


@pytest.mark.parametrize('value', [None, [], 'x', 3, 1e308, True])
def test_a_value_that_is_not_an_object_at_all_is_refused(value):
  with pytest.raises(schema.MismatchError, match='not an object'):
    schema.convert(value, Outer)


def test_long_values_are_cut():
  with pytest.raises(schema.MismatchError) as error:
    schema.convert(SOUND | {'number': 'x' * 10_000}, Outer)
  assert len(str(error.value)) < 200
