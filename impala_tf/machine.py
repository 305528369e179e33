"""What this process may use of the machine that it runs on."""

import math
import os
import re

try:
  import resource
except ImportError:  # Not a Unix.
  resource = None

_CPU_INFO = '/proc/cpuinfo'
_CGROUP = '/sys/fs/cgroup'


def cores():
  """The number of processor cores that this process may use: fewer than there are where a scheduler or container says so."""
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  return max(1, math.ceil(min(cores, _quota())))


def _quota():
  """The share of processor time that a container has, in cores; infinity if it is not limited."""
  for paths in (('cpu.max',), ('cpu/cpu.cfs_quota_us', 'cpu/cpu.cfs_period_us')):  # of version 2 and of version 1
    try:
      words = ' '.join(_read(os.path.join(_CGROUP, path)) for path in paths).split()
      quota, period = int(words[0]), int(words[1])
    except (OSError, ValueError):  # It is not there, or 'max'.
      continue
    if quota > 0 and period > 0:
      return quota / period
  return math.inf


def _read(path):
  with open(path) as file:
    return file.read()


def allow_many_files():
  """Lets this process open as many files as the system would let it if asked, for some systems' default is 1024."""
  if resource is not None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
      resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def has_bfloat16():
  """Whether oneDNN multiplies in bfloat16 on this processor, by AVX-512 or AVX-NE-CONVERT; True where there is no telling."""
  try:
    found = re.search(r'^flags\s*:(.*)$', _read(_CPU_INFO), re.MULTILINE)
  except OSError:
    return True
  return not found or bool({'avx512f', 'avx_ne_convert'} & set(found[1].split()))
