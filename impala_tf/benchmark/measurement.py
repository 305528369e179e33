"""Measures work that comes as an iterator of the frames that it does."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from impala_tf.benchmark import process_tree
from impala_tf.config import ConfigurationError


@dataclasses.dataclass(frozen=True)
class Result:
  """The speed of one part, or of the whole.

  Attributes:
    frames_per_second: median of the windows; frames_per_second_windows: each.
    cpu_seconds_per_1000_frames: of the process tree, over all windows together.
    cores: processor seconds per second, over all windows together.
    peak_memory_mebibytes: largest proportional set size of the process tree that was seen at the
      end of a window.
    stages: shares of time of the pipeline's stages by group, empty for the parts.
    extra: numbers of this part alone.
  """

  name: str
  frames_per_second: float
  frames_per_second_windows: list[float]
  cpu_seconds_per_1000_frames: float
  cores: float
  peak_memory_mebibytes: float
  stages: dict[str, dict[str, float]]
  extra: dict[str, Any]

  def __str__(self):
    windows = ', '.join(f'{rate:,.0f}' for rate in self.frames_per_second_windows)
    lines = [
      f'{self.name}: {self.frames_per_second:,.0f} frames/s (windows: {windows}), '
      f'{self.cpu_seconds_per_1000_frames:.4f} CPU-seconds per 1000 frames, '
      f'{self.cores:.2f} cores, {self.peak_memory_mebibytes:,.0f} MiB'
    ]
    for group, shares in self.stages.items():
      texts = (f'{stage} {100 * share:.0f} %' for stage, share in shares.items())
      lines.append(f'  {group}: {", ".join(texts)}')

    for name, value in self.extra.items():
      text = f'{value:,}' if type(value) is int else f'{value:,.3g}'
      lines.append(f'  {name}: {text}')

    return '\n'.join(lines)


def measure(
  name: str,
  steps: Iterator[int],
  *,
  seconds: float,
  repeats: int,
  warm_up_seconds: float,
  readers: Mapping[str, Callable[[], dict[str, float]]] | None = None,
  clock: Callable[[], float] = time.perf_counter,
  tree: process_tree.ProcessTree | None = None,
) -> Result:
  """Measures work.

  Args:
    name: of the work.
    steps: gives the frames done in each of its steps; each `next` does one.
    seconds: of a window.
    repeats: how many windows.
    warm_up_seconds: how long to let it run before.
    readers: by group a `timing.StageTimer.reader`, read over all windows together.
    clock: gives seconds.
    tree: whose processor time and memory count, by default that of this process.

  Returns:
    A Result without extras.

  Raises:
    ConfigurationError: if the steps end before the last window does.
  """
  readers = readers or {}
  tree = tree or process_tree.ProcessTree()

  def run(duration):
    begin, frames = clock(), 0
    while True:
      step = next(steps, None)
      if step is None:
        raise ConfigurationError(
          f'{name} came to its end within the measurement. Give more --total_environment_frames, '
          'or fewer --seconds, --repeats or --warm_up_seconds.'
        )
      frames += step
      elapsed = clock() - begin
      if elapsed >= duration:
        return frames, elapsed

  run(warm_up_seconds)
  for reader in readers.values():
    reader()  # Shares count from here.

  rates: list[float] = []
  total_frames, total_seconds, total_cpu, memory = 0, 0.0, 0.0, 0.0
  for _ in range(repeats):
    cpu = tree.cpu_seconds()
    frames, elapsed = run(seconds)
    total_cpu += tree.cpu_seconds() - cpu
    memory = max(memory, tree.memory_mebibytes())
    rates.append(frames / elapsed)
    total_frames += frames
    total_seconds += elapsed

  return Result(
    name=name,
    frames_per_second=statistics.median(rates),
    frames_per_second_windows=rates,
    cpu_seconds_per_1000_frames=1000 * total_cpu / total_frames,
    cores=total_cpu / total_seconds,
    peak_memory_mebibytes=memory,
    stages={group: reader() for group, reader in readers.items()},
    extra={},
  )


def bound(*parts: Result) -> float:
  """Adds up the CPU-seconds per 1000 frames of the parts that the pipeline can't do without."""
  return sum(part.cpu_seconds_per_1000_frames for part in parts)
