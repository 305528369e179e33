"""What this process may use of the machine that it runs on."""

import os
import re

_CPU_INFO = '/proc/cpuinfo'


def cores():
  """The number of processor cores that this process may use: fewer than there are where a scheduler or container says so."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def has_bfloat16():
  """Whether oneDNN multiplies in bfloat16 on this processor, by AVX-512 or AVX-NE-CONVERT; True where there is no telling."""
  try:
    with open(_CPU_INFO) as file:
      found = re.search(r'^flags\s*:(.*)$', file.read(), re.MULTILINE)
  except OSError:
    return True
  return not found or bool({'avx512f', 'avx_ne_convert'} & set(found[1].split()))
