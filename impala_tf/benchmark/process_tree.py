"""What this process and all its descendants use of the machine: processor time and memory."""

import os

import psutil


class ProcessTree:
  """This process and its descendants; of those that have ended what was last seen of them counts."""

  def __init__(self):
    """Starts to look at the tree."""
    self._root = psutil.Process(os.getpid())
    self._seconds = {}  # by process; the last that was seen of those that have ended

  def cpu_seconds(self):
    """User and system time of all since they began, float seconds. It never falls."""
    for process in self._processes():
      try:
        times = process.cpu_times()
        self._seconds[process.pid, process.create_time()] = times.user + times.system
      except psutil.Error:  # it has ended meanwhile
        continue
    return sum(self._seconds.values())

  def memory_mebibytes(self):
    """Proportional set size of all: memory that several share counts once. On systems without that
    number, resident size.
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
