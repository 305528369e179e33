import io

import pytest

from impala_tf.training.progress import ProgressLine, hours_minutes, human


class Clock:
  """Time that moves when told."""

  def __init__(self):
    self.now = 1000.0

  def __call__(self):
    return self.now


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def clock():
  return Clock()


def make(stream, clock, **arguments):
  return ProgressLine(200_000_000, stream=stream, clock=clock, **arguments)


class TestContent:
  def test_everything(self, clock):
    stream = io.StringIO()
    progress = make(stream, clock, frames=1_000_000, updates=500)
    clock.now += 10
    progress.show(
      1_200_000,
      548,
      mean_return=-20.957,
      lag=1.26,
      queue=(3, 32),
      shares={
        'learner': {'wait': 0.12, 'update': 0.88},
        'idle': {},
        'actors': {'unroll': 0.951, 'enqueue': 0.049},
      },
    )
    assert stream.getvalue() == (
      '1.2M/200M frames  20k frames/s  4.8 updates/s  return -20.96  2:46 left  lag 1.3  queue 3/32  '
      'learner: wait 12% update 88% | actors: unroll 95% enqueue 5%\n'
    )

  def test_score_and_restarts_where_there_are_any(self, clock):
    stream = io.StringIO()
    make(stream, clock).show(
      0,
      0,
      mean_return=1.0,
      scores={'suite/capped': 49.432, 'free': 51.0},
      queue=(0, 1),
      restarts=2,
      shares={'actors': {'unroll': 1.0}},
    )
    assert stream.getvalue() == (
      '0/200M frames  - frames/s  - updates/s  return 1.00  capped 49.43  free 51.00  - left  lag -  queue 0/1  restarts 2  '
      'actors: unroll 100%\n'
    )

  def test_nothing_known_yet(self, clock):
    stream = io.StringIO()
    make(stream, clock).show(0, 0)
    assert stream.getvalue() == '0/200M frames  - frames/s  - updates/s  return -  - left  lag -\n'

  def test_no_time_left_can_be_told_while_nothing_happens(self, clock):
    stream = io.StringIO()
    progress = make(stream, clock)
    clock.now += 10
    progress.show(0, 0, mean_return=0.0)
    assert (
      stream.getvalue() == '0/200M frames  0 frames/s  0 updates/s  return 0.00  - left  lag -\n'
    )

  def test_beyond_the_end(self, clock):
    stream = io.StringIO()
    progress = make(stream, clock)
    clock.now += 10
    progress.show(200_002_560, 1)
    assert ' 0:00 left' in stream.getvalue()

  def test_rates_are_recent(self, clock):
    stream = io.StringIO()
    progress = make(stream, clock, window=30.0)
    frames = 0
    for rate in [1000] * 6 + [100] * 3:
      clock.now += 10
      frames += 10 * rate
      progress.show(frames, 0)
    rates = [line.split('  ')[1] for line in stream.getvalue().splitlines()]
    assert rates == ['1k frames/s'] * 6 + ['700 frames/s', '400 frames/s', '100 frames/s']


class TestPlainStream:
  def test_line_below_line(self, clock):
    stream = io.StringIO()
    progress = make(stream, clock)
    for i in (1, 2):
      clock.now += 10
      progress.show(1000 * i, i)
    progress.close()
    lines = stream.getvalue().split('\n')
    assert [line.split()[0] for line in lines[:-1]] == ['1k/200M', '2k/200M']
    assert lines[-1] == ''
    assert '\r' not in stream.getvalue()

  def test_due_every_ten_seconds(self, clock):
    progress = make(io.StringIO(), clock)
    due = []
    for _ in range(21):
      clock.now += 1
      due.append(progress.due())
      if due[-1]:
        progress.show(0, 0)
    assert [i + 1 for i, is_due in enumerate(due) if is_due] == [10, 20]

  def test_own_interval(self, clock):
    progress = make(io.StringIO(), clock, interval=3.0)
    clock.now += 2.5
    assert not progress.due()
    clock.now += 0.5
    assert progress.due()

  def test_standard_output_is_the_default(self, clock, capsys):
    ProgressLine(10, clock=clock).show(5, 1)
    assert capsys.readouterr().out.startswith('5/10 frames')


class TestTerminal:
  @pytest.fixture(autouse=True)
  def _width(self, monkeypatch):
    monkeypatch.setenv('COLUMNS', '31')
    monkeypatch.setenv('LINES', '24')

  def test_rewrites_one_line_cut_to_the_width(self, clock):
    stream = Terminal()
    progress = make(stream, clock)
    clock.now += 1
    progress.show(999_000, 1)
    clock.now += 1
    progress.show(1_000_000, 1)
    assert stream.getvalue() == '\r999k/200M frames  999k frames/\r1M/200M frames  500k frames/s '
    progress.close()
    assert stream.getvalue().endswith('frames/s \n')

  def test_covers_a_longer_line_before(self, clock, monkeypatch):
    monkeypatch.setenv('COLUMNS', '200')
    stream = Terminal()
    progress = make(stream, clock)
    progress.show(0, 0, mean_return=123456.0)
    progress.show(0, 0)
    _, first, second = stream.getvalue().split('\r')
    assert len(first) == len(second) == 199
    assert second.rstrip() == '0/200M frames  - frames/s  - updates/s  return -  - left  lag -'

  def test_due_every_second(self, clock):
    progress = make(Terminal(), clock)
    assert not progress.due()
    clock.now += 1
    assert progress.due()
    progress.show(0, 0)
    assert not progress.due()

  def test_closing_ends_the_line_once(self, clock):
    stream = Terminal()
    progress = make(stream, clock)
    progress.close()
    assert stream.getvalue() == ''
    progress.show(0, 0)
    progress.close()
    progress.close()
    assert stream.getvalue().count('\n') == 1


@pytest.mark.parametrize(
  ('number', 'text'),
  [
    (0, '0'),
    (999, '999'),
    (999.6, '1k'),
    (1234, '1.23k'),
    (12_345, '12.3k'),
    (123_456, '123k'),
    (999_600, '1M'),
    (200e6, '200M'),
    (11.4e9, '11.4B'),
    (2e12, '2T'),
    (4.83, '4.83'),
    (None, '-'),
  ],
)
def test_human(number, text):
  assert human(number) == text


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [
    (-100, '0:00'),
    (0, '0:00'),
    (1, '0:01'),
    (60, '0:01'),
    (61, '0:02'),
    (3600, '1:00'),
    (360_000, '100:00'),
    (None, '-'),
  ],
)
def test_hours_minutes(seconds, text):
  assert hours_minutes(seconds) == text
