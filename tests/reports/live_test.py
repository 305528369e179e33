"""The lines of the runs that a command has started."""

import io
import os

import pytest

from impala_tf.reports import live
from impala_tf.system import processes

FIRST = '1.2M/2.0M frames, 4.5k frames/s, 3 min left, 5 updates/s, return -20.1, lag 1.0, queue 0/1'
SECOND = FIRST.replace('1.2M', '1.3M')


class Terminal(io.StringIO):
  def isatty(self):
    return True

  def fileno(self):
    return 1


@pytest.fixture
def runs(tmp_path):
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()
  (tmp_path / 'a' / processes.LOG_NAME).write_text(f'Training\n{FIRST}\nSaved at frame 1.\n')
  return {name: str(tmp_path / name) for name in ('a', 'b')}


def append(logdir, line):
  with open(f'{logdir}/{processes.LOG_NAME}', 'a') as file:
    file.write(line + '\n')


def test_elsewhere_than_on_a_terminal_what_has_changed_is_printed_now_and_then(runs):
  now, stream = [0.0], io.StringIO()
  lines = live.LiveLines(stream, lambda: now[0])
  for second in range(100):
    now[0] = float(second)
    lines.show(runs)
    if second == 50:
      append(runs['a'], SECOND)
      lines.print('b ended')
  assert stream.getvalue().splitlines() == [
    'a: 1.2M/2.0M frames, 4.5k frames/s, 3 min left, return -20.1',
    'b: starting',
    'b ended',
    'a: 1.3M/2.0M frames, 4.5k frames/s, 3 min left, return -20.1',
  ]


def test_on_a_terminal_lines_are_rewritten_and_no_longer_than_it_is_wide(runs, monkeypatch):
  monkeypatch.setattr('shutil.get_terminal_size', lambda: live.os.terminal_size((20, 5)))
  now, stream = [0.0], Terminal()
  lines = live.LiveLines(stream, lambda: now[0])
  lines.show(runs)
  now[0] = 2.0
  lines.show({'b': runs['b']})
  lines.print('b ended')
  assert stream.getvalue() == (
    'a: 1.2M/2.0M frames\nb: starting\n\x1b[2F\x1b[Jb: starting\n\x1b[1F\x1b[Jb ended\n'
  )


def test_more_runs_than_a_terminal_has_lines_do_not_leave_it(runs, monkeypatch):
  monkeypatch.setattr('shutil.get_terminal_size', lambda: live.os.terminal_size((20, 5)))
  stream = Terminal()
  lines = live.LiveLines(stream, lambda: 0.0)
  lines.show(dict.fromkeys('abcd', runs['b']))
  lines.print('over')
  assert stream.getvalue() == 'a: starting\nb: starting\nand 2 more\n\x1b[3F\x1b[Jover\n'


def test_a_terminal_that_was_closed_ends_nothing(runs):
  stream = Terminal()
  stream.fileno = lambda: os.open(os.devnull, os.O_WRONLY)  # What is left of it.
  live.LiveLines(stream).show(runs)
  assert 'b: starting' in stream.getvalue()
