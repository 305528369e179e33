"""What this process may use of the machine that it runs on."""

import os


def cores():
  """The number of processor cores that this process may use: fewer than there are where a scheduler or container says so."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
