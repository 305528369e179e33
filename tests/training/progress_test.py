"""The running line: its contents, and how it is printed on terminals and elsewhere."""

import io
import threading

import pytest

from impala_tf.training.progress import ProgressLine
from tests.support.clock import Clock


class Terminal(io.StringIO):
  """A stream that says that it is a terminal."""

  def isatty(self):
    return True


@pytest.fixture
def clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr('tqdm.std._screen_shape_wrapper', lambda: lambda stream: (60, 24))
  return clock


def make(stream, clock, **arguments):
  return ProgressLine(200_000_000, stream=stream, clock=clock, **arguments)


def test_everything(clock):
  stream = io.StringIO()
  line = make(stream, clock, frames=1_000_000, updates=500)
  clock.now += 10
  line.show(
    1_200_000,
    548,
    mean_return=-20.957,
    scores={'suite/capped': 49.432, 'free': 51.0},
    lag=1.26,
    queue=(3, 32),
    restarts=2,
    connected=7,
    shares={
      'learner': {'wait': 0.12, 'update': 0.88},
      'idle': {},
      'actors': {'unroll': 0.951, 'enqueue': 0.049},
    },
  )
  assert stream.getvalue() == (
    '1.20M/200M frames, 20.0k frames/s, 2 h 45 min left, 4.8 updates/s, return -20.96, '
    'capped 49.43, free 51.00, lag 1.3, queue 3/32, actors 7, restarts 2, '
    'learner: wait 12% update 88%, actors: unroll 95% enqueue 5%\n'
  )


def test_what_was_before_the_first_update_does_not_count(clock):
  stream = io.StringIO()
  line = make(stream, clock, frames=1_000_000, updates=500)
  clock.now += 60  # Of tracing.
  line.begin(1_200_000, 501)
  assert not line.due()
  clock.now += 2
  assert line.due()
  line.show(1_240_000, 511)
  assert '20.0k frames/s, 2 h 45 min left, 5 updates/s' in stream.getvalue()


def test_nothing_known_yet(clock):
  stream = io.StringIO()
  line = make(stream, clock)
  clock.now += 10
  line.show(0, 0)
  text = '0.00/200M frames, ? frames/s, ? left, 0 updates/s, return ?, lag ?\n'
  assert stream.getvalue() == text


def test_beyond_the_end(clock):
  stream = io.StringIO()
  line = make(stream, clock)
  clock.now += 10
  line.show(200_002_560, 1)
  assert stream.getvalue().startswith('200M/200M frames')


def test_variables_of_the_environment_change_nothing(clock, monkeypatch):
  for name, value in (('DISABLE', '1'), ('NCOLS', '40'), ('ASCII', '1'), ('SMOOTHING', '1')):
    monkeypatch.setenv(f'TQDM_{name}', value)
  test_everything(clock)


def test_the_time_of_day_may_be_set_back(clock, monkeypatch):
  stream = io.StringIO()
  line = make(stream, clock)
  for i, now in enumerate((1e9, 1e9 + 10, 0.0, 10.0), 1):
    monkeypatch.setattr('time.time', lambda now=now: now)
    clock.now += 10
    line.show(10_000 * i, i)
  lines = stream.getvalue().splitlines()
  assert len(lines) == 4
  assert all('1.00k frames/s' in line for line in lines)


def test_no_thread_watches_the_line(clock):
  before = threading.enumerate()  # Other libraries may have had lines that are watched.
  line = make(io.StringIO(), clock)
  assert set(threading.enumerate()) <= set(before)
  line.close()


def test_rates_are_recent(clock):
  stream = io.StringIO()
  line = make(stream, clock)
  frames = updates = 0
  for rate in [1000] * 6 + [100] * 20:
    clock.now += 10
    frames += 10 * rate
    updates += rate
    line.show(frames, updates)
  lines = stream.getvalue().splitlines()
  assert '1.00k frames/s' in lines[5]
  assert '100 updates/s' in lines[5]
  assert '10 updates/s' in lines[6]
  assert '101 frames/s' in lines[-1]  # The mean is weighted by age.


def test_line_below_line_where_it_is_not_a_terminal(clock):
  stream = io.StringIO()
  line = make(stream, clock)
  for i in (1, 2):
    clock.now += 10
    line.show(1000 * i, i)
  line.close()
  line.close()
  lines = stream.getvalue().split('\n')
  assert [line.split()[0] for line in lines[:-1]] == ['1.00k/200M', '2.00k/200M']
  assert lines[-1] == ''
  assert '\r' not in stream.getvalue()


@pytest.mark.parametrize(
  ('stream', 'options', 'times'),
  [
    (io.StringIO, {}, [2, 12]),
    (io.StringIO, {'interval': 7.0}, [2, 9, 16]),
    (Terminal, {'interval': 7.0}, list(range(1, 22))),
  ],
)
def test_is_due_after_each_interval(clock, stream, options, times):
  line = make(stream(), clock, **options)
  due = []
  for second in range(1, 22):
    clock.now += 1
    if line.due():
      due.append(second)
      line.show(0, 0)
  assert due == times


def test_standard_output_is_the_default(clock, capsys):
  line = ProgressLine(10, clock=clock)
  clock.now += 1
  line.show(5, 1)
  assert capsys.readouterr().out.startswith('5.00/10.0 frames')


def test_a_terminal_has_one_line_no_longer_than_it_is_wide(clock):
  stream = Terminal()
  line = make(stream, clock)
  for frames in (99_000_000, 100_000_000):
    clock.now += 1
    line.show(frames, 1, mean_return=123456.0, lag=1.0)
  _, first, second = stream.getvalue().split('\r')
  assert ' 99.0M/200M frames' in first
  assert second.startswith(' 50%|')
  assert len(first) <= 60
  assert len(second) <= 60
  assert '\n' not in stream.getvalue()
  line.close()
  line.close()
  assert stream.getvalue().count('\n') == 1


@pytest.mark.parametrize('stream', [io.StringIO, Terminal])
def test_nothing_is_printed_before_the_first_numbers(clock, stream):
  stream = stream()
  line = make(stream, clock)
  line.close()
  assert stream.getvalue() == ''
