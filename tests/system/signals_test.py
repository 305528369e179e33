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
    if number != signal.SIGINT:
      os.kill(os.getpid(), number)  # A second one has no effect.
  assert signal.getsignal(number) == before


def test_the_loss_of_a_terminal_stays_ignored_where_it_was(monkeypatch):
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # As nohup does.
  try:
    with signals.Stop() as stop:
      os.kill(os.getpid(), signal.SIGHUP)
      assert not stop
  finally:
    signal.signal(signal.SIGHUP, before)
