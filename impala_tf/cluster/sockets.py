"""Socket options that TensorFlow's gRPC server does not expose, set through /proc/self/fd.

The server listens on all addresses, and its connections wait for ever for a machine that has gone
without a word. Both are options of sockets, which belong to the process and not to the library that
opened them. Linux only: elsewhere nothing happens.
"""

import contextlib
import ctypes
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator

from impala_tf.cluster import roles

_FOLDER = '/proc/self/fd'
SILENCE_SECONDS = 30  # after which a connection that gets no answer is given up
_SO_ATTACH_FILTER = 26  # The module `socket` does not have it.


def restrict(port: int, host: str) -> bool:
  """Lets the sockets of this process that listen on `port` hear only what is sent to one address.

  Args:
    port: of the sockets.
    host: name or number of an address of this machine. A loopback address is heard from this
      machine alone.

  Returns:
    Whether there was a socket, and it could be done for all of them. It can't where the host is not
      an address of this machine, as that of a service in front of it, and on other systems.
  """
  addresses = _own_addresses(host)
  if not addresses:
    return False
  restricted = []
  for connection in _tcp_sockets():
    with contextlib.suppress(OSError):
      if (
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        and connection.getsockname()[1] == port
      ):
        try:
          # Neither needs a privilege (the first not since Linux 5.7), and both hold for connections
          # made from here on. An interface alone won't do for other addresses: what this machine
          # sends to them comes from `lo`.
          if all(ipaddress.ip_address(address).is_loopback for address in addresses):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'lo')
          else:
            _filter_by_destination(connection, addresses)
          restricted.append(True)
        except OSError:
          restricted.append(False)

  return bool(restricted) and all(restricted)


def _own_addresses(host: str) -> set[str]:
  """Returns the IPv4 addresses of a host that are this machine's.

  It is empty for a name that leads to loopback here, and elsewhere to another address.
  """
  try:
    found = {info[4][0] for info in socket.getaddrinfo(host, None, socket.AF_INET)}
  except OSError:
    return set()

  if not roles.is_loopback(host) and any(ipaddress.ip_address(a).is_loopback for a in found):
    return set()
  own = set()
  for address in found:
    # Only an address of this machine can be bound.
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
      probe.bind((address, 0))
      own.add(str(address))

  return own - {'0.0.0.0'}


def _filter_by_destination(connection: socket.socket, addresses: set[str]) -> None:
  """Lets a listening socket drop what was sent to other IPv4 addresses, before it is answered.

  Raises:
    OSError: if the system does not allow it.
  """
  # A program for the kernel's packet filter, of (operation, jump if true, jump if false, operand).
  # It sees packets of IPv4, and those of IPv6 on a socket for both, whose version it looks at.
  load_byte, load_word, jump_if_equal, right_shift, return_ = 0x30, 0x20, 0x15, 0x74, 0x06
  network_header, keep, drop = 0xFFF00000, 0xFFFFFFFF, 0
  known = sorted(int(ipaddress.IPv4Address(address)) for address in addresses)
  program = [
    (load_byte, 0, 0, network_header),
    (right_shift, 0, 0, 4),
    (jump_if_equal, 0, len(known) + 1, 4),
    (load_word, 0, 0, network_header + 16),
    *((jump_if_equal, len(known) - i, 0, address) for i, address in enumerate(known)),
    (return_, 0, 0, drop),
    (return_, 0, 0, keep),
  ]
  code = b''.join(struct.pack('HBBI', *instruction) for instruction in program)
  buffer = ctypes.create_string_buffer(code)
  connection.setsockopt(
    socket.SOL_SOCKET,
    _SO_ATTACH_FILTER,
    struct.pack('HL', len(program), ctypes.addressof(buffer)),
  )


def set_keepalive() -> None:
  """Lets connections of this process fail when the other side is silent for `SILENCE_SECONDS`.

  Without it, a call to a machine whose cable was pulled would wait for a quarter of an hour, and
  one that only waits for an answer for ever. Call it now and then: each call looks at the
  connections that there are.
  """
  for connection in _tcp_sockets():
    with contextlib.suppress(OSError):
      connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
      connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_SECONDS // 3)
      connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_SECONDS // 3)
      connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
      connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * SILENCE_SECONDS)


def _tcp_sockets() -> Iterator[socket.socket]:
  """Yields duplicates of the TCP sockets of this process, each open while it is looked at."""
  try:
    names = os.listdir(_FOLDER)
  except OSError:
    return

  for name in names:
    # Others open and close descriptors meanwhile.
    with contextlib.suppress(OSError):
      if not os.readlink(os.path.join(_FOLDER, name)).startswith('socket:'):
        continue
      with socket.socket(fileno=os.dup(int(name))) as duplicate:
        if (
          duplicate.family in (socket.AF_INET, socket.AF_INET6)
          and duplicate.type == socket.SOCK_STREAM
        ):
          yield duplicate
