"""Settings of sockets that another library opened."""

import socket

from impala_tf.cluster import sockets


def listen():
  listener = socket.socket()
  listener.bind(('0.0.0.0', 0))
  listener.listen()
  return listener


def device_of(listener):
  return listener.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b'\0')


def test_fence_is_around_the_one_port():
  with listen() as fenced, listen() as other:
    port = fenced.getsockname()[1]
    assert sockets.restrict_to_loopback(port)
    assert device_of(fenced) == b'lo'
    assert device_of(other) == b''
    # Who is inside is still heard.
    with socket.create_connection(('127.0.0.1', port), timeout=10), fenced.accept()[0]:
      pass


def test_fence_says_when_there_is_nothing_to_fence():
  with listen() as listener:
    port = listener.getsockname()[1]
  assert not sockets.restrict_to_loopback(port)


def test_connections_expect_answers():
  with (
    listen() as listener,
    socket.create_connection(listener.getsockname()) as connection,
    listener.accept()[0] as accepted,
  ):
    sockets.set_keepalive()
    for end in (connection, accepted):
      assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
      assert (
        end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        == 1000 * sockets.SILENCE_SECONDS
      )
      idle, between, count = (
        end.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
      )
      assert idle + count * between == sockets.SILENCE_SECONDS
