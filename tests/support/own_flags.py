"""Flags of a command in a parser of their own, beside those that other modules have defined in this
process.
"""

import functools

from absl import flags


def parse(monkeypatch, define, *arguments):
  """Has `define` define its flags, parses `arguments`, and until the end of the test lets commands
  find these values.
  """
  values = flags.FlagValues()
  monkeypatch.setattr(flags, 'DEFINE', functools.partial(flags.DEFINE, flag_values=values))
  for kind in ('boolean', 'enum', 'float', 'integer', 'list', 'multi_string', 'string'):
    monkeypatch.setattr(
      flags,
      f'DEFINE_{kind}',
      functools.partial(getattr(flags, f'DEFINE_{kind}'), flag_values=values),
    )
  monkeypatch.setattr(flags, 'FLAGS', values)
  define()
  values(['command', *arguments])
  return values
