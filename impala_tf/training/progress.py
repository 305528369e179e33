"""The running line that tells how a training goes."""

import collections
import math
import shutil
import sys
import time

_TERMINAL_INTERVAL = 1.0  # seconds between two rewritings of the line on a terminal


class ProgressLine:
  """Prints one line again and again: on a terminal in place, elsewhere line below line and less
  often.

  progress = ProgressLine(total_frames=200_000_000)
  if progress.due():
    progress.show(frames, updates, mean_return=..., lag=..., queue=(3, 32), shares={'learner':
    {'wait': 0.12, ...}})
  progress.close()
  """

  def __init__(
    self,
    total_frames,
    frames=0,
    updates=0,
    *,
    stream=None,
    interval=10.0,
    window=30.0,
    clock=time.monotonic,
  ):
    """Starts to measure.

    Args:
      total_frames: int, frames of the whole training.
      frames: int, how many of them are already done.
      updates: int, learner updates already done.
      stream: where to print, standard output by default.
      interval: seconds between two lines where the stream is no terminal.
      window: seconds over which rates are averaged, above 0.
      clock: gives seconds.
    """
    self._total_frames = total_frames
    self._stream = sys.stdout if stream is None else stream
    self._is_terminal = self._stream.isatty()
    self._interval = _TERMINAL_INTERVAL if self._is_terminal else interval
    self._window = window
    self._clock = clock
    self._samples = collections.deque([(clock(), frames, updates)])
    self._next = clock() + self._interval
    self._open_line = False

  def due(self):
    """Whether it is time for the next line, which spares the caller from gathering numbers in vain."""
    return self._clock() >= self._next

  def show(
    self,
    frames,
    updates,
    *,
    mean_return=None,
    scores=None,
    lag=None,
    queue=None,
    restarts=0,
    connected=None,
    shares=None,
  ):
    """Prints the line.

    Args:
      frames: int, frames done.
      updates: int, learner updates done.
      mean_return: float, of the last episodes; None if there were none.
      scores: the suite's by name, a dict; None if there are none.
      lag: float, mean policy lag in updates; None if unknown.
      queue: (waiting unrolls, capacity), None to leave it out.
      restarts: int, processes started anew, not mentioned if there were none.
      connected: int, actor processes of a cluster, None where there is none.
      shares: shares of time by group and stage, {'learner': {'wait': 0.12, 'update': 0.88}}.
    """
    now = self._clock()
    self._next = now + self._interval
    frame_rate, update_rate = self._rates(now, frames, updates)
    left = (self._total_frames - frames) / frame_rate if frame_rate else None
    parts = [
      f'{human(frames)}/{human(self._total_frames)} frames',
      f'{human(frame_rate)} frames/s',
      f'{human(update_rate)} updates/s',
      f'return {_number(mean_return, ".2f")}',
      *(f'{name.rpartition("/")[2]} {score:.2f}' for name, score in (scores or {}).items()),
      f'{hours_minutes(left)} left',
      f'lag {_number(lag, ".1f")}',
    ]
    if queue is not None:
      parts.append(f'queue {int(queue[0])}/{int(queue[1])}')
    if connected is not None:
      parts.append(f'actors {connected}')
    if restarts:
      parts.append(f'restarts {restarts}')
    groups = [
      f'{group}: ' + ' '.join(f'{stage} {100 * share:.0f}%' for stage, share in stages.items())
      for group, stages in (shares or {}).items()
      if stages
    ]
    if groups:
      parts.append(' | '.join(groups))
    self._print('  '.join(parts))

  def close(self):
    """Ends the line, so that what is printed next does not overwrite it."""
    if self._open_line:
      self._stream.write('\n')
      self._stream.flush()
      self._open_line = False

  def _rates(self, now, frames, updates):
    self._samples.append((now, frames, updates))
    while self._samples[1][0] <= now - self._window:
      self._samples.popleft()
    then, old_frames, old_updates = self._samples[0]
    seconds = now - then
    return (
      ((frames - old_frames) / seconds, (updates - old_updates) / seconds)
      if seconds > 0
      else (None, None)
    )

  def _print(self, text):
    if self._is_terminal:
      # One column less than there are: a full line would make some terminals go on to the next one.
      width = shutil.get_terminal_size().columns - 1
      self._stream.write('\r' + text[:width].ljust(width))
      self._open_line = True
    else:
      self._stream.write(text + '\n')
    self._stream.flush()


def human(number):
  """A number in at most three digits and a suffix, '1.2M'; '-' for None."""
  if number is None:
    return '-'
  for suffix in ('', 'k', 'M', 'B'):
    if abs(number) < 999.5:
      return f'{number:.3g}{suffix}'
    number /= 1000
  return f'{number:.0f}T'


def hours_minutes(seconds):
  """A duration as h:mm, rounded up; '-' for None."""
  if seconds is None:
    return '-'
  minutes = math.ceil(max(seconds, 0) / 60)
  return f'{minutes // 60}:{minutes % 60:02}'


def _number(value, form):
  return '-' if value is None else format(value, form)
