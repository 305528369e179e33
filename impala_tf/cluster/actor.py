"""An actor's process in a cluster: the same actors as on one machine, with queue and weights on the
learner's.

It outlives its learner. When that is lost the threads end, and the process asks for it again and
again. Once it is back they act again. The environments' processes stayed, but begin new episodes.
"""

import contextlib
import math
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import tensorflow as tf
from absl import logging

from impala_tf.acting import group, weights
from impala_tf.acting.group import ActorError
from impala_tf.agent import agents
from impala_tf.cluster import connection, heartbeats, roles, sockets
from impala_tf.cluster.connection import Connection
from impala_tf.cluster.heartbeats import LearnerHeartbeat
from impala_tf.config import Config, ConfigurationError
from impala_tf.environments import suite as suite_lib
from impala_tf.system import signals
from impala_tf.transport import frame_stacks, unroll_queue

_SILENT_SECONDS = 60.0  # after which a learner that doesn't answer is taken for lost
_MAX_FAILURES_IN_A_ROW = 5  # connections without a single unroll
_JOIN_SECONDS = 60.0


def act(
  configure: Callable[[dict[str, str]], tuple[suite_lib.Suite, Config]],
  role: roles.Role,
  give_up_after: float,
) -> int:
  """Acts for the learner until that has finished, or a signal comes.

  Args:
    configure: takes the learner's signature, and returns the suite and the configuration to act
      with. Its fields that decide what is learned must be the learner's.
    role: of this process. Nothing of TensorFlow may have run yet.
    give_up_after: seconds to wait for a learner.

  Returns:
    0, or the exit code for the signal that ended it.

  Raises:
    ConfigurationError: if the learner has other settings, or the port is taken.
    LearnerLostError: if no learner answered for `give_up_after` seconds.
    ProcessError: if an environment can't be made.
    ActorError: if an actor failed or its process keeps dying.
  """
  with signals.Stop() as stop, contextlib.ExitStack() as resources:
    link = Connection(role, give_up_after)
    actor = None
    while not stop:
      learner = link.connect(stop)
      if learner is None or learner.state == 'finished':
        break
      if actor is None:
        suite, config = configure(learner.signature)
        actor = resources.enter_context(ClusterActor(suite, config, role, learner))
      actor.check(learner, link)
      if actor.run(learner, link, stop):
        break
    link.leave()

  return stop.exit_code


class ClusterActor:
  """The actors of this process, and their threads whenever there is a learner.

  The environments live as long as the context.
  """

  def __init__(
    self, suite: suite_lib.Suite, config: Config, role: roles.Role, learner: LearnerHeartbeat
  ):
    """Describes the parts; the connection must be there."""
    # What is random must differ between actors, between their starts, and between starts of the
    # run.
    seed = [config.seed, learner.starts, role.task, secrets.randbits(31)]
    tf.random.set_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    agent = agents.for_suite(suite, config)
    self._weights = weights.SharedCopy(
      agent,
      weights.PublishedWeights(agent, roles.LEARNER_DEVICE, connection.WEIGHTS, version=None),
    )
    self._config = config
    self._role = role
    self._actors = group.ActorGroup(
      suite, config, agent, self._weights, seed, first=role.task * config.num_actors
    )
    unroll_spec = self._actors.specs.unroll
    self._stacks = frame_stacks.FrameStacks(unroll_spec, config.frame_stack)
    self._signature = connection.signature(suite, config, agent, unroll_spec)
    self._shares = self._actors.shares()
    self._is_started = False
    self._unrolls = 0
    self._count_lock = threading.Lock()
    self._failures_in_a_row = 0

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *exception) -> None:
    # One that waits for room in the queue can't be told to leave it; the process must end all the
    # same. The end of the environments frees threads that play, however long their unrolls last.
    with contextlib.suppress(RuntimeError):
      self._actors.close(_JOIN_SECONDS)

  def check(self, learner: LearnerHeartbeat, link: Connection) -> None:
    """Makes sure that the learner's settings are this actor's.

    Raises:
      ConfigurationError: if they are not; names the fields, to the learner, too.
    """
    different = connection.differing(learner.signature, self._signature)
    if different:
      link.leave(refused=', '.join(different))
      rows = '\n'.join(
        f'  {name}: {learner.signature.get(name)} there, {self._signature.get(name)} here'
        for name in different
      )
      raise ConfigurationError(
        f'The learner at {self._role.learner} has other settings than this actor:\n{rows}\nStart '
        'the actor with the flags, and the version, of its learner.'
      )

  def run(self, learner: LearnerHeartbeat, link: Connection, stop: Any) -> bool:
    """Acts until the learner is lost, stops or has finished, or `stop` is true.

    Args:
      learner: its heartbeat.
      link: connected.
      stop: becomes true once the acting is to end.

    Returns:
      Whether the learner has finished. Then, and after `stop`, threads may still run until the
      context ends.

    Raises:
      ActorError: as `act`.
      ProcessError: as `act`.
    """
    if not self._is_started:
      self._actors.start()
      self._is_started = True

    # As the learner has it, which may have been restarted with another capacity.
    self._queue = unroll_queue.UnrollQueue(
      self._stacks.unstacked_spec,
      learner.queue_capacity,
      device=roles.LEARNER_DEVICE,
      shared_name=connection.QUEUE,
      serialized=True,
      sender=self._role.task,
    )
    self._weights.forget()
    sent_before = self._unrolls
    ended = threading.Event()
    self._actors.start_threads(self._enqueue_many, on_failure=ended.set)
    beats = HeartbeatThread(link, self._heartbeat_fields, on_end=ended.set)
    beats.start()
    while not (stop or ended.wait(0.2) or beats.silence() > _SILENT_SECONDS):
      pass

    self._actors.stop()
    beats.stop()
    if beats.error is not None:
      raise ActorError(f'The heartbeat of this actor failed: {beats.error!r}') from beats.error
    has_finished = beats.learner_state == 'finished'

    # One that plays ends with its unroll, which may last for minutes; one that waits for the queue
    # ends with the connection, or waits on, with a learner that is there and does nothing.
    while self._actors.threads.running() and not (stop or has_finished):
      link.check_silence(beats.silence())
      time.sleep(0.2)

    if not (stop or has_finished):
      self._classify_end(self._actors.failure, self._unrolls > sent_before, link, stop)
      if beats.learner_answers and self._actors.failure is not None:
        # Not a lost learner, though the error looked like one: it must be seen if it recurs.
        logging.warning(
          'Acting failed while the learner answered, and begins again; unfinished episodes are '
          'lost. %s',
          str(self._actors.failure).partition('\n')[0],
        )
    return has_finished

  def _enqueue_many(self, unrolls):
    self._queue.enqueue_many(self._stacks.unstack_frames(unrolls))
    with self._count_lock:
      self._unrolls += self._config.envs_per_actor

  def _heartbeat_fields(self):
    """Returns the fields of a `heartbeats.ActorHeartbeat`."""
    counters = self._actors.statistics()
    return {
      'levels': sorted({level for levels in self._actors.levels for level in levels}),
      'environments': self._config.num_actors * self._config.envs_per_actor,
      'unrolls': self._unrolls,
      'restarts': self._actors.restarts,
      'statistics': {name: value for name, value in counters.items() if math.isfinite(value)},
      'shares': self._shares(),
    }

  def _classify_end(self, error, has_sent, link, stop):
    """Tells a lost learner, after which to connect again, from a failed actor, which is raised."""
    if self._actors.environments.error is not None:
      raise ActorError(str(self._actors.environments.error)) from None
    if error is not None and not isinstance(error, connection.CONNECTION_ERRORS):
      raise ActorError(f'An actor failed: {error}') from error
    if has_sent:
      self._failures_in_a_row = 0
      return

    # Some errors of this program's own look as if the connection were to blame. They don't go away
    # by connecting again.
    self._failures_in_a_row += 1
    if self._failures_in_a_row == _MAX_FAILURES_IN_A_ROW:
      raise ActorError(
        f'{_MAX_FAILURES_IN_A_ROW} connections in a row ended before an unroll was sent. The '
        f'learner fetches them from {link.address}: see that it can reach that, or change '
        f'--actor_address. The last error: {error}'
      ) from error

    link.abandon()
    connection.wait(self._failures_in_a_row, stop)


class HeartbeatThread:
  """A thread that reports to the learner that the actor lives, and hears of the learner.

  Attributes:
    learner_state: what the learner last reported, as in `heartbeats.LearnerHeartbeat`.
    learner_answers: whether it was there, and running, when it was asked for the last time.
    error: what ended the thread, if neither the learner nor its loss did; None otherwise.
  """

  def __init__(
    self, link: Connection, fields: Callable[[], dict[str, Any]], on_end: Callable[[], None]
  ):
    """Describes it.

    Args:
      link: to the learner.
      fields: gives the fields of a `heartbeats.ActorHeartbeat`.
      on_end: called once the learner is lost or is not 'running' any more, or at an error.
    """
    self._link = link
    self._fields = fields
    self._on_end = on_end
    self.learner_state = 'running'
    self.learner_answers = False
    self.error: Exception | None = None
    self._last_answer = time.monotonic()
    self._stopping = threading.Event()
    # A daemon, and never waited for: it may hang in a call to a learner that is gone.
    self._thread = threading.Thread(target=self._run, name='heartbeats', daemon=True)

  def start(self) -> None:
    """Begins."""
    self._thread.start()

  def silence(self) -> float:
    """Returns the seconds since the learner last answered."""
    return time.monotonic() - self._last_answer

  def stop(self) -> None:
    """Asks once more how the learner is, and waits a moment for the answer."""
    self._stopping.set()
    self._thread.join(heartbeats.INTERVAL_SECONDS)

  def _run(self):
    try:
      is_last = False
      while True:
        self.learner_state = self._link.exchange(**self._fields()).state
        self._last_answer = time.monotonic()
        if self.learner_state != 'running':
          break
        if is_last:
          self.learner_answers = True
          break
        # Once more when it is to stop: a queue that was closed frees the actors before they hear
        # why.
        is_last = self._stopping.wait(heartbeats.INTERVAL_SECONDS)
        sockets.set_keepalive()
    except connection.CONNECTION_ERRORS:
      pass
    except Exception as error:
      self.error = error
    finally:
      self._on_end()
