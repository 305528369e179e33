"""Many actors of a cluster, spoken for by a few processes that repeat what one actor said.

Each has connections of its own, by which it connects, registers functions, pulls weights and sends
unrolls, and a port at which the learner fetches these. For the learner it is an actor like any
other. It plays nothing, and needs a hundredth of an actor's memory.
"""

import asyncio
import contextlib
import multiprocessing
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from multiprocessing import connection as mp_connection

import grpc
import numpy as np

from impala_tf.benchmark import conversation as conversation_lib
from impala_tf.benchmark.conversation import Conversation
from impala_tf.cluster import sockets
from impala_tf.system import machine

FIRST_TASK = 1000  # All have numbers of four digits, as the one that was overheard.
_PER_PROCESS = 250
# Actors of a process that ask for something at the same time; the others wait as if they played.
_AT_A_TIME = 32
_GRACE_SECONDS = 30.0


class Crowd:
  """The processes, from the start of the first until `close`."""

  def __init__(self, conversation: Conversation, learner: str, count: int):
    """Starts them.

    Args:
      conversation: that each actor has with the learner.
      learner: its 'host:port'.
      count: of actors.
    """
    context = multiprocessing.get_context('forkserver')
    self._processes, self._pipes = [], []
    for first in range(0, count, _PER_PROCESS):
      ours, theirs = context.Pipe()
      tasks = range(FIRST_TASK + first, FIRST_TASK + min(first + _PER_PROCESS, count))
      arguments = (theirs, conversation, learner, tasks)
      self._processes.append(context.Process(target=_speak, args=arguments, daemon=True))
      self._processes[-1].start()
      theirs.close()
      self._pipes.append(ours)

  def is_alive(self) -> bool:
    """Returns whether any of them has not ended."""
    return any(process.is_alive() for process in self._processes)

  def are_ready(self) -> bool:
    """Returns whether all actors have connected, pulled and sent."""
    return all(pipe.poll() for pipe in self._pipes)

  def pulls(self, begin: float, end: float) -> np.ndarray:
    """Ends all; returns the seconds of each pull that began between two times of the clock
    `time.monotonic`.
    """
    taken = []
    for pipe in self._pipes:
      with contextlib.suppress(EOFError, OSError):
        pipe.recv()
        pipe.send('end')
        if pipe.poll(_GRACE_SECONDS):
          taken.append(pipe.recv())
    began, seconds = np.concatenate(taken or [np.empty((0, 2))]).T
    return seconds[(began >= begin) & (began < end)]

  def close(self) -> None:
    """Ends the processes."""
    for pipe in self._pipes:
      pipe.close()
    for process in self._processes:
      process.join(_GRACE_SECONDS)
      if process.exitcode is None:
        process.kill()
        process.join()


def _speak(pipe, conversation, learner, tasks):
  machine.allow_many_files()
  pulls = asyncio.run(_Speakers(pipe, conversation, learner).run(tasks))
  with contextlib.suppress(OSError):
    pipe.send(pulls)
  os._exit(0)  # Channels that are broken off would complain.


class _Speakers:
  """The actors of one process."""

  def __init__(self, pipe: mp_connection.Connection, conversation: Conversation, learner: str):
    self._pipe, self._conversation, self._learner = pipe, conversation, learner
    self._given = {
      edge: answer for function in conversation.functions for edge, answer in function.given.items()
    }
    self._turn = asyncio.Semaphore(_AT_A_TIME)
    self._pulls: list[tuple[float, float]] = []
    self._farewells: list[Callable[[], Awaitable[bytes]]] = []

  async def run(self, tasks: Sequence[int]) -> np.ndarray:
    """Speaks until the parent asks for the end; returns when each pull began and how long it took,
    both in seconds.
    """
    server = grpc.aio.server(options=conversation_lib.CHANNEL_OPTIONS)
    server.add_generic_rpc_handlers((_Giver(self._given),))
    port = server.add_insecure_port('0.0.0.0:0')
    await server.start()
    sockets.restrict(port, '127.0.0.1')

    ready = [asyncio.Event() for _ in tasks]
    acting = [
      # Each at a loopback address of its own, or the learner would find all by one connection.
      asyncio.create_task(self._act(task, f'127.1.{task // 200}.{1 + task % 200}:{port}', event))
      for task, event in zip(tasks, ready, strict=True)
    ]
    everybody = asyncio.gather(*(event.wait() for event in ready))
    await asyncio.wait([everybody, *acting], return_when=asyncio.FIRST_COMPLETED)
    for one in acting:
      if one.done():
        one.result()  # It has failed.
    await everybody
    self._pipe.send('ready')
    while not self._pipe.poll():
      await asyncio.sleep(0.2)
    for one in acting:
      one.cancel()
    with contextlib.suppress(grpc.RpcError):
      await asyncio.gather(*(farewell() for farewell in self._farewells))
    return np.array(self._pulls).reshape(-1, 2)

  async def _act(self, task, address, ready):
    actor = conversation_lib.Actor(self._conversation, task, address)
    channel = grpc.aio.insecure_channel(self._learner, options=conversation_lib.CHANNEL_OPTIONS)
    ask = lambda method, request: channel.unary_unary(method)(request, wait_for_ready=True)
    async with self._turn:
      await ask(conversation_lib.CREATE_CONTEXT, actor.context())
      # Or the learner would keep what it has for it for ten minutes.
      self._farewells.append(lambda: ask(conversation_lib.CLOSE_CONTEXT, actor.end()))
      for request in actor.registered():
        await ask(conversation_lib.ENQUEUE, request)

    while True:
      for function in self._conversation.functions:
        async with self._turn:
          await self._run(actor, function, ask)
      ready.set()

  async def _run(self, actor, function, ask):
    began = time.monotonic()
    run, fetched, clean_up = actor.run(function)
    await asyncio.gather(
      ask(conversation_lib.RUN, run),
      *(ask(conversation_lib.RECEIVE, request) for request in fetched),
    )
    if fetched:
      self._pulls.append((began, time.monotonic() - began))
    await ask(conversation_lib.ENQUEUE, clean_up)


class _Giver(grpc.GenericRpcHandler):
  """Gives the learner the tensors that it fetches."""

  def __init__(self, given):
    self._given = given

  def service(self, handler_call_details):
    """Returns what handles calls of a method."""
    del handler_call_details

    async def give(request, context):
      del context
      return self._given[conversation_lib.edge(request)]

    return grpc.unary_unary_rpc_method_handler(give)
