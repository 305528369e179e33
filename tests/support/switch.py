"""A request to end that comes after a time."""


class Switch:
  """Becomes true when it has been asked so many times."""

  def __init__(self, times):
    self._left = times

  def __bool__(self):
    self._left -= 1
    return self._left < 0
