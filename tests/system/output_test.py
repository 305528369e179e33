"""Standard output that is closed, full, or a broken pipe, in processes of their own."""

import os
import subprocess
import sys

import pytest

from tests.support.processes import ROOT

PROGRAM = """
import os, sys
from absl import logging
from impala_tf.system import output
output.tolerate_failures()
number = os.open('/dev/null', os.O_WRONLY)
print('\u2713', flush=True)
print('more')
logging.warning('a warning')
sys.stdout.flush()
print('more', file=sys.stderr)
place = os.readlink('/proc/self/fd/1')
os.write(int(sys.argv[1]), f'{number} {place} done'.encode())
"""


def run(redirections, code='utf-8'):
  """Returns what the program wrote beside its standard files, its exit code and standard error."""
  ours, theirs = os.pipe()
  try:
    done = subprocess.run(
      ['sh', '-c', f'exec "$@" {redirections}', 'sh', sys.executable, '-c', PROGRAM, str(theirs)],
      pass_fds=[theirs],
      capture_output=True,
      cwd=ROOT,
      env={**os.environ, 'PYTHONIOENCODING': code, 'PYTHONPATH': str(ROOT)},
      check=False,
    )
  finally:
    os.close(theirs)
  with os.fdopen(ours) as file:
    return file.read(), done.returncode, done.stderr.decode(), done.stdout


@pytest.mark.parametrize(
  ('redirections', 'said'),
  [
    ('>/dev/full', "can't be written"),
    ('>&-', 'a warning'),
    ('2>&-', ''),
    ('2>/dev/full', ''),
    ('<&- >&- 2>&-', ''),
    ('>/dev/full 2>&1', ''),
  ],
)
def test_a_command_continues_without_what_it_would_print(redirections, said):
  beside, code, error, _ = run(redirections)
  number, _, word = beside.split()
  assert (word, code) == ('done', 0)
  assert int(number) > 2  # A file of the program did not take the place of a standard one.
  assert said in error
  assert error.count("can't be written") <= 1
  assert 'Traceback' not in error
  assert 'Exception' not in error


def test_a_disk_that_was_full_is_tried_again():
  assert run('>/dev/full')[0].split()[1] == '/dev/full'


def test_a_command_continues_when_the_program_behind_a_pipe_has_ended():
  ours, theirs = os.pipe()
  beside, beside_theirs = os.pipe()
  os.close(ours)
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM, str(beside_theirs)],
    stdout=theirs,
    stderr=subprocess.PIPE,
    pass_fds=[beside_theirs],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    check=False,
  )
  os.close(theirs)
  os.close(beside_theirs)
  with os.fdopen(beside) as file:
    assert file.read().endswith('/dev/null done')  # It stays broken.
  assert done.returncode == 0
  assert done.stderr.count(b"can't be written") == 1
  assert b'Traceback' not in done.stderr


def test_characters_that_an_encoding_lacks_are_written_as_numbers():
  assert run('', 'ascii')[3].splitlines()[0] == b'\\u2713'
