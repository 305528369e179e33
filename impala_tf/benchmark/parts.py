"""The whole pipeline and its parts, as the benchmark measures them.

Each part is a context manager `part(suite, config)` that gives a `Part`.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.acting import inference, specs, weights
from impala_tf.agent import agents
from impala_tf.benchmark import fake_environment, measurement
from impala_tf.config import Config
from impala_tf.environments import base
from impala_tf.environments import suite as suite_lib
from impala_tf.system import timing
from impala_tf.training import episodes, impala, loop, sources
from impala_tf.transport import unroll_queue
from impala_tf.transport.staging import StagingArea

# Operations that multiply matrices.
_PRODUCTS = (
  'MatMul',
  'BatchMatMul',
  'BatchMatMulV2',
  'BatchMatMulV3',
  'Conv2D',
  'Conv2DBackpropInput',
  'Conv2DBackpropFilter',
)


def _no_extra(result: measurement.Result) -> dict[str, Any]:
  del result
  return {}


class Part(NamedTuple):
  """Work to measure.

  Attributes:
    steps: each `next` does some work and returns its frames.
    readers: by the name of a group of stages a function that gives their shares of time.
    extra: gives numbers of this part alone.
  """

  steps: Iterator[int]
  readers: dict[str, Callable[[], dict[str, float]]]
  extra: Callable[[measurement.Result], dict[str, Any]] = _no_extra


@contextlib.contextmanager
def train(suite: suite_lib.Suite, config: Config) -> Iterator[Part]:
  """Measures the whole training, but for reports and checkpoints."""
  learner, timer = loop.make_learner(suite, config), timing.StageTimer()
  with loop.SOURCES[config.architecture](suite, config, learner, [config.seed]) as source:
    readers = {'learner': timer.reader(), 'actors': source.actors.shares()}
    yield Part(_updates(config, learner, source, timer), readers)


def _updates(config, learner, source, timer):
  """Yields the frames of one update after the other."""
  while True:
    with timer('wait'):
      batch = source.next_batch()
    with timer('update'):
      source.publish(learner.update(batch.unrolls).updates)
    del batch  # As in a training, the next one takes its memory.
    yield config.frames_per_update


@contextlib.contextmanager
def act(suite: suite_lib.Suite, config: Config) -> Iterator[Part]:
  """Actors, queue and staging area without a learner: batches are dropped as they come."""
  learner = loop.make_learner(suite, config)
  with impala.ImpalaSource(suite, config, learner, [config.seed]) as source:
    steps = (config.frames_per_update for _ in iter(source.next_batch, None))
    yield Part(steps, {'actors': source.actors.shares()})


@contextlib.contextmanager
def env(suite: suite_lib.Suite, config: Config) -> Iterator[Part]:
  """Measures the environments of one actor, stepped in this process by random actions."""
  seeds = np.random.SeedSequence(config.seed).generate_state(config.envs_per_actor) >> 1
  levels = itertools.cycle(suite.levels(config))
  batch = base.EnvironmentBatch(
    [
      suite.make_environment(level, int(seed), False, config)
      for level, seed in zip(levels, seeds, strict=False)
    ]
  )
  random = np.random.default_rng(config.seed)
  batch.initial()

  def steps():
    while True:
      batch.step(random.integers(batch.num_actions, size=config.envs_per_actor, dtype=np.int32))
      yield config.envs_per_actor * config.num_action_repeats

  with contextlib.closing(batch):
    yield Part(steps(), {})


@contextlib.contextmanager
def infer(suite: suite_lib.Suite, config: Config) -> Iterator[Part]:
  """Measures the agent choosing actions for the environments of one actor, unroll after unroll, on
  observations that stay.
  """
  agent = agents.for_suite(suite, config)
  n = config.envs_per_actor
  step_outputs = tree.map_structure(
    lambda t: t[0], example_unroll(suite, config, agent, n).step_outputs
  )
  policy = inference.LocalInference(agent, weights.PublishedWeights(agent))

  @tf.function(autograph=False)
  def unroll(actions, state):
    context, _ = policy.begin()

    def step(t, actions, state):
      output, state = policy.step(context, actions, step_outputs, state)
      return t + 1, output.action, state

    return tf.while_loop(
      lambda t, *_: t < config.unroll_length, step, (0, actions, state), parallel_iterations=1
    )

  def steps():
    actions, state = tf.zeros([n], tf.int32), agent.initial_state(n)
    while True:
      _, actions, state = unroll(actions, state)
      yield n * config.unroll_length * config.num_action_repeats

  yield Part(steps(), {})


class _SameBatch(sources.Source):
  """A source that has one batch again and again, and actors that do nothing."""

  def __init__(self, learner, unrolls):
    self.weights = weights.PublishedWeights(learner.agent)
    self._batch = sources.Batch(unrolls, [])

  def next_batch(self, stop=False):
    return self._batch


@contextlib.contextmanager
def learn(suite: suite_lib.Suite, config: Config) -> Iterator[Part]:
  """Measures the learner's update and the publishing of its weights, on one batch each time."""
  learner = loop.make_learner(suite, config)
  batch_size = config.batch_total
  batch = example_unroll(suite, config, learner.agent, batch_size)
  source = _SameBatch(learner, batch)
  steps = _updates(config, learner, source, timing.StageTimer())

  def extra(result):
    flops = (
      update_flops(learner.agent, suite.observation_spec(config), config)
      * batch_size
      / config.batch_size
    )
    per_cpu_second = flops / (result.cpu_seconds_per_1000_frames * config.frames_per_update / 1000)
    peak = matmul_flops_per_cpu_second()
    return {
      'GFLOP of an update': flops / 1e9,
      'GFLOP per CPU-second': per_cpu_second / 1e9,
      'GFLOP per CPU-second of a float32 matrix product': peak / 1e9,
      'share of that': per_cpu_second / peak,
    }

  yield Part(steps, {}, extra)


@contextlib.contextmanager
def queue(suite: suite_lib.Suite, config: Config) -> Iterator[Part]:
  """Measures queue and staging area, fed by one thread of this process with the same unrolls each
  time.
  """
  agent = agents.for_suite(suite, config)
  unrolls = unrolls_to_send(suite, config, agent)
  spec = tree.map_structure(lambda t: tf.TensorSpec(t.shape[1:], t.dtype), unrolls)
  unroll_bytes = sum(
    s.shape.num_elements() * s.dtype.size for s in tree.flatten(spec) if s.dtype != tf.string
  )
  unrolls_queue = unroll_queue.UnrollQueue(spec, config.queue_capacity)
  staging = StagingArea(
    lambda: unrolls_queue.dequeue_batch(config.batch_size), on_host=episodes.episodes_in
  )

  def feed():
    with contextlib.suppress(tf.errors.CancelledError):
      while True:
        unrolls_queue.enqueue_many(unrolls)

  feeder = threading.Thread(target=feed, daemon=True)

  def steps():
    while True:
      if staging.get(timeout=1.0) is not None:
        yield config.batch_size * frames_of_unroll(config)

  def extra(result):
    unrolls_per_second = result.frames_per_second / frames_of_unroll(config)
    return {
      'unrolls/s': unrolls_per_second,
      'bytes of an unroll': unroll_bytes,
      'MB/s': unrolls_per_second * unroll_bytes / 1e6,
    }

  staging.start()
  feeder.start()
  try:
    yield Part(steps(), {}, extra)
  finally:
    unrolls_queue.close()
    feeder.join()
    staging.close()


def frames_of_unroll(config: Config) -> int:
  """Counts the frames of one unroll."""
  return config.unroll_length * config.num_action_repeats


def unrolls_to_send(suite: suite_lib.Suite, config: Config, agent: agents.Agent) -> structs.Unroll:
  """Makes unrolls of random numbers as an actor sends them, [envs_per_actor, T+1, ...] for step and
  agent outputs.
  """
  # `as_batch` swaps time and batch back, too.
  return unroll_queue.as_batch(example_unroll(suite, config, agent, config.envs_per_actor))


def example_unroll(
  suite: suite_lib.Suite, config: Config, agent: agents.Agent, batch_size: int
) -> structs.Unroll:
  """Makes a batch of unrolls of random numbers, time-major: [T+1, batch_size, ...] for step and
  agent outputs.
  """
  random = np.random.default_rng(config.seed)
  shape = (config.unroll_length + 1, batch_size)

  def fill(spec):
    if spec.dtype is np.bytes_:
      return tf.fill(shape, fake_environment.noise(spec, random))
    if np.issubdtype(spec.dtype, np.unsignedinteger):
      return tf.constant(random.integers(0, 256, (*shape, *spec.shape)).astype(spec.dtype))
    if spec.dtype is np.bool_:
      return tf.constant(random.random(shape) < 0.01)
    return tf.constant(random.normal(size=(*shape, *spec.shape)).astype(spec.dtype))

  return structs.Unroll(
    level=tf.zeros([batch_size], tf.int32),
    policy_version=tf.zeros([batch_size], tf.int32),
    agent_state=agent.initial_state(batch_size),
    step_outputs=tree.map_structure(fill, structs.step_output_spec(suite.observation_spec(config))),
    agent_outputs=structs.AgentOutput(
      action=tf.constant(random.integers(0, agent.num_actions, shape).astype(np.int32)),
      policy_logits=tf.constant(random.normal(size=(*shape, agent.num_actions)).astype(np.float32)),
      baseline=tf.zeros(shape),
    ),
  )


def update_flops(agent: agents.Agent, observation_spec: structs.Observation, config: Config) -> int:
  """Counts the floating-point operations of the convolutions and matrix products of `batch_size`
  unrolls, forward and backward.

  A product of [m, k] and [k, n] counts 2 m k n, and a convolution the products that it consists of;
  so do those that lead back to their kernels and to their inputs (the frames need none). Those of
  the recurrent state, inside the LSTM's loop over time, are left out: they are below one per cent
  of the deep network's, and about a tenth of the shallow one's. So are those of instructions, of
  which the different ones are computed once each.
  """
  rows = config.unroll_length + 1
  step_outputs = specs.tensor_specs(
    structs.step_output_spec(observation_spec), [rows, config.batch_size]
  )

  @tf.function(autograph=False)
  def gradients(step_outputs):
    with tf.GradientTape() as tape:
      actions = tf.zeros([rows, config.batch_size], tf.int32)
      outputs, _ = agent.unroll(actions, step_outputs, agent.initial_state(config.batch_size))
      loss = sum(tf.nn.l2_loss(output) for output in outputs)
    return [tf.convert_to_tensor(g) for g in tape.gradient(loss, agent.trainable_variables)]

  graph = gradients.get_concrete_function(step_outputs).graph
  # Only what leads to the result runs: TensorFlow prunes the rest, such as the way back to the
  # frames.
  needed, reached = [tensor.op for tensor in tree.flatten(graph.structured_outputs)], {}
  while needed:
    operation = needed.pop()
    if operation.name not in reached:
      reached[operation.name] = operation
      needed += [tensor.op for tensor in operation.inputs]

  return sum(map(_flops, reached.values()))


def _flops(operation):
  """Returns those of a product or convolution, 0 for another operation, and for one of a size that
  only the data say.
  """
  type_ = operation.type
  if type_ not in _PRODUCTS:
    return 0
  shapes, output = [tensor.shape for tensor in operation.inputs], operation.outputs[0].shape
  if not all(shape.is_fully_defined() for shape in (*shapes, output)):
    return 0

  if type_.endswith('Filter'):
    positions, kernel = shapes[2], output  # The kernel slides over the positions of what came out.
  elif type_.endswith('Input'):
    positions, kernel = shapes[2], shapes[1]
  elif type_ == 'Conv2D':
    positions, kernel = output, shapes[1]
  else:
    is_transposed = operation.get_attr('transpose_a' if type_ == 'MatMul' else 'adj_x')
    return 2 * shapes[0][-2 if is_transposed else -1] * output.num_elements()
  return 2 * positions[:3].num_elements() * kernel.num_elements()


def matmul_flops_per_cpu_second() -> float:
  """Measures the operations of a processor second in float32 matrix products of [2048, 2048],
  the highest rate of the processor.
  """
  size, seconds = 2048, 2.0
  matrix = tf.random.normal([size, size])
  product = tf.function(lambda m: tf.matmul(m, m), autograph=False)
  product(matrix)
  begin, count = time.process_time(), 0
  while time.process_time() - begin < seconds:
    product(matrix)
    count += 1
  return count * 2 * size**3 / (time.process_time() - begin)
