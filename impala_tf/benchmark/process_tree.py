"""Processor time and memory of this process and all its descendants."""

import os

import psutil


class ProcessTree:
  """This process and its descendants; those that have ended count as they were last seen."""

  def __init__(self):
    """Starts with an empty record."""
    self._root = psutil.Process(os.getpid())
    self._seconds: dict[tuple[int, float], float] = {}  # By process, as it was last seen.

  def cpu_seconds(self) -> float:
    """Returns user and system time of all since they began. It never falls."""
    for process in self._processes():
      try:
        times = process.cpu_times()
        self._seconds[process.pid, process.create_time()] = times.user + times.system
      except psutil.Error:  # It has ended meanwhile.
        continue
    return sum(self._seconds.values())

  def memory_mebibytes(self) -> float:
    """Returns the proportional set size of all, in which memory that several share counts once; on
    systems without that number, the resident size.
    """
    total = 0
    for process in self._processes():
      try:
        memory = process.memory_full_info()
      except psutil.Error:
        continue
      total += getattr(memory, 'pss', memory.rss)
    return total / 2**20

  def _processes(self):
    try:
      return [self._root, *self._root.children(recursive=True)]
    except psutil.Error:
      return [self._root]
