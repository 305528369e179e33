"""A clock that tests set."""


class Clock:
  """Time that passes when `now` is changed, or by sleeping. It stands for a function that gives
  seconds, and for the module `time`.
  """

  def __init__(self, now=100.0):
    self.now = now

  def __call__(self):
    return self.now

  monotonic = __call__

  def sleep(self, seconds):
    self.now += seconds
