"""The running line of a training, by tqdm."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import tqdm

from impala_tf.system import timing

_LINE = '{n_fmt}/{total_fmt} frames, {rate_noinv_fmt}, {left} left{postfix}'
_TERMINAL_INTERVAL = 1.0  # Seconds between two rewritings of the line on a terminal.
_FIRST_INTERVAL = 2.0  # Elsewhere, from the first update to the first line.


class ProgressLine:
  """A line that is rewritten in place on a terminal, and printed again and again elsewhere, where
  it comes less often.

      line = ProgressLine(total_frames=200_000_000)
      line.begin(frames, updates)     # after the first update
      if line.due():
        line.show(frames, updates, mean_return=..., lag=..., queue=(3, 32), shares={...})
      line.close()
  """

  def __init__(
    self,
    total_frames: int,
    frames: int = 0,
    updates: int = 0,
    *,
    stream: TextIO | None = None,
    interval: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Prints nothing yet.

    Args:
      total_frames: frames of the whole training.
      frames: how many of them are already done.
      updates: learner updates already done.
      stream: where to print, standard output by default.
      interval: seconds between two lines where the stream is not a terminal.
      clock: gives seconds.
    """
    stream = sys.stdout if stream is None else stream
    is_terminal = stream.isatty()
    self._interval = _TERMINAL_INTERVAL if is_terminal else interval
    self._clock = clock
    self._then, self._updates = clock(), updates
    self._due = self._then + min(self._interval, _FIRST_INTERVAL)
    self._bar = _Bar(
      clock,
      total=total_frames,
      initial=frames,
      unit=' frames',
      unit_scale=True,
      bar_format='{percentage:3.0f}%|{bar:10}| ' + _LINE if is_terminal else _LINE,
      file=stream if is_terminal else _Lines(stream),
      dynamic_ncols=is_terminal,
      leave=is_terminal,
      # Every call of `show` prints, and nothing is printed before.
      mininterval=0,
      miniters=0,
      delay=1e-9,
      position=0,
      # The rate is the mean over some lines, which a terminal has each second, others less often.
      smoothing=0.05 if is_terminal else 0.3,
      # The environment's variables, which tqdm reads too, are for other programs.
      disable=False,
      ncols=None,
      ascii=None,
      colour=None,
    )

  def due(self) -> bool:
    """Returns whether it is time for the next line, before the caller gathers its numbers."""
    return self._clock() >= self._due

  def begin(self, frames: int, updates: int) -> None:
    """Measures rates from now on: what went before, above all tracing, took much longer."""
    self._then, self._updates = self._clock(), updates
    self._due = self._then + min(self._interval, _FIRST_INTERVAL)
    self._bar.begin(frames)

  def show(
    self,
    frames: int,
    updates: int,
    *,
    mean_return: float | None = None,
    scores: Mapping[str, float] | None = None,
    lag: float | None = None,
    queue: tuple[int, int] | None = None,
    restarts: int = 0,
    connected: int | None = None,
    shares: Mapping[str, Mapping[str, float]] | None = None,
  ) -> None:
    """Prints the line.

    Args:
      frames: frames done.
      updates: learner updates done.
      mean_return: of the last episodes; None if there were none.
      scores: the suite's by name; None if there are none.
      lag: mean policy lag in updates; None if unknown.
      queue: (waiting unrolls, capacity), None to leave it out.
      restarts: how often processes were restarted; left out if they never were.
      connected: actor processes of a cluster, None where there is none.
      shares: shares of time by group and stage, {'learner': {'wait': 0.12, 'update': 0.88}}.
    """
    now = self._clock()
    seconds, done = now - self._then, updates - self._updates
    self._then, self._updates, self._due = now, updates, now + self._interval

    parts = [
      f'{done / seconds:.3g} updates/s' if seconds > 0 else '? updates/s',
      f'return {_number(mean_return, ".2f")}',
      *(f'{name.rpartition("/")[2]} {score:.2f}' for name, score in (scores or {}).items()),
      f'lag {_number(lag, ".1f")}',
    ]
    if queue is not None:
      parts.append(f'queue {queue[0]}/{queue[1]}')
    if connected is not None:
      parts.append(f'actors {connected}')
    if restarts:
      parts.append(f'restarts {restarts}')
    for group, stages in (shares or {}).items():
      if stages:
        texts = (f'{stage} {100 * share:.0f}%' for stage, share in stages.items())
        parts.append(f'{group}: {" ".join(texts)}')

    self._bar.set_postfix_str(', '.join(parts), refresh=False)
    # The last update may end beyond the total, which tqdm would take for an unknown one.
    self._bar.update(min(frames, self._bar.total) - self._bar.n)

  def close(self) -> None:
    """Ends the line, so that what is printed next does not overwrite it."""
    self._bar.close()


class _Bar(tqdm.tqdm):
  """A bar that goes by a clock of its own: the system's time of day may be set back."""

  monitor_interval = 0  # No thread is needed to refresh it.

  def __init__(self, clock: Callable[[], float], **options: Any):
    super().__init__(**options)
    self._time = clock
    self.begin(self.n)

  def begin(self, frames: int) -> None:
    """Takes this moment for that of the start."""
    self.n = self.initial = self.last_print_n = frames
    self.start_t = self.last_print_t = self._time()

  @property
  def format_dict(self) -> dict[str, Any]:
    """The values of the line; `left` is the time that is left, for people to read."""
    values = super().format_dict
    done, seconds = values['n'] - values['initial'], values['elapsed']
    rate = values['rate'] or (done / seconds if seconds else 0)
    left = (values['total'] - values['n']) / rate if rate else None
    return values | {'left': '?' if left is None else timing.duration(left)}


class _Lines:
  """A file that is not a terminal, to which tqdm's line goes as a line of its own each time."""

  def __init__(self, stream: TextIO):
    self._stream = stream

  def write(self, text: str):
    """Writes what is to be seen of the text, without the carriage return before it."""
    if text := text.strip():
      self._stream.write(text + '\n')

  def flush(self):
    """Flushes the stream."""
    self._stream.flush()


def _number(value: float | None, form: str) -> str:
  return '?' if value is None else format(value, form)
