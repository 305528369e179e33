"""Child processes that end as a script says, for tests of supervision without real processes."""

from impala_tf.system import locks


class Scripted:
  """A child that ends with a code after so many seconds; stopped, with that of a run that saved."""

  def __init__(self, clock, seconds, code, when_stopped=143):
    self._clock, self._end, self._code = clock, clock.now + seconds, code
    self._when_stopped = when_stopped
    self.was_stopped = False

  def poll(self):
    return self._code if self._clock.now >= self._end else None

  def stop(self):
    self.was_stopped = True
    if self.poll() is None:
      self._end, self._code = self._clock.now, self._when_stopped

  def wait_or_kill(self, seconds):
    return self.poll()

  def last_lines(self):
    return 'the last lines'


def script(clock, *ends):
  """Scripts a child.

  Args:
    clock: `clock.Clock`, in place of the module `time` of `processes`.
    *ends: for each start the further arguments of `Scripted`, or FolderBusyError.

  Returns:
    A function that starts it, and a list that gets the seconds at which it was started.
  """
  ends, started = list(ends), []

  def start():
    end = ends.pop(0)
    if end is locks.FolderBusyError:
      raise end('Another process trains in here.')
    started.append(clock.now)
    return Scripted(clock, *end)

  return start, started
