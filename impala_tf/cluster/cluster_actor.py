"""An actor's process in a cluster: the same actor threads as on one machine, with queue and weights
on the learner's.

It outlives its learner. When that is lost the threads end, and the process asks for it again and
again. Once it is back they act on; the environments' processes stayed, but begin new episodes.
"""

import contextlib
import random
import secrets
import socket
import threading
import time

import numpy as np
import tensorflow as tf

from impala_tf import errors, signals, timing
from impala_tf.acting import actors, inference, weights
from impala_tf.agent import agents
from impala_tf.cluster import connection, roles, sockets
from impala_tf.cluster.cluster_learner import BEAT_SECONDS
from impala_tf.config import ConfigurationError
from impala_tf.environments import process_group
from impala_tf.training import arrangement
from impala_tf.training.arrangement import ActorError
from impala_tf.transport import frame_stacks, unroll_queue

_FIRST_PAUSE, _LAST_PAUSE = 0.5, 15.0  # seconds between two attempts to connect
_SILENT_SECONDS = 60.0  # after which a learner that doesn't answer is taken for lost
_MAX_FAILURES_IN_A_ROW = 5  # connections without a single unroll
_JOIN_SECONDS = 60.0


class LearnerLostError(errors.UserError, RuntimeError):
  """The learner was not heard of for too long."""


def act(configure, role, give_up_after):
  """Acts for the learner until that has finished, or a signal comes.

  Args:
    configure: a function from the learner's terms, see `connection.terms`, to the `suite.Suite` and
      the `config.Config` to act with: the learner's but for fields that don't change what is
      learned.
    role: `roles.Role` of this process. Nothing of TensorFlow may have run yet.
    give_up_after: seconds to wait for a learner.

  Returns:
    0, or the exit code that tells which signal ended it.

  Raises:
    ConfigurationError: if the learner has other settings, or the port is taken.
    LearnerLostError: if no learner answered for `give_up_after` seconds.
    ProcessError: if an environment can't be made.
    ActorError: if an actor failed or its process keeps dying.
  """
  with signals.Stop() as stop, contextlib.ExitStack() as resources:
    link = Link(role, give_up_after)
    acting = None
    while not stop:
      learner = link.connect(stop)
      if learner is None or learner.state == 'finished':
        break
      if acting is None:
        acting = resources.enter_context(Acting(*configure(learner.terms), role, learner))
      acting.check(learner, link)
      if acting.run(learner, link, stop):
        break
    link.leave()
  return stop.exit_code


class Link:
  """The connection to the learner, and the exchange of notices over it."""

  def __init__(self, role, give_up_after, clock=time.monotonic):
    """Describes it; `role` and `give_up_after` are as in `act`, `clock` gives seconds."""
    self._role = role
    self._give_up_after = give_up_after
    self._clock = clock
    self._heartbeat_board = connection.HeartbeatBoard()
    self._beat = 0
    self._is_connected = False
    self._was_connected = False

  def connect(self, stop):
    """Waits until the learner is there and ready, connecting as often as it takes.

    Args:
      stop: whatever is true once the waiting is to end.

    Returns:
      `connection.LearnerHeartbeat`; None if `stop` came first.

    Raises:
      LearnerLostError, ConfigurationError: as `act`.
    """
    began, pause = self._clock(), _FIRST_PAUSE
    is_new = not self._is_connected
    while not stop:
      learner = self._attempt()
      if learner is not None and learner.state in ('running', 'finished'):
        if is_new:
          print(f'Connected to the learner at {self._role.learner}.', flush=True)
        return learner
      if not is_new:
        is_new = True
        print(
          f'The learner at {self._role.learner} has {"stopped" if learner else "gone"}. Waiting for it.',
          flush=True,
        )
      self.check_silence(self._clock() - began)
      # Not all at once, when a thousand actors have lost the same learner.
      wait(pause * random.uniform(0.5, 1.0), stop)
      pause = min(2 * pause, _LAST_PAUSE)
    return None

  def check_silence(self, seconds):
    """Raises LearnerLostError if so many seconds without a word from the learner are too many."""
    if seconds > self._give_up_after:
      raise LearnerLostError(
        f'No word from a learner at {self._role.learner} for {seconds:.0f} s. Start it, or correct --learner_address; '
        '--give_up_after says how long to wait.'
      )

  def _attempt(self):
    """The learner's notice, None if it can't be had now."""
    if not self._is_connected:
      # TensorFlow would wait for ever, and deaf to signals, for a learner that isn't there.
      try:
        socket.create_connection(roles.host_and_port(self._role.learner), timeout=5).close()
      except OSError:
        return None
    try:
      if not self._is_connected:
        connection.connect(self._role)
        if not self._was_connected:
          connection.warn_if_exposed(self._role)
        self._is_connected = self._was_connected = True
      return self.exchange()
    except connection.CONNECTION_ERRORS:
      self._is_connected = False
      return None

  def exchange(self, **told):
    """Tells the fields of a `connection.ActorHeartbeat`, and returns the
    `connection.LearnerHeartbeat`.

    Raises:
      tf.errors.OpError: one of `connection.CONNECTION_ERRORS` if the learner is lost.
    """
    self._beat += 1
    return self._heartbeat_board.exchange(
      self._role.task, connection.ActorHeartbeat(beat=self._beat, **told)
    )

  def lose(self):
    """Takes note that the connection is of no use any more."""
    self._is_connected = False

  def leave(self, refused=''):
    """Takes leave of the learner, if it is there to be told."""
    if self._is_connected:
      with contextlib.suppress(*connection.CONNECTION_ERRORS):
        self.exchange(left=True, refused=refused)


def wait(seconds, stop):
  """Waits for some seconds, or until `stop` is true."""
  deadline = time.monotonic() + seconds
  while not stop and time.monotonic() < deadline:
    time.sleep(min(0.2, seconds))


class Acting:
  """Environments, policy, and actor threads whenever there is a learner; the environments live as
  long as the context.
  """

  def __init__(self, suite, config, role, learner):
    """Describes the parts; the connection must be there.

    Args:
      suite: an `suite.Suite`.
      config: `config.Config`.
      role: as in `act`.
      learner: `connection.LearnerHeartbeat`.
    """
    # Whatever is random must differ between actors, between their starts, and between starts of the
    # run.
    seed = [config.seed, learner.starts, role.task, secrets.randbits(31)]
    tf.random.set_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    self._config = config
    self._role = role
    self._agent = agents.for_suite(suite, config)
    self._specs = arrangement.Specs(suite, config, self._agent)
    self._stacks = frame_stacks.FrameStacks(self._specs.unroll, config.frame_stack)
    self._terms = connection.terms(suite, config, self._agent, self._specs.unroll)
    self._timer = timing.StageTimer()
    names = suite.levels(config)
    first = role.task * config.num_actors
    self._levels = [(first + i) % len(names) for i in range(config.num_actors)]
    self._environments = process_group.make_environments(
      suite,
      config,
      [names[i] for i in self._levels],
      config.envs_per_actor,
      False,
      seed,
      self._timer,
    )
    self._unroller = self._threads = None
    self._unrolls = 0
    self._count_lock = threading.Lock()
    self._failures_in_a_row = 0

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    # It frees threads that play, however long their unrolls last.
    self._environments.close()
    if self._threads is not None:
      # One that waits for room in the queue can't be told to leave it; the process must end all the
      # same.
      with contextlib.suppress(RuntimeError):
        self._threads.join(_JOIN_SECONDS)

  def check(self, learner, link):
    """Makes sure that the learner's settings are this actor's.

    Raises:
      ConfigurationError: if they are not; names the fields, to the learner, too.
    """
    different = connection.differing_terms(learner.terms, self._terms)
    if different:
      link.leave(refused=', '.join(different))
      rows = '\n'.join(
        f'  {name}: {learner.terms.get(name)} there, {self._terms.get(name)} here'
        for name in different
      )
      raise ConfigurationError(
        f'The learner at {self._role.learner} has other settings than this actor:\n{rows}\nStart the actor with the flags, and '
        'the version, of its learner.'
      )

  def run(self, learner, link, stop):
    """Acts until the learner is lost, stops or has finished, or `stop` is true.

    Args:
      learner: its `connection.LearnerHeartbeat`.
      link: `Link`, connected.
      stop: whatever is true once the acting is to end.

    Returns:
      Whether the learner has finished. Then, and after `stop`, threads may still run until the
      context ends.

    Raises:
      ActorError, ProcessError: as `act`.
    """
    if self._unroller is None:
      self._start()
    # As the learner has it, who may have been started anew with another capacity.
    self._queue = unroll_queue.UnrollQueue(
      self._stacks.unstacked_spec,
      learner.queue_capacity,
      device=connection.LEARNER_DEVICE,
      shared_name=connection.QUEUE,
      serialized=True,
    )
    sent_before = self._unrolls
    ended = threading.Event()
    self._threads = actors.ActorThreads(
      self._unroller, self._config.num_actors, self._enqueue_many, self._timer, on_failure=ended.set
    )
    self._threads.start()
    beats = _Beats(link, self._tell, on_end=ended.set)
    beats.start()
    while not (stop or ended.wait(0.2) or beats.silence() > _SILENT_SECONDS):
      pass
    self._threads.stop()
    beats.stop()
    has_finished = beats.learner_state == 'finished'
    # One that plays ends with its unroll, which may last for minutes; one that waits for the queue
    # ends with the connection, or goes on waiting, with a learner that is there and does nothing.
    while self._threads.running() and not (stop or has_finished):
      link.check_silence(beats.silence())
      time.sleep(0.2)
    if not (stop or has_finished):
      self._conclude(self._threads.error, self._unrolls > sent_before, link, stop)
    return has_finished

  def _start(self):
    """Starts the environments and traces what the threads run."""
    self._environments.start()
    published = weights.PublishedWeights(
      self._agent, connection.LEARNER_DEVICE, connection.WEIGHTS, version=None
    )
    policy = inference.LocalInference(self._agent, published)
    self._unroller = actors.Unroller(
      policy,
      self._environments,
      self._levels,
      self._config.envs_per_actor,
      self._config.unroll_length,
    )
    self._shares = arrangement.stage_shares(self._timer)

  def _enqueue_many(self, unrolls):
    self._queue.enqueue_many(self._stacks.unstack_frames(unrolls))
    with self._count_lock:
      self._unrolls += self._config.envs_per_actor

  def _tell(self):
    """What the learner is told of this actor, fields of `connection.ActorHeartbeat`."""
    return {
      'levels': self._levels,
      'unrolls': self._unrolls,
      'restarts': self._environments.restarts,
      'statistics': self._environments.statistics(),
      'shares': self._shares(),
    }

  def _conclude(self, error, has_sent, link, stop):
    """Tells a lost learner from a failed actor."""
    if self._environments.error is not None:
      raise ActorError(str(self._environments.error)) from None
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
        f'{_MAX_FAILURES_IN_A_ROW} connections in a row ended before an unroll was sent. The learner fetches them from '
        f'{self._role.address}: see that it can reach that, or change --actor_address. The last error: {error}'
      ) from error
    link.lose()
    wait(self._failures_in_a_row, stop)


class _Beats:
  """A thread that tells the learner that the actor lives, and hears of the learner.

  learner_state: what the learner last said of itself, as in `connection.LearnerHeartbeat`.
  """

  def __init__(self, link, tell, on_end):
    """Describes it.

    Args:
      link: `Link`.
      tell: gives what to tell, fields of `connection.ActorHeartbeat`.
      on_end: called once the learner is lost or is not 'running' any more.
    """
    self._link = link
    self._tell = tell
    self._on_end = on_end
    self.learner_state = 'running'
    self._last_answer = time.monotonic()
    self._stopping = threading.Event()
    # A daemon, and never waited for: it may hang in a call to a learner that is gone.
    self._thread = threading.Thread(target=self._run, name='beats', daemon=True)

  def start(self):
    """Begins."""
    self._thread.start()

  def silence(self):
    """Seconds since the learner last answered."""
    return time.monotonic() - self._last_answer

  def stop(self):
    """Asks once more how the learner is, and waits a moment for the answer."""
    self._stopping.set()
    self._thread.join(BEAT_SECONDS)

  def _run(self):
    try:
      is_last = False
      while True:
        self.learner_state = self._link.exchange(**self._tell()).state
        self._last_answer = time.monotonic()
        if self.learner_state != 'running' or is_last:
          break
        # Once more when it is to stop: a queue that was closed frees the actors before they hear
        # why.
        is_last = self._stopping.wait(BEAT_SECONDS)
        sockets.set_keepalive()
    except connection.CONNECTION_ERRORS:
      pass
    finally:
      self._on_end()
