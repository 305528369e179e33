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
from impala_tf.benchmark import parts
from impala_tf.cluster import connection, roles
from impala_tf.config import Config
from impala_tf.environments import suite as suite_lib
from impala_tf.environments import suites
from impala_tf.system import machine
from impala_tf.transport import packing, unroll_queue

_GRACE_SECONDS = 60.0


class _End:
  """One end of the way between actors and learner.

  agent: a built `agents.Agent`.
  stacks: `packing.FrameStacks` of its unrolls.
  queue, weights: the learner's, under names of their own for each measurement.
  """

  def __init__(self, suite, config, name, version):
    self.agent = agents.for_suite(suite, config)
    unroll_spec = specs.Specs(suite, config, self.agent).unroll
    self.stacks = packing.FrameStacks(unroll_spec, config.frame_stack)
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


@functools.cache
def _serve():
  """Makes this process a learner, once; returns its address."""
  role = roles.Role('learner', 0, *[f'127.0.0.1:{roles.free_port()}'] * 2)
  connection.connect(role)
  connection.warn_if_exposed(role)
  return role.address


@contextlib.contextmanager
def cluster_of(count: int, suite: suite_lib.Suite, config: Config) -> Iterator[parts.Part]:
  """A part as those of `parts`: a learner with `count` actor processes."""
  address = _serve()
  end = _End(suite, config, count, version=0)
  staging = unroll_queue.StagingArea(lambda: end.queue.dequeue_batch(config.batch_size))

  context = multiprocessing.get_context('forkserver')
  # The actors share the memory of what the server has imported.
  context.set_forkserver_preload(['impala_tf.benchmark.cluster'])
  actors, pipes = [], []
  for task in range(count):
    ours, theirs = context.Pipe()
    arguments = (theirs, address, 1000 * count + task, count, config)
    actors.append(context.Process(target=_send, args=arguments, daemon=True))
    actors[-1].start()
    theirs.close()
    pipes.append(ours)
  staging.start()
  unrolls, cpu, sent = 0, 0.0, 0

  def steps():
    nonlocal unrolls, cpu, sent
    waiting = set(pipes)
    while True:
      staged = staging.get(timeout=1.0)
      waiting -= {pipe for pipe in waiting if pipe.poll()}
      if staged is None:
        if not any(actor.is_alive() for actor in actors):
          raise RuntimeError('All actors have ended.')
        continue

      end.weights.publish(tf.constant(1))
      if waiting:  # What comes before all actors are ready does not count.
        unrolls, cpu, sent = 0, time.process_time(), _loopback_bytes()
        continue
      unrolls += config.batch_size
      yield config.batch_size * parts.frames_of_unroll(config)

  def extra(result):
    cpu_of_unroll = (time.process_time() - cpu) / unrolls
    bytes_of_unroll = (_loopback_bytes() - sent) / unrolls
    unrolls_per_second = result.frames_per_second / parts.frames_of_unroll(config)
    learner = psutil.Process()
    threads, memory = learner.num_threads(), learner.memory_info().rss
    end.queue.close()
    pulls = np.concatenate([pulls for pipe in pipes if (pulls := _pulls(pipe)) is not None])
    parameters = sum(v.shape.num_elements() for v in end.agent.trainable_variables)
    return {
      'actor processes': count,
      'unrolls/s': unrolls_per_second,
      'bytes of an unroll': end.queue.wire_format.bytes,
      'bytes of a pull': 4 * (parameters + 1),
      'bytes sent for each unroll': bytes_of_unroll,
      'MB/s': bytes_of_unroll * unrolls_per_second / 1e6,
      'pull ms, median': 1000 * np.median(pulls),
      'pull ms, 95 %': 1000 * np.quantile(pulls, 0.95),
      "learner's CPU-ms for each unroll": 1000 * cpu_of_unroll,
      "learner's threads": threads,
      "learner's MiB": memory / 2**20,
    }

  try:
    yield parts.Part(steps(), {}, extra)
  finally:
    end.queue.close()
    staging.close()
    for actor in actors:
      actor.join(_GRACE_SECONDS)
      if actor.exitcode is None:
        actor.kill()
        actor.join()


def _loopback_bytes():
  return psutil.net_io_counters(pernic=True)['lo'].bytes_sent


def _pulls(pipe):
  """Seconds of each pull of an actor that has ended, None if it does not answer."""
  pipe.recv()  # It was ready.
  return pipe.recv() if pipe.poll(_GRACE_SECONDS) else None


def _send(pipe: mp_connection.Connection, address: str, task: int, name: int, config: Config):
  """Runs an actor process: sends unrolls until the queue is closed, then how many seconds each pull
  of the weights took.
  """
  machine.configure_tensorflow(1)
  connection.connect(roles.Role('actor', task, address, f'127.0.0.1:{roles.free_port()}'))
  suite = suites.find(config.level_name)
  end = _End(suite, config, name, version=None)
  pull = tf.function(end.weights.pull)
  unrolls = parts.unrolls_to_send(suite, config, end.agent)

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
