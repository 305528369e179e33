"""Socket options that TensorFlow's gRPC server does not expose, set through /proc/self/fd.

The server listens on all interfaces, and its connections wait for ever for a machine that has gone
without a word. Both are options of sockets, which belong to the process and not to the library that
opened them. Linux only: elsewhere nothing happens.
"""

import contextlib
import os
import socket
from collections.abc import Iterator

_FOLDER = '/proc/self/fd'
SILENCE_SECONDS = 30  # after which a connection that gets no answer is given up


def restrict_to_loopback(port: int) -> bool:
  """Lets the sockets of this process that listen on `port` hear this machine only.

  Returns:
    Whether there was one, and it could be done for all of them.
  """
  restricted = []
  for connection in _tcp_sockets():
    with contextlib.suppress(OSError):
      if (
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        and connection.getsockname()[1] == port
      ):
        try:
          # Unlike a filter of packets this needs no privilege, and it holds for connections made
          # from here on.
          connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'lo')
          restricted.append(True)
        except OSError:
          restricted.append(False)
  return bool(restricted) and all(restricted)


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
