"""TensorFlow's log while it is loaded, and what else is written to standard error meanwhile."""

import os
import subprocess
import sys

import pytest

from impala_tf.system import quiet

PROGRAM = """
import os, sys
from impala_tf.system import quiet
os.write(2, b'before\\n')
with quiet._without_log_lines():
  for line in (
    'WARNING: All log messages before absl::InitializeLog() is called are written to STDERR',
    'I0000 00:00:1795872881.948916    7113 port.cc:153] oneDNN custom operations are on.',
    'E0000 00:00:1795872882.854956    7113 cuda_platform.cc:52] failed call to cuInit',
    'F0000 00:00:1795872882.854956    7113 cpu_feature.cc:1] compiled to use AVX instructions',
    'Illegal instruction',
  ):
    os.write(2, line.encode() + b'\\n')
  print('of Python', file=sys.stderr)
  if len(sys.argv) > 1:
    os.abort()
os.write(2, b'after\\n')
"""
PASSED = ['F0000', 'Illegal', 'of']


@pytest.mark.parametrize('crashes', [False, True])
def test_lines_of_the_log_are_left_out_and_all_others_pass(crashes):
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, *(['crash'] if crashes else [])],
    capture_output=True,
    text=True,
    check=False,
  )
  words = [line.split()[0] for line in done.stderr.splitlines()]
  assert words == ['before', *PASSED, *([] if crashes else ['after'])]
  assert (done.returncode == 0) != crashes


def test_without_a_filter_all_lines_pass(monkeypatch, capfd):
  monkeypatch.setattr(quiet, '_FILTER', ('/no/such/program',))
  with quiet._without_log_lines():
    os.write(2, b'I0000 00:00:1 1 a.cc:1] shown\n')
  assert 'shown' in capfd.readouterr().err


def test_standard_error_may_be_closed():
  program = 'from impala_tf.system import quiet\nwith quiet._without_log_lines(): print("ran")'
  done = subprocess.run(
    ['sh', '-c', f"{sys.executable} -c '{program}' 2>&-"], stdout=subprocess.PIPE, check=True
  )
  assert done.stdout == b'ran\n'
