"""Learner and actors as processes of several machines, joined by TensorFlow's own runtime.

Queue, published weights and heartbeat_board live on the learner's machine, where all find them by
name:

    queue = UnrollQueue(spec, capacity, device=LEARNER_DEVICE, shared_name=QUEUE)

so that a local and a remote actor run the same code. The runtime has no authentication and runs
what it is sent; see `warn_if_exposed`.

    connect(role)                     # before anything else of TensorFlow; also to connect anew
    heartbeat_board = HeartbeatBoard()
    heartbeat_board.post(LearnerHeartbeat(...))                            # the learner
    learner = heartbeat_board.exchange(role.task, ActorHeartbeat(...))     # an actor, now and then
"""

import dataclasses
import json

import tensorflow as tf
import tree
from absl import logging

import impala_tf
from impala_tf import config as config_lib
from impala_tf.cluster import roles, sockets
from impala_tf.config import ConfigurationError

LEARNER_DEVICE = '/job:learner/replica:0/task:0/device:CPU:0'
QUEUE, WEIGHTS, _BOARD = 'unrolls', 'weights', 'heartbeat_board'
_LEARNER = -1  # the key of the learner's notice; those of actors are their tasks

# How TensorFlow tells that the other side is gone, or that it is there again and knows nothing of
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


def connect(role):
  """Makes this process a part of the cluster: the learner opens its port, an actor also connects to
  the learner.

  An actor may call it again to connect anew, while no operation of TensorFlow runs. It waits for a
  learner that isn't there.

  Args:
    role: `roles.Role`.

  Raises:
    ConfigurationError: if the port can't be opened.
    tf.errors.OpError: if the learner was lost meanwhile.
  """
  jobs = {'learner': [role.learner]}
  if role.job == 'actor':
    jobs['actor'] = {role.task: role.address}
  # It goes on about its session's configuration.
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.WARNING)
  try:
    tf.config.experimental_connect_to_cluster(
      tf.train.ClusterSpec(jobs), role.job, role.task, protocol='grpc'
    )
    tf.config.list_logical_devices()  # Until now nothing has happened.
  except tf.errors.UnknownError as error:
    if 'Could not start gRPC server' not in error.message:
      raise
    flag = 'learner_address' if role.job == 'learner' else 'actor_address'
    raise ConfigurationError(
      f'The port of {role.address} is taken, perhaps by another {role.job}. Give another one by --{flag}.'
    ) from error
  finally:
    logging.set_verbosity(verbosity)
  sockets.set_keepalive()


def warn_if_exposed(role):
  """Closes the port of this process to other machines if its address allows that, and otherwise
  warns of what it means.
  """
  _, port = roles.host_and_port(role.address)
  if not (role.is_local and sockets.restrict_to_loopback(port)):
    logging.warning(
      'Port %d is open to everyone who can reach this machine, and whoever connects can run anything here: TensorFlow asks for '
      'no password and encrypts nothing. Use it in private networks only, behind a firewall; the README says how.',
      port,
    )


@dataclasses.dataclass(frozen=True)
class ActorHeartbeat:
  """What an actor's process tells of itself.

  beat: int, how many notices it wrote before; its life sign.
  levels: list of int, the indices of the levels that it plays.
  unrolls: int, sent so far.
  restarts: int, of its processes of environments.
  statistics: dict of counters of its environments.
  shares: dict, how it spent its time since the notice before, by stage.
  left: whether it has ended.
  refused: why the learner's settings are not its own, the empty text if they are.
  """

  beat: int = 0
  levels: list = dataclasses.field(default_factory=list)
  unrolls: int = 0
  restarts: int = 0
  statistics: dict = dataclasses.field(default_factory=dict)
  shares: dict = dataclasses.field(default_factory=dict)
  left: bool = False
  refused: str = ''

  def __post_init__(self):
    """Refuses what the learner could not add up."""
    if not all(
      isinstance(n, int | float)
      for n in (*self.levels, *self.statistics.values(), *self.shares.values())
    ):
      raise TypeError(f'Not all numbers: {self}')


@dataclasses.dataclass(frozen=True)
class LearnerHeartbeat:
  """What the learner tells.

  state: 'running', 'stopped' (it will be back) or 'finished' (it will not); empty as long as it has
    told nothing.
  starts: int, how often its run was started.
  queue_capacity: int, of its queue; whoever asks for it by another would be refused.
  terms: dict, see `terms`.
  """

  state: str = ''
  starts: int = 0
  queue_capacity: int = 0
  terms: dict = dataclasses.field(default_factory=dict)


class HeartbeatBoard:
  """A table on the learner's machine in which each process keeps one notice: JSON, of which nothing
  is executed.
  """

  @staticmethod
  def _table():
    # Made anew in each function: an object made eagerly would destroy the shared table when it is
    # collected.
    return tf.raw_ops.MutableHashTableV2(
      key_dtype=tf.int64, value_dtype=tf.string, shared_name=_BOARD
    )

  @tf.function(
    input_signature=[tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.string)], autograph=False
  )
  def _exchange(self, key, notice):
    with tf.device(LEARNER_DEVICE):
      table = self._table()
      with tf.control_dependencies(
        [tf.raw_ops.LookupTableInsertV2(table_handle=table, keys=key, values=notice)]
      ):
        return tf.raw_ops.LookupTableFindV2(
          table_handle=table, keys=tf.constant(_LEARNER, tf.int64), default_value=''
        )

  @tf.function(input_signature=[], autograph=False)
  def _all(self):
    with tf.device(LEARNER_DEVICE):
      return tf.raw_ops.LookupTableExportV2(
        table_handle=self._table(), Tkeys=tf.int64, Tvalues=tf.string
      )

  def post(self, notice):
    """Replaces the notice of the learner by a `LearnerHeartbeat`."""
    self._exchange(tf.constant(_LEARNER, tf.int64), _text(notice))

  def exchange(self, task, notice):
    """Replaces the notice of an actor.

    Args:
      task: int.
      notice: `ActorHeartbeat`.

    Returns:
      The learner's notice, `LearnerHeartbeat`.

    Raises:
      tf.errors.OpError: one of `CONNECTION_ERRORS` if the learner is lost.
    """
    return (
      _parsed(LearnerHeartbeat, self._exchange(tf.constant(task, tf.int64), _text(notice)).numpy())
      or LearnerHeartbeat()
    )

  def read(self):
    """The notices of the actors, a dict from tasks to `ActorHeartbeat`; without what is none."""
    keys, values = self._all()
    notices = {
      int(key): _parsed(ActorHeartbeat, value)
      for key, value in zip(keys.numpy(), values.numpy(), strict=True)
    }
    return {
      task: notice for task, notice in notices.items() if task != _LEARNER and notice is not None
    }


def _text(notice):
  return tf.constant(json.dumps(dataclasses.asdict(notice)))


def _parsed(type_, text):
  """A notice from its text, None if it is another program's."""
  try:
    values = json.loads(text)
    notice = type_(**values)
  except (TypeError, ValueError):
    return None
  sound = all(
    type(getattr(notice, field.name)) is field.type for field in dataclasses.fields(type_)
  )
  return notice if sound else None


def terms(suite, config, agent, unroll_spec):
  """What learner and actors must have in common, a dict from names to texts: all that shapes
  unrolls and weights.

  Args:
    suite: `suite.Suite`.
    config: `config.Config`. The fields that don't change what is learned may differ.
    agent: a built `agents.Agent`.
    unroll_spec: as `unroll_queue.unroll_spec`.
  """
  return {
    **{name: str(getattr(config, name)) for name in config_lib.lasting_fields()},
    'levels': ' '.join(suite.levels(config)),
    'weights': ' '.join(f'{v.name.removesuffix(":0")}{v.shape}' for v in agent.trainable_variables),
    'unroll': ' '.join(f'{spec.dtype.name}{spec.shape}' for spec in tree.flatten(unroll_spec)),
    'tensorflow': tf.__version__,
    'impala_tf': impala_tf.__version__,
  }


def settings(terms):
  """The hyper-parameters that are among a learner's terms, a dict from fields to values.

  Raises:
    ConfigurationError: if a text means no value of its field, as of another version.
  """
  return {
    name: config_lib.parse(name, terms[name])
    for name in config_lib.lasting_fields()
    if name in terms
  }


def differing_terms(theirs, ours):
  """The names of the terms in which two dicts of them differ, a list."""
  return [name for name in dict.fromkeys([*ours, *theirs]) if theirs.get(name) != ours.get(name)]
