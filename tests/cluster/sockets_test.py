"""Settings of sockets that another library opened."""

import socket

import pytest

from impala_tf.cluster import sockets


def listen():
  listener = socket.socket()
  listener.bind(('0.0.0.0', 0))
  listener.listen()
  return listener


def device_of(listener):
  return listener.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b'\0')


def _has_ipv6():
  try:
    with socket.socket(socket.AF_INET6) as probe:
      probe.bind(('::1', 0))
  except OSError:
    return False
  return True


def _binds_to_devices():
  """Whether this user may; before Linux 5.7 it took a privilege."""
  try:
    with socket.socket() as probe:
      probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'lo')
  except PermissionError:
    return False
  return True


@pytest.mark.skipif(not _binds_to_devices(), reason='needs Linux 5.7')
def test_fence_is_around_the_one_port():
  with listen() as fenced, listen() as other:
    port = fenced.getsockname()[1]
    assert sockets.restrict(port, '127.0.0.1')
    assert device_of(fenced) == b'lo'
    assert device_of(other) == b''
    # Who is inside is still heard.
    with socket.create_connection(('127.0.0.1', port), timeout=10), fenced.accept()[0]:
      pass


def test_fence_says_when_there_is_nothing_to_fence():
  with listen() as listener:
    port = listener.getsockname()[1]
  assert not sockets.restrict(port, '127.0.0.1')


@pytest.mark.parametrize(
  'family',
  [
    socket.AF_INET,
    pytest.param(socket.AF_INET6, marks=pytest.mark.skipif(not _has_ipv6(), reason='needs IPv6')),
  ],
)
def test_a_port_hears_what_is_sent_to_its_address_alone(family):
  # Loopback has more than one address, so a network card is not needed for this.
  with socket.socket(family) as listener:
    if family == socket.AF_INET6:  # As gRPC listens where there is IPv6, for both.
      listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(('', 0))
    listener.listen()
    port = listener.getsockname()[1]
    sockets._filter_by_destination(listener, {'127.0.0.9', '127.0.0.2'})
    for heard in ('127.0.0.2', '127.0.0.9'):
      with socket.create_connection((heard, port), timeout=10) as connection, listener.accept()[0]:
        connection.sendall(b'!')
    with pytest.raises(TimeoutError):
      socket.create_connection(('127.0.0.1', port), timeout=0.2)
    if family == socket.AF_INET6:
      with pytest.raises(TimeoutError):
        socket.create_connection(('::1', port), timeout=0.2)


def test_a_fence_is_around_the_address_of_a_network(monkeypatch):
  # As if the machine had one beside loopback.
  monkeypatch.setattr(sockets, '_own_addresses', lambda host: {host})
  with listen() as listener:
    port = listener.getsockname()[1]
    assert sockets.restrict(port, '192.0.2.1')
    with pytest.raises(TimeoutError):
      socket.create_connection(('127.0.0.1', port), timeout=0.2)


def test_addresses_that_are_not_this_machines_alone_are_left_open(monkeypatch):
  assert sockets._own_addresses('127.0.0.1') == {'127.0.0.1'}
  # One of another machine, and all of this one.
  assert sockets._own_addresses('203.0.113.7') == set()
  assert sockets._own_addresses('0.0.0.0') == set()
  # Many systems give their own name an address that others don't know.
  monkeypatch.setattr(
    socket, 'getaddrinfo', lambda *_: [(socket.AF_INET, 1, 6, '', ('127.0.1.1', 0))]
  )
  assert sockets._own_addresses('node7') == set()


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
