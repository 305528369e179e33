"""Requests between an actor's process and its learner, overheard.

Between the two stands a pair of servers that hand on each call: those of the actor to the learner,
and those of the learner, which fetches unrolls, to the actor. `crowd` repeats what was heard for
many actors. TensorFlow ships no descriptions of some of these messages, so they are kept as bytes,
of which the few fields that differ between actors and calls are replaced.
"""

import concurrent.futures
import contextlib
import dataclasses
import itertools
import random
import threading
from collections.abc import Iterator

import grpc

# Of messages of any size.
CHANNEL_OPTIONS = (
  ('grpc.max_receive_message_length', -1),
  ('grpc.max_send_message_length', -1),
  # Or all channels of a process would share one connection.
  ('grpc.use_local_subchannel_pool', 1),
)
CREATE_CONTEXT = '/tensorflow.eager.EagerService/CreateContext'
CLOSE_CONTEXT = '/tensorflow.eager.EagerService/CloseContext'
ENQUEUE = '/tensorflow.eager.EagerService/Enqueue'
_STREAMING_ENQUEUE = '/tensorflow.eager.EagerService/StreamingEnqueue'
RUN = '/tensorflow.eager.EagerService/RunComponentFunction'
RECEIVE = '/tensorflow.WorkerService/RecvTensor'

# Numbers of fields in these messages.
_TASKS = (1, 1, 1, 2)  # of CreateContext: the cluster's jobs' tasks, pairs of number and address
_CONTEXT = 1  # of Enqueue
_OPERATION, _OPERATION_ID, _OPERATION_NAME = 2, 1, 2  # of Run
_STEP, _KEY, _REQUEST_ID = 1, 2, 7  # of Receive
_ITEM, _REGISTER, _CLEAN_UP = 3, 4, 5  # of Enqueue


@dataclasses.dataclass(frozen=True)
class Function:
  """One run of a function of which a part runs on the learner's machine.

  Attributes:
    run: the request to run it.
    fetched: requests for tensors that the learner's part gives.
    given: by their names the answers with tensors that the learner's part takes.
    cleaned_up: the request after it.
    step: the number by which these belong together.
  """

  run: bytes
  fetched: tuple[bytes, ...]
  given: dict[bytes, bytes]
  cleaned_up: bytes
  step: int


@dataclasses.dataclass(frozen=True)
class Conversation:
  """The requests of an actor.

  Attributes:
    task: the number of its task.
    context: the request by which it connects.
    context_id: the eight bytes by which it is known from then on, in all later requests.
    registered: requests that describe functions.
    functions: a run of each, in the order in which they take turns.
  """

  task: int
  context: bytes
  context_id: bytes
  registered: tuple[bytes, ...]
  functions: tuple[Function, ...]


class Listener:
  """Hands on the calls of one actor and its learner, and keeps them.

  The actor takes it for its learner:

      with Listener('127.0.0.1:8470', '127.0.0.1:8471', task=1000) as listener:
        ...                                  # the actor connects to `listener.address`
        conversation = listener.heard(functions=2)
  """

  def __init__(self, learner: str, actor: str, task: int):
    """Takes 'host:port' of both, the actor's as it gives it to the learner, and its task."""
    self._task = task
    self._log: list[tuple[str, bool, bytes, bytes]] = []
    self._lock = threading.Lock()
    self._servers = [grpc.server(concurrent.futures.ThreadPoolExecutor(16)) for _ in range(2)]
    ports = [server.add_insecure_port('127.0.0.1:0') for server in self._servers]
    self.address, for_learner = (f'127.0.0.1:{port}' for port in ports)
    # Both have as many digits, or lengths within the message would change.
    assert len(for_learner) == len(actor), (for_learner, actor)
    self._relays = (
      _Relay(self, learner, False, (actor.encode(), for_learner.encode())),
      _Relay(self, actor, True, (b'', b'')),
    )
    for server, relay in zip(self._servers, self._relays, strict=True):
      server.add_generic_rpc_handlers((relay,))

  def __enter__(self):
    for server in self._servers:
      server.start()
    return self

  def __exit__(self, *unused_exception):
    for relay, server in zip(self._relays, self._servers, strict=True):
      relay.close()
      server.stop(None)

  def keep(self, method: str, is_to_actor: bool, request: bytes, answer: bytes) -> None:
    """Keeps a call."""
    with self._lock:
      self._log.append((method, is_to_actor, request, answer))

  def heard(self, functions: int) -> Conversation | None:
    """Returns the conversation once so many functions have run twice, None before."""
    with self._lock:
      log = list(self._log)
    asked = lambda method, to_actor=False: [
      (request, answer)
      for m, is_to_actor, request, answer in log
      if (m, is_to_actor) == (method, to_actor)
    ]
    contexts = asked(CREATE_CONTEXT)
    if not contexts:
      return None
    registered, cleaned_up = [], {}
    for request, _ in asked(ENQUEUE) + asked(_STREAMING_ENQUEUE):
      for item in _fields(request, _ITEM):
        if _fields(item, _REGISTER):
          registered.append(request)
        for step in _fields(item, _CLEAN_UP):
          cleaned_up[_fields(step, _STEP)[0]] = request

    runs: dict[bytes, list[Function]] = {}
    for request, _ in asked(RUN):
      operation = _fields(request, _OPERATION)[0]
      numbers = {value for _, value in _parsed(operation) if isinstance(value, int)}
      step = next(iter(numbers & cleaned_up.keys()), None)
      if step is None:  # It has not ended.
        continue
      fetched = [r for r, _ in asked(RECEIVE) if _fields(r, _STEP)[0] == step]
      given = {
        edge(r): answer for r, answer in asked(RECEIVE, True) if _fields(r, _STEP)[0] == step
      }
      name = _fields(operation, _OPERATION_NAME)[0]
      runs.setdefault(name, []).append(
        Function(request, tuple(fetched), given, cleaned_up[step], step)
      )

    if len(runs) < functions or min(map(len, runs.values())) < 2:
      return None
    context_id = _fields(asked(RUN)[0][0], _CONTEXT)[0]
    return Conversation(
      self._task,
      contexts[0][0],
      context_id,
      tuple(registered),
      tuple(found[-1] for found in runs.values()),
    )


class _Relay(grpc.GenericRpcHandler):
  """Hands on all calls to a target."""

  def __init__(self, listener, target, is_to_actor, replaced):
    self._listener, self._is_to_actor, self._replaced = listener, is_to_actor, replaced
    self._channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)

  def close(self) -> None:
    """Breaks off what is under way."""
    self._channel.close()

  def service(self, handler_call_details):
    """Returns what handles calls of a method."""
    method = handler_call_details.method

    def unary(request, context):
      del context
      if method == CREATE_CONTEXT:
        request = request.replace(*self._replaced)
      answer = self._channel.unary_unary(method)(request)
      self._listener.keep(method, self._is_to_actor, request, answer)
      return answer

    def streaming(requests, context):
      del context
      requests, kept = itertools.tee(requests)
      with contextlib.suppress(grpc.RpcError):  # It ends when one of the two does.
        for answer in self._channel.stream_stream(method)(requests):
          self._listener.keep(method, self._is_to_actor, next(kept), answer)
          yield answer

    if method == _STREAMING_ENQUEUE:
      return grpc.stream_stream_rpc_method_handler(streaming)
    return grpc.unary_unary_rpc_method_handler(unary)


class Actor:
  """One of many that say the same, with numbers of its own."""

  def __init__(self, conversation: Conversation, task: int, address: str):
    """Describes it.

    Args:
      conversation: that it has.
      task: its number, of as many digits as that of the one that was overheard.
      address: 'host:port' at which the learner finds it.
    """
    self._conversation = conversation
    self._task, self._address = task, address
    self._id = random.randbytes(len(conversation.context_id))
    self._operations = itertools.count(1)

  def _in_its_name(self, message):
    names = (f'task:{task}'.encode() for task in (self._conversation.task, self._task))
    return message.replace(self._conversation.context_id, self._id).replace(*names)

  def context(self) -> bytes:
    """Returns the request by which it connects."""

    def of_task(entry):
      if _fields(entry, 1) != [self._conversation.task]:  # It is the learner's.
        return entry
      return _rewritten(entry, lambda field, _: {1: self._task, 2: self._address.encode()}[field])

    return _changed(self._in_its_name(self._conversation.context), _TASKS, of_task)

  def end(self) -> bytes:
    """Returns the request by which it leaves."""
    return _varint(8 * _CONTEXT + _EIGHT) + self._id

  def registered(self) -> list[bytes]:
    """Returns the requests that describe its functions."""
    return [self._in_its_name(request) for request in self._conversation.registered]

  def run(self, function: Function) -> tuple[bytes, list[bytes], bytes]:
    """Returns the requests of a run: to begin it, to fetch from it, and to clean up after it."""
    step = random.getrandbits(63)
    number = next(self._operations)

    def of_operation(field, value):
      if field == _OPERATION_ID:
        return number
      return step if value == function.step else value

    run = _changed(
      self._in_its_name(function.run),
      [_OPERATION],
      lambda operation: _rewritten(operation, of_operation),
    )
    fetched = [
      _rewritten(
        self._in_its_name(request),
        lambda field, value: {_STEP: step, _REQUEST_ID: random.getrandbits(62)}.get(field, value),
      )
      for request in function.fetched
    ]
    clean_up = _changed(
      self._in_its_name(function.cleaned_up), [_ITEM, _CLEAN_UP, _STEP], lambda _: step
    )
    return run, fetched, clean_up


def edge(request: bytes) -> bytes:
  """Returns the name of the tensor that a request is for, without those of the devices."""
  return _fields(request, _KEY)[0].split(b';')[3]


# Protocol buffers as bytes: an integer is written in groups of seven bits, eight bytes as they are,
# and all else with its length before it.
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5


def _parsed(message: bytes) -> Iterator[tuple[int, int | bytes]]:
  """Yields the fields of a message: number and value."""
  for field, _, value in _with_types(message):
    yield field, value


def _with_types(message):
  place = 0

  def varint():
    nonlocal place
    value = shift = 0
    while True:
      byte = message[place]
      place += 1
      value |= (byte & 0x7F) << shift
      shift += 7
      if byte < 0x80:
        return value

  while place < len(message):
    field, type_ = divmod(varint(), 8)
    if type_ == _VARINT:
      yield field, type_, varint()
      continue
    size = varint() if type_ == _LENGTH else {_EIGHT: 8, _FOUR: 4}[type_]
    yield field, type_, message[place : place + size]
    place += size


def _fields(message, number):
  with contextlib.suppress(IndexError, KeyError):  # It is not a message but a text.
    return [value for field, value in _parsed(message) if field == number]
  return []


def _rewritten(message, change):
  """Returns a message with `change(field, value)` in place of each value."""
  parts = []
  for field, type_, value in _with_types(message):
    value = change(field, value)
    parts.append(_varint(8 * field + type_))
    if type_ == _VARINT:
      parts.append(_varint(value))
      continue
    if type_ == _LENGTH:
      parts.append(_varint(len(value)))
    parts.append(value)
  return b''.join(parts)


def _changed(message, path, change):
  """Returns a message with `change(value)` at a path of numbers of fields."""
  number, *rest = path

  def of_field(field, value):
    if field != number:
      return value
    return _changed(value, rest, change) if rest else change(value)

  return _rewritten(message, of_field)


def _varint(value):
  groups = []
  while value >= 0x80:
    groups.append(value & 0x7F | 0x80)
    value >>= 7
  return bytes([*groups, value])
