"""Requests to end a command in good order."""

import os
import signal

import pytest

from impala_tf.system import signals


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_asks_for_the_end(number):
  before = signal.getsignal(number)
  with signals.Stop() as stop:
    assert not stop
    os.kill(os.getpid(), number)
    assert stop.signal == number
    assert stop.exit_code == 128 + number
    if number == signal.SIGINT:
      with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    else:
      # A scheduler sends it to all processes of a job, and the parent passes its own on.
      os.kill(os.getpid(), number)
      assert stop.exit_code == 128 + number
  assert signal.getsignal(number) == before


def test_the_loss_of_a_terminal_stays_ignored_where_it_was(monkeypatch):
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # As nohup does.
  try:
    with signals.Stop() as stop:
      os.kill(os.getpid(), signal.SIGHUP)
      assert not stop
  finally:
    signal.signal(signal.SIGHUP, before)
