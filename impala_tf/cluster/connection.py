"""Learner and actors as processes of several machines, joined by TensorFlow's own runtime.

Queue, published weights and heartbeats live on the learner's machine, where all find them by name:

    queue = UnrollQueue(spec, capacity, device=LEARNER_DEVICE, shared_name=QUEUE)

so that a local and a remote actor run the same code. The runtime has no authentication and runs
what it is sent; see `warn_if_exposed`.

    connect(role)                     # before anything else of TensorFlow; also to connect again
"""

import contextlib
import dataclasses
import os
import random
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tree
from absl import logging
from tensorflow.python.eager import context as eager_context

import impala_tf
from impala_tf import errors, structs
from impala_tf.agent import agents
from impala_tf.cluster import heartbeats, roles, sockets
from impala_tf.config import Config, ConfigurationError, options
from impala_tf.environments import suite as suite_lib
from impala_tf.environments import suites
from impala_tf.system import machine

QUEUE, WEIGHTS = 'unrolls', 'weights'
_THREADS_OF_ACTOR = 2  # of the learner's, for each actor process
_PORTS_TO_TRY = 5  # Another process may open one between its draw and its use.
_FIRST_PAUSE, _LAST_PAUSE = 0.5, 15.0  # seconds between two attempts to connect

# How TensorFlow reports that the other side is gone, or that it is there again and knows nothing of
# us.
CONNECTION_ERRORS = (
  tf.errors.UnavailableError,
  tf.errors.AbortedError,
  tf.errors.NotFoundError,
  tf.errors.FailedPreconditionError,
  tf.errors.CancelledError,
  tf.errors.InternalError,
  tf.errors.InvalidArgumentError,
  tf.errors.DeadlineExceededError,
  tf.errors.UnknownError,
)


class _PortTakenError(ConfigurationError):
  """The port of this process is another one's."""


def connect(role: roles.Role) -> roles.Role:
  """Makes this process a part of the cluster: the learner opens its port, an actor also connects.

  An actor may call it again to connect again, while no operation of TensorFlow runs. It waits for a
  learner that isn't there.

  Returns:
    The role with the port, which is drawn if the role has none.

  Raises:
    ConfigurationError: if the port can't be opened.
    tf.errors.OpError: if the learner was lost meanwhile.
  """
  left = 1 if role.has_port else _PORTS_TO_TRY
  while True:
    with_port, left = role.with_port(), left - 1
    try:
      _connect(with_port)
      return with_port
    except _PortTakenError:
      if not left:
        raise


def _connect(role):
  # Addresses of a cluster are nothing for a proxy, which other libraries of this process may need
  # for the web. To gRPC an empty one says so.
  os.environ.setdefault('grpc_proxy', '')
  jobs: dict[str, Any] = {'learner': [role.learner]}
  if role.job == 'learner':
    machine.allow_many_files()  # Each actor's process takes two.
  else:
    jobs['actor'] = {role.task: role.address}

  # TensorFlow would write about the configuration of its session.
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.WARNING)
  try:
    # The learner makes a pool of as many threads for each actor, and of what it runs for them
    # nothing waits. With those of actors on many cores a thousand of them would be too many for it.
    with _announced_threads(_THREADS_OF_ACTOR if role.job == 'actor' else None):
      tf.config.experimental_connect_to_cluster(
        tf.train.ClusterSpec(jobs), role.job, role.task, protocol='grpc'
      )
    tf.config.list_logical_devices()  # Until now nothing has happened, unless it was connected.
  except tf.errors.UnknownError as error:
    if 'Could not start gRPC server' not in error.message:
      raise
    flag = 'learner_address' if role.job == 'learner' else 'actor_address'
    raise _PortTakenError(
      f'The port of {role.address} is taken, perhaps by another {role.job}. Give another one by '
      f'--{flag}.'
    ) from error
  finally:
    logging.set_verbosity(verbosity)

  sockets.set_keepalive()


@contextlib.contextmanager
def _announced_threads(count: int | None) -> Iterator[None]:
  """Lets TensorFlow announce another size of its inter-op pool than it has, unless it is None."""
  context = eager_context.context()
  own = context._inter_op_parallelism_threads
  if count is not None:
    context._inter_op_parallelism_threads = count
  try:
    yield
  finally:
    context._inter_op_parallelism_threads = own


def warn_if_exposed(role: roles.Role) -> None:
  """Closes the port of this process to what is not sent to its address, and warns of who remains.

  Users of this machine do, where the address is for this machine alone: of them nothing is said.
  """
  host, port = roles.host_and_port(role.address)
  is_restricted = sockets.restrict(port, host)
  if not (role.is_local and is_restricted):
    logging.warning(
      'Port %d is open to everyone who can reach %s, and everyone who connects can run anything '
      'here: TensorFlow asks for no password and encrypts nothing. Use it in private networks '
      'only, behind a firewall; docs/cluster.md says how.',
      port,
      f'this machine at {host}' if is_restricted else 'this machine at any of its addresses',
    )


class LearnerLostError(errors.UserError, RuntimeError):
  """The learner has not answered for too long."""


class Connection:
  """An actor's connection to the learner, and the exchange of heartbeats over it."""

  def __init__(
    self, role: roles.Role, give_up_after: float, clock: Callable[[], float] = time.monotonic
  ):
    """Describes it.

    Args:
      role: of this actor.
      give_up_after: seconds to wait for a learner.
      clock: gives seconds.
    """
    self._role = role
    self._give_up_after = give_up_after
    self._clock = clock
    self._board = heartbeats.Heartbeats()
    self._process = secrets.token_hex(4)
    self._beat = 0
    self._is_doubled = False  # Whether another process has the task, too.
    self._is_connected = False
    self._was_connected = False

  def connect(self, stop: Any) -> heartbeats.LearnerHeartbeat | None:
    """Waits until the learner is there and ready, connecting as often as it takes.

    Args:
      stop: becomes true once the waiting is to end.

    Returns:
      The learner's heartbeat; None if `stop` came first.

    Raises:
      LearnerLostError: if no learner answered in time.
      ConfigurationError: if the port is taken.
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
        what = 'stopped' if learner else 'gone'
        print(f'The learner at {self._role.learner} has {what}. Waiting for it.', flush=True)
      self.check_silence(self._clock() - began)
      # Not all at once, when a thousand actors have lost the same learner.
      wait(pause * random.uniform(0.5, 1.0), stop)
      pause = min(2 * pause, _LAST_PAUSE)

    return None

  @property
  def address(self) -> str:
    """'host:port' at which the learner finds this actor."""
    return self._role.address

  def check_silence(self, seconds: float) -> None:
    """Raises LearnerLostError if so many seconds without an answer of the learner are too many."""
    if seconds > self._give_up_after:
      raise LearnerLostError(
        f'No answer of a learner at {self._role.learner} for {seconds:.0f} s. Start it, or correct '
        '--learner_address; --give_up_after says how long to wait.'
      )

  def _attempt(self):
    """Returns the learner's heartbeat, None if it can't be had now."""
    if not self._is_connected:
      # TensorFlow would wait for ever, and deaf to signals, for a learner that isn't there.
      try:
        socket.create_connection(roles.host_and_port(self._role.learner), timeout=5).close()
      except OSError:
        return None

    try:
      if not self._is_connected:
        self._role = connect(self._role)
        if not self._was_connected:
          warn_if_exposed(self._role)
        self._is_connected = self._was_connected = True
      return self.exchange()
    except CONNECTION_ERRORS:
      self._is_connected = False
      return None

  def exchange(self, **fields: Any) -> heartbeats.LearnerHeartbeat:
    """Sends the fields of a `heartbeats.ActorHeartbeat`, and returns the learner's heartbeat.

    Raises:
      tf.errors.OpError: one of `CONNECTION_ERRORS` if the learner is lost.
    """
    self._beat += 1
    heartbeat = heartbeats.ActorHeartbeat(beat=self._beat, process=self._process, **fields)
    learner, before = self._board.exchange(self._role.task, heartbeat)
    # Not at its first, which replaces that of an earlier start.
    if before not in ('', self._process) and self._beat > 1 and not self._is_doubled:
      self._is_doubled = True
      logging.warning(
        'Another actor process has --task=%d, too: both play the same levels, and their '
        'environments are counted once. Give each a task of its own.',
        self._role.task,
      )
    return learner

  def abandon(self) -> None:
    """Gives the connection up, so that `connect` makes another one."""
    self._is_connected = False

  def leave(self, refused: str = '') -> None:
    """Informs the learner, if it is there, that this actor ends; `refused` says why it refuses."""
    if self._is_connected:
      with contextlib.suppress(*CONNECTION_ERRORS):
        self.exchange(left=True, refused=refused)


def wait(seconds: float, stop: Any) -> None:
  """Waits for some seconds, or until `stop` is true."""
  deadline = time.monotonic() + seconds
  while not stop and time.monotonic() < deadline:
    time.sleep(min(0.2, seconds))


def signature(
  suite: suite_lib.Suite, config: Config, agent: agents.Agent, unroll_spec: structs.Unroll
) -> dict[str, str]:
  """Returns what learner and actors must have in common: all that shapes unrolls and weights.

  The fields of the configuration that don't change what is learned are not among it.

  Raises:
    ConfigurationError: if the agent has variables that are not trained, of which actors would keep
      other values.
  """
  trained = {id(variable) for variable in agent.trainable_variables}
  others = [v.name.removesuffix(':0') for v in agent.variables if id(v) not in trained]
  if others:
    raise ConfigurationError(
      f'Actors of a cluster get the variables that are trained, and this agent has others: '
      f'{errors.listed(others, 5)}. Make constants of them (tf.constant), or train on one machine.'
    )
  return {
    **{name: str(getattr(config, name)) for name in config.learning_fields()},
    'levels': ' '.join(suite.levels(config)),
    'weights': ' '.join(f'{v.name.removesuffix(":0")}{v.shape}' for v in agent.trainable_variables),
    'unroll': ' '.join(f'{spec.dtype.name}{spec.shape}' for spec in tree.flatten(unroll_spec)),
    'tensorflow': tf.__version__,
    'impala_tf': impala_tf.__version__,
  }


def settings(signature: dict[str, str]) -> dict[str, Any]:
  """Returns the fields of the configuration that are in a learner's signature.

  Raises:
    ConfigurationError: if the suite is not installed here, or a text does not mean a value of its
      field, as of another version.
  """
  suite = suites.find(signature.get('level_name', ''))
  fields = {field.name: field for field in dataclasses.fields(suite.config_class)}
  return {
    name: options.parse(field, signature[name])
    for name, field in fields.items()
    if name in signature and not field.metadata['runtime']
  }


def differing(theirs: dict[str, str], ours: dict[str, str]) -> list[str]:
  """Returns the names by which two signatures differ."""
  return [name for name in dict.fromkeys([*ours, *theirs]) if theirs.get(name) != ours.get(name)]
