"""Acting: unrolls of T steps, and the threads that make them.

The whole unroll is one tf.function, traced once and shared by all actor threads: which actor it
acts for is a tensor.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import tensorflow as tf
import tree

from impala_tf import structs
from impala_tf.environments import operations
from impala_tf.system import machine, timing


class Carry(NamedTuple):
  """State of one actor between two unrolls; [n, ...] for its n environments.

  Attributes:
    step_output: row T of the unroll before, as `operations.ProcessGroup.step` gives it.
    agent_output: row T of the unroll before.
    agent_state: the agent's state before it consumes that row.
  """

  step_output: structs.StepOutput
  agent_output: structs.AgentOutput
  agent_state: Any


class Unroller:
  """Makes unrolls of an actor's n environments.

      carry = unroller.initial(index)
      while True:
        carry, unrolls = unroller.unroll(index, carry)

  Attributes:
    carry_spec: `Carry` of `tf.TensorSpec`.
  """

  def __init__(
    self,
    policy: Any,
    environments: operations.ProcessGroup,
    levels: Sequence[Sequence[int]],
    unroll_length: int,
  ):
    """Traces the unroll function.

    Args:
      policy: where actions come from, an `inference.LocalInference` or
        `inference.BatchedInference`.
      environments: of the actors, by their index.
      levels: for each actor the indices of the levels of its n environments.
      unroll_length: T, steps per unroll.
    """
    self._policy = policy
    self._environments = environments
    self._levels = tf.constant(levels, tf.int32)
    self._num_environments = len(levels[0])
    self._unroll_length = unroll_length

    index_spec = tf.TensorSpec([], tf.int32)
    self._initial = tf.function(self._build_initial, input_signature=[index_spec], autograph=False)
    carry = self._initial.get_concrete_function().structured_outputs
    self.carry_spec = tree.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), carry)
    self._begin = tf.function(policy.begin, autograph=False)
    begun = self._begin.get_concrete_function().structured_outputs
    begun_spec = tree.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), begun)
    self._traced = tf.function(
      self.play, input_signature=[index_spec, self.carry_spec, *begun_spec], autograph=False
    )

    # Traced here, before any thread may call it: weights can't be substituted by several threads.
    sees_images = carry.step_output.observation.frame.shape.rank > 2
    if sees_images or tf.config.list_physical_devices('GPU'):
      self._traced.get_concrete_function()
      self._unroll = self._traced
    else:
      self._unroll = _in_one_thread(self._traced)

  def initial(self, index: int) -> Carry:
    """Starts the environments of actor `index` and returns their first carry."""
    return self._initial(tf.constant(index, tf.int32))

  def unroll(self, index: int, carry: Carry) -> tuple[Carry, structs.Unroll]:
    """Plays T steps with actor `index`, whose carry is given.

    Returns:
      The next carry, and the unrolls with a leading [n]: [n, T+1, ...] for step and agent outputs.

    Raises:
      tf.errors.OutOfRangeError: if the actor's process was closed.
      tf.errors.OpError: with the process's own message, if it failed or died.
    """
    self._policy.refresh()
    return self._unroll(tf.constant(index, tf.int32), carry, *self._begin())

  def _build_initial(self, index):
    n = self._num_environments
    agent_output = structs.AgentOutput(
      action=tf.zeros([n], tf.int32),
      policy_logits=tf.zeros([n, self._policy.agent.num_actions]),
      baseline=tf.zeros([n]),
    )
    return Carry(
      self._environments.initial(index), agent_output, self._policy.agent.initial_state(n)
    )

  def play(
    self, index: tf.Tensor, carry: Carry, context: Any, version: tf.Tensor
  ) -> tuple[Carry, structs.Unroll]:
    """Plays T steps as `unroll`, inside a tf.function.

    Args:
      index: int32 scalar, the actor.
      carry: the actor's.
      context, version: what the policy's `begin` gave.
    """
    # On the host, where environments and queue are: a graphics card would be sent each unroll only
    # to rearrange it.
    with tf.device(machine.local_cpu()):

      def array(tensor):
        rows = self._unroll_length + 1
        return tf.TensorArray(tensor.dtype, rows, element_shape=tensor.shape).write(0, tensor)

      def step(t, carry, rows):
        with tf.device(None):  # Wherever the network runs best.
          agent_output, agent_state = self._policy.step(
            context, carry.agent_output.action, carry.step_output, carry.agent_state
          )
        step_output = self._environments.step(index, t, agent_output.action)
        rows = tree.map_structure(lambda array, tensor: array.write(t, tensor), rows, agent_output)
        return t + 1, Carry(step_output, agent_output, agent_state), rows

      _, last, rows = tf.while_loop(
        cond=lambda t, *_: t <= self._unroll_length,
        body=step,
        loop_vars=(1, carry, tree.map_structure(array, carry.agent_output)),
        parallel_iterations=1,
      )

      # The environments have kept theirs.
      with tf.control_dependencies([last.step_output.reward]):
        step_outputs = self._environments.take(index, self._unroll_length + 1)
      unrolls = structs.Unroll(
        level=self._levels[index],
        policy_version=tf.fill([self._num_environments], version),
        agent_state=carry.agent_state,
        step_outputs=step_outputs,
        agent_outputs=tree.map_structure(self._stack, rows),
      )
      return last, unrolls

  def _stack(self, array):
    rows = array.stack()
    rows = tf.ensure_shape(rows, [self._unroll_length + 1, *rows.shape[1:]])
    return tf.transpose(rows, [1, 0, *range(2, rows.shape.rank)])


def _in_one_thread(function: Any) -> Callable[..., Any]:
  """Traces a tf.function of the host alone, and lets the thread that calls it run its operations,
  one after the other.

  TensorFlow hands operations that are ready from thread to thread, which costs more than small
  operations themselves: on CartPole a quarter less processor time is needed without. Not for
  networks of images, which then take a tenth more, and not where there is a graphics card, as a
  thread alone can't exchange tensors between devices.
  """
  executor = 'SINGLE_THREADED_EXECUTOR'
  with tf.experimental.function_executor_type(executor):
    concrete = function.get_concrete_function()
  outputs = concrete.structured_outputs
  dtypes = [output.dtype for output in tree.flatten(outputs)]

  def run(*arguments):
    # Without the checks of a tf.function's call, which take a millisecond for such nests.
    results = tf.raw_ops.StatefulPartitionedCall(
      args=[*tree.flatten(arguments), *concrete.captured_inputs],
      Tout=dtypes,
      f=concrete,
      executor_type=executor,
    )
    return tree.unflatten_as(outputs, results)

  return run


class ActorThreads:
  """One thread for each actor, which makes unrolls for the queue until it is stopped or fails.

  The first failure ends all of them: it is kept in `error`, and `on_failure` is called once, so
  that nobody waits for unrolls that will never come.
  """

  def __init__(
    self,
    unroller: Any,
    num_actors: int,
    enqueue_many: Callable[[Any], None],
    timer: timing.StageTimer,
    on_failure: Callable[[], None],
  ):
    """Describes the threads.

    Args:
      unroller: an `Unroller`, or what has the same `initial` and `unroll`.
      num_actors: how many threads.
      enqueue_many: takes the unrolls of one actor, as `unroll_queue.UnrollQueue.enqueue_many`.
      timer: gets the stages 'unroll' and 'enqueue'.
      on_failure: called by the first thread that fails.
    """
    self.error: Exception | None = None
    self._unroller = unroller
    self._enqueue_many = enqueue_many
    self._timer = timer
    self._on_failure = on_failure
    self._stopping = threading.Event()
    self._lock = threading.Lock()
    self._threads = [
      threading.Thread(target=self._run, args=(i,), name=f'actor-{i}', daemon=True)
      for i in range(num_actors)
    ]

  @classmethod
  def none(cls) -> Self:
    """Returns a set of no threads, which never fails and ends at once."""
    return cls(None, 0, lambda unrolls: None, timing.StageTimer(), lambda: None)

  def start(self) -> None:
    """Starts acting."""
    for thread in self._threads:
      thread.start()

  def _run(self, index):
    try:
      with self._timer('unroll'):
        carry = self._unroller.initial(index)
      while not self._stopping.is_set():
        with self._timer('unroll'):
          carry, unrolls = self._unroller.unroll(index, carry)
        with self._timer('enqueue'):
          self._enqueue_many(unrolls)
        del unrolls  # The next ones take their memory.
    except Exception as error:
      # Closing the processes or the queue under a working actor ends it this way too, which is not
      # a failure.
      with self._lock:
        if self._stopping.is_set():
          return
        self._stopping.set()
        self.error = error
      self._on_failure()

  def stop(self) -> None:
    """Asks the threads to end.

    Then close queue and processes, which frees the threads that wait, and `join`.
    """
    with self._lock:
      self._stopping.set()

  def join(self, timeout: float = 30.0) -> None:
    """Waits until all threads have ended.

    Raises:
      RuntimeError: if some still run after `timeout` seconds; names them.
    """
    deadline = time.monotonic() + timeout
    for thread in self._threads:
      if thread.ident is not None:
        thread.join(max(0.0, deadline - time.monotonic()))
    if running := self.running():
      raise RuntimeError(
        f'Still running {timeout:.0f} s after they were stopped: {", ".join(running)}.'
      )

  def running(self) -> list[str]:
    """Returns the names of the threads that have not ended."""
    return [thread.name for thread in self._threads if thread.is_alive()]
