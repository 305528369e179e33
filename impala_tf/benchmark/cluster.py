"""The cost of the network between actors and learner, measured over loopback.

Actors here are processes that play nothing: each pulls the weights and sends the same unrolls,
again and again, so that only the way between them and the learner takes time. The learner takes
batches and publishes weights, but does not learn.
"""

import contextlib
import functools
import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing import connection as mp_connection

import numpy as np
import psutil
import tensorflow as tf

from impala_tf.acting import specs, weights
from impala_tf.agent import agents
from impala_tf.benchmark import conversation as conversation_lib
from impala_tf.benchmark import crowd, parts
from impala_tf.cluster import connection, roles
from impala_tf.config import Config
from impala_tf.environments import suite as suite_lib
from impala_tf.environments import suites
from impala_tf.system import machine
from impala_tf.transport import frame_stacks, unroll_queue
from impala_tf.transport.staging import StagingArea

_GRACE_SECONDS = 60.0
_context = multiprocessing.get_context('forkserver')


class _End:
  """One end of the way between actors and learner.

  Attributes:
    agent: a built `agents.Agent`.
    stacks: `frame_stacks.FrameStacks` of its unrolls.
    queue, weights: the learner's, under names of their own for each measurement.
  """

  def __init__(self, suite, config, name, version):
    self.agent = agents.for_suite(suite, config)
    unroll_spec = specs.Specs(suite, config, self.agent).unroll
    self.stacks = frame_stacks.FrameStacks(unroll_spec, config.frame_stack)
    self.queue = unroll_queue.UnrollQueue(
      self.stacks.unstacked_spec,
      config.queue_capacity,
      roles.LEARNER_DEVICE,
      f'unrolls_{name}',
      serialized=True,
    )
    self.weights = weights.PublishedWeights(
      self.agent, roles.LEARNER_DEVICE, f'weights_{name}', version
    )


def _black(unrolls):
  """Returns unrolls with black frames, as random ones would not be stacks."""
  step_outputs = unrolls.step_outputs
  frame = tf.zeros_like(step_outputs.observation.frame)
  observation = step_outputs.observation._replace(frame=frame)
  return unrolls._replace(step_outputs=step_outputs._replace(observation=observation))


@functools.cache
def _serve():
  """Makes this process a learner, once; returns its address."""
  role = roles.Role('learner', 0, *[f'127.0.0.1:{roles.free_port()}'] * 2)
  connection.connect(role)
  connection.warn_if_exposed(role)
  return role.address


@contextlib.contextmanager
def cluster_of(
  count: int, suite: suite_lib.Suite, config: Config, speak: bool = False
) -> Iterator[parts.Part]:
  """Returns a part as those of `parts`: a learner with `count` actors.

  Args:
    count: how many.
    suite, config: of the unrolls.
    speak: whether a few processes speak for all of them, see `crowd`; else each is a process.
  """
  address = _serve()
  end = _End(suite, config, count, version=0)
  staging = StagingArea(lambda: end.queue.dequeue_batch(config.batch_size))
  staging.start()
  actors: crowd.Crowd | _Processes
  if speak:
    actors = _crowd(count, address, config, staging)
  else:
    actors = _Processes(count, address, config, end.queue.close)

  measured = _Measured(count, end, staging, actors, config)
  try:
    yield parts.Part(measured.steps(), {}, measured.extra)
  finally:
    end.queue.close()
    staging.close()
    actors.close()


class _Measured:
  """Batches that a learner takes from actors, and what they cost it since all actors were ready."""

  def __init__(self, count, end, staging, actors, config):
    self._count, self._end, self._config = count, end, config
    self._staging, self._actors = staging, actors
    self._unrolls, self._cpu, self._sent, self._begin = 0, 0.0, 0, 0.0

  def steps(self):
    """Takes batch after batch, and yields their frames."""
    batch_size = self._config.batch_size
    is_waiting = True
    while True:
      staged = self._staging.get(timeout=1.0)
      is_waiting = is_waiting and not self._actors.are_ready()
      if staged is None:
        if not self._actors.is_alive():
          raise RuntimeError('All actors have ended.')
        continue

      self._end.weights.publish(tf.constant(1))
      # What comes before all actors are ready does not count, nor does the first batch.
      if is_waiting or not self._begin:
        self._unrolls, self._cpu, self._sent = 0, time.process_time(), _loopback_bytes()
        self._begin = time.monotonic()
        continue
      self._unrolls += batch_size
      yield batch_size * parts.frames_of_unroll(self._config)

  def extra(self, result):
    """Returns the rows of the table that other parts don't have."""
    cpu_of_unroll = (time.process_time() - self._cpu) / self._unrolls
    bytes_of_unroll = (_loopback_bytes() - self._sent) / self._unrolls
    unrolls_per_second = result.frames_per_second / parts.frames_of_unroll(self._config)
    learner = psutil.Process()
    threads, memory, files = learner.num_threads(), learner.memory_info().rss, learner.num_fds()
    connections = sum(c.status == 'ESTABLISHED' for c in learner.net_connections('tcp'))
    pulls = self._actors.pulls(self._begin, time.monotonic())
    parameters = sum(v.shape.num_elements() for v in self._end.agent.trainable_variables)
    return {
      'actors': self._count,
      'unrolls/s': unrolls_per_second,
      'bytes of an unroll': self._end.queue.wire_format.bytes,
      'bytes of a pull': 4 * (parameters + 1),
      'bytes sent for each unroll': bytes_of_unroll,
      'MB/s': bytes_of_unroll * unrolls_per_second / 1e6,
      'pull ms, median': 1000 * np.median(pulls),
      'pull ms, 99 %': 1000 * np.quantile(pulls, 0.99),
      "learner's CPU-ms for each unroll": 1000 * cpu_of_unroll,
      "learner's connections": connections,
      "learner's threads": threads,
      "learner's files": files,
      "learner's MiB": memory / 2**20,
    }


def _loopback_bytes():
  return psutil.net_io_counters(pernic=True)['lo'].bytes_sent


class _Processes:
  """Actors that are processes; has what `crowd.Crowd` has."""

  def __init__(self, count, address, config, close_queue):
    self._close_queue = close_queue
    # The actors share the memory of what the server has imported.
    _context.set_forkserver_preload(['impala_tf.benchmark.cluster'])
    self._actors, self._pipes = [], []
    for task in range(count):
      actor, pipe = _start(address, _own_address(), 1000 * count + task, count, config)
      self._actors.append(actor)
      self._pipes.append(pipe)

  def is_alive(self):
    return any(actor.is_alive() for actor in self._actors)

  def are_ready(self):
    return all(pipe.poll() for pipe in self._pipes)

  def pulls(self, begin, end):
    del begin, end  # They noted no times.
    self._close_queue()  # Which ends them.
    found = []
    for pipe in self._pipes:
      pipe.recv()  # It was ready.
      if pipe.poll(_GRACE_SECONDS):
        found.append(pipe.recv())
    return np.concatenate(found)

  def close(self):
    for actor in self._actors:
      actor.join(_GRACE_SECONDS)
      if actor.exitcode is None:
        actor.kill()
        actor.join()


def _own_address():
  return f'127.0.0.1:{roles.free_port()}'


def _start(learner, address, task, name, config):
  """Starts an actor process; returns it and our end of its pipe."""
  ours, theirs = _context.Pipe()
  actor = _context.Process(
    target=_send, args=(theirs, learner, address, task, name, config), daemon=True
  )
  actor.start()
  theirs.close()
  return actor, ours


def _crowd(count, learner, config, staging):
  """Overhears what one actor says to the learner, and starts a crowd that repeats it."""
  address = _own_address()
  with conversation_lib.Listener(learner, address, crowd.FIRST_TASK) as listener:
    actor, _ = _start(listener.address, address, crowd.FIRST_TASK, count, config)
    while (conversation := listener.heard(functions=2)) is None:
      if not actor.is_alive():
        raise RuntimeError('The actor that was to be overheard has ended.')
      staging.get(timeout=0.2)  # Else the actor would soon wait for room, and say no more.
    actor.kill()
    actor.join()

  return crowd.Crowd(conversation, learner, count)


def _send(
  pipe: mp_connection.Connection,
  learner: str,
  address: str,
  task: int,
  name: int,
  config: Config,
):
  """Runs an actor process: sends unrolls until the queue is closed, then how many seconds each pull
  of the weights took.
  """
  machine.configure_tensorflow(1)
  connection.connect(roles.Role('actor', task, learner, address))
  suite = suites.find(config.level_name)
  end = _End(suite, config, name, version=None)
  pull = tf.function(end.weights.pull, autograph=False)
  unrolls = _black(parts.unrolls_to_send(suite, config, end.agent))

  seconds = []
  with contextlib.suppress(*connection.CONNECTION_ERRORS):
    pull()  # It is traced.
    end.queue.enqueue_many(end.stacks.unstack_frames(unrolls))
    pipe.send('ready')
    while True:
      began = time.perf_counter()
      pull()
      seconds.append(time.perf_counter() - began)
      end.queue.enqueue_many(end.stacks.unstack_frames(unrolls))

  pipe.send(np.array(seconds))
