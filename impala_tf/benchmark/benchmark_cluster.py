"""What the network between actors and learner costs, measured over loopback.

Actors here are processes that play nothing: each pulls the weights and sends the same unrolls,
again and again, so that nothing but the way between them and the learner takes time. The learner
takes batches and publishes weights, but does not learn.
"""

import contextlib
import functools
import multiprocessing
import time

import numpy as np
import psutil
import tensorflow as tf

from impala_tf import machine
from impala_tf.acting import specs, weights
from impala_tf.agent import agents
from impala_tf.benchmark import benchmark_parts
from impala_tf.cluster import connection, roles
from impala_tf.environments import suites
from impala_tf.transport import frame_stacks, unroll_queue

_GRACE_SECONDS = 60.0


@functools.cache
def _serve():
  """Makes this process a learner, once; returns its address."""
  role = roles.Role('learner', 0, *[f'127.0.0.1:{roles.free_port()}'] * 2)
  connection.connect(role)
  connection.warn_if_exposed(role)
  return role.address


@contextlib.contextmanager
def cluster_of(count, suite, config):
  """A part as `benchmark_parts` describes them: a learner with `count` actor processes."""
  address = _serve()
  agent = agents.for_suite(suite, config)
  stacks = frame_stacks.FrameStacks(specs.Specs(suite, config, agent).unroll, config.frame_stack)
  names = {'queue': f'{connection.QUEUE}_{count}', 'weights': f'{connection.WEIGHTS}_{count}'}
  place = {'device': roles.LEARNER_DEVICE, 'serialized': True}
  queue = unroll_queue.UnrollQueue(
    stacks.unstacked_spec, config.queue_capacity, shared_name=names['queue'], **place
  )
  published = weights.PublishedWeights(agent, roles.LEARNER_DEVICE, names['weights'])
  staging = unroll_queue.StagingArea(lambda: queue.dequeue_batch(config.batch_size))
  context = multiprocessing.get_context('forkserver')
  # Imported once for all of them, which share the memory that takes.
  context.set_forkserver_preload(['impala_tf.benchmark.benchmark_cluster'])
  actors, pipes = [], []
  for task in range(count):
    ours, theirs = context.Pipe()
    arguments = (theirs, address, 1000 * count + task, names, config)
    actors.append(context.Process(target=_send, args=arguments, daemon=True))
    actors[-1].start()
    theirs.close()
    pipes.append(ours)
  staging.start()
  done = {'unrolls': 0, 'cpu': 0.0, 'bytes': 0}

  def steps():
    waiting = set(pipes)
    while True:
      staged = staging.get(timeout=1.0)
      waiting -= {pipe for pipe in waiting if pipe.poll()}
      if staged is None:
        if not any(actor.is_alive() for actor in actors):
          raise RuntimeError('All actors have ended.')
        continue
      published.publish(tf.constant(1))
      if waiting:
        done.update(unrolls=0, cpu=time.process_time(), bytes=_loopback_bytes())
        continue
      done['unrolls'] += config.batch_size
      yield benchmark_parts.frames_of_batch(config)

  def extra(result):
    unrolls = done['unrolls']
    cpu, sent = time.process_time() - done['cpu'], _loopback_bytes() - done['bytes']
    learner = psutil.Process()
    threads, memory = learner.num_threads(), learner.memory_info().rss
    queue.close()
    for pipe in pipes:
      pipe.recv()  # that it is ready
    pulls = np.concatenate([pipe.recv() for pipe in pipes if pipe.poll(_GRACE_SECONDS)])
    return {
      'actor processes': count,
      'unrolls/s': result.frames_per_second / (config.unroll_length * config.num_action_repeats),
      'bytes of an unroll': queue.wire_format.bytes,
      'bytes of a pull': 4 * (1 + sum(v.shape.num_elements() for v in agent.trainable_variables)),
      'bytes sent for each unroll': sent / unrolls,
      'MB/s': sent
      / unrolls
      * result.frames_per_second
      / (config.unroll_length * config.num_action_repeats)
      / 1e6,
      'pull ms, median': 1000 * np.median(pulls),
      'pull ms, 95 %': 1000 * np.quantile(pulls, 0.95),
      "learner's CPU-ms for each unroll": 1000 * cpu / unrolls,
      "learner's threads": threads,
      "learner's MiB": memory / 2**20,
    }

  try:
    yield steps(), {}, extra
  finally:
    queue.close()
    staging.close()
    for actor in actors:
      actor.join(_GRACE_SECONDS)
      if actor.exitcode is None:
        actor.kill()
        actor.join()


def _loopback_bytes():
  return psutil.net_io_counters(pernic=True)['lo'].bytes_sent


def _send(pipe, address, task, names, config):
  """An actor process: sends unrolls until the queue is closed, then how many seconds each pull of
  the weights took.
  """
  machine.configure_tensorflow(1)
  connection.connect(roles.Role('actor', task, address, f'127.0.0.1:{roles.free_port()}'))
  suite = suites.find(config.level_name)
  agent = agents.for_suite(suite, config)
  stacks = frame_stacks.FrameStacks(specs.Specs(suite, config, agent).unroll, config.frame_stack)
  place = {'device': roles.LEARNER_DEVICE, 'serialized': True}
  queue = unroll_queue.UnrollQueue(
    stacks.unstacked_spec, config.queue_capacity, shared_name=names['queue'], **place
  )
  pull = tf.function(
    weights.PublishedWeights(agent, roles.LEARNER_DEVICE, names['weights'], version=None).pull
  )
  unrolls = benchmark_parts.unrolls_to_send(suite, config, agent)
  seconds = []
  with contextlib.suppress(*connection.CONNECTION_ERRORS):
    pull()  # traced
    queue.enqueue_many(stacks.unstack_frames(unrolls))
    pipe.send('ready')
    while True:
      began = time.perf_counter()
      pull()
      seconds.append(time.perf_counter() - began)
      queue.enqueue_many(stacks.unstack_frames(unrolls))
  pipe.send(np.array(seconds))
