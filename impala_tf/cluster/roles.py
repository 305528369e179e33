"""Which part of a cluster a process plays, and the addresses of the parts. This module imports no
TensorFlow.

    role = roles.resolve('actor', task=3, learner_address='10.0.0.1:8470')

What is not given is taken from the environment variable TF_CONFIG, in the form that TensorFlow's
users know:

    {"cluster": {"learner": ["10.0.0.1:8470"], "actor": ["10.0.0.2:8471", "10.0.0.3:8471"]},
     "task": {"type": "actor", "index": 1}}
"""

import dataclasses
import ipaddress
import json
import os
import socket

from impala_tf.config import ConfigurationError

JOBS = ('learner', 'actor')
DEFAULT_PORT = 8470
# Where queue, published weights and heartbeats live, for all parts.
LEARNER_DEVICE = '/job:learner/replica:0/task:0/device:CPU:0'
_LOOPBACK = '127.0.0.1'


@dataclasses.dataclass(frozen=True)
class Role:
  """A process's part.

  job: 'learner' or 'actor'.
  task: int, the actor's number; 0 for the learner.
  learner: 'host:port' of the learner.
  address: 'host:port' at which the others find this process.
  """

  job: str
  task: int
  learner: str
  address: str

  @property
  def is_local(self):
    """Whether only processes of this machine can reach this one, as far as its address goes."""
    return is_loopback(host_and_port(self.address)[0])


def resolve(job=None, task=None, learner_address=None, actor_address=None, environment=os.environ):
  """The role that flags and TF_CONFIG give to this process; flags go first.

  Args:
    job: 'learner', 'actor' or None.
    task: int, number of the actor, or None.
    learner_address: 'host' or 'host:port', or None.
    actor_address: 'host' or 'host:port' at which the learner finds this actor, or None.
    environment: where TF_CONFIG may be.

  Returns:
    `Role`; None if neither flags nor TF_CONFIG name a job, for a run on one machine.

  Raises:
    ConfigurationError: if something is missing, malformed or senseless.
  """
  config = _tf_config(environment)
  if job is None:
    job = config.job
    if job is None:
      _refuse_without_job(task=task, learner_address=learner_address, actor_address=actor_address)
      return None
  if task is None:
    task = config.task if config.job == job else None
  learner = learner_address or (config.learners or [f'{_LOOPBACK}:{DEFAULT_PORT}'])[0]
  learner = '{}:{}'.format(*host_and_port(learner, DEFAULT_PORT, '--learner_address'))
  if job == 'learner':
    if task not in (None, 0):
      raise ConfigurationError(
        f'--task={task}: there is one learner in a cluster, and its task is 0. Leave --task out.'
      )
    if actor_address:
      raise ConfigurationError(f'--actor_address={actor_address} is for actors. Leave it out.')
    return Role('learner', 0, learner, learner)
  if task is None:
    raise ConfigurationError(
      '--task is missing: number the actors 0, 1, 2 and so on, each with a number of its own.'
    )
  if task < 0:
    raise ConfigurationError(f'--task={task} must be at least 0.')
  given = actor_address or (config.actors[task] if task < len(config.actors) else None)
  own = given or _own_host(learner)
  host, port = host_and_port(own, 0, '--actor_address')
  if is_loopback(host) and not is_loopback(host_and_port(learner)[0]):
    if not given:
      raise ConfigurationError(
        f'The learner, {learner}, is this machine, by a name that leads to {host} here and elsewhere to another address. Give '
        "--learner_address as a number, or --actor_address, this machine's."
      )
    raise ConfigurationError(
      f'--actor_address={own} means this machine to itself, but the learner, {learner}, must reach it. Give an address by '
      'which it can.'
    )
  return Role('actor', task, learner, f'{host}:{port or free_port()}')


@dataclasses.dataclass(frozen=True)
class _Config:
  job: str | None = None
  task: int | None = None
  learners: tuple = ()
  actors: tuple = ()


def _tf_config(environment):
  text = environment.get('TF_CONFIG', '')
  if not text.strip():
    return _Config()
  wanted = 'It should look like {"cluster": {"learner": ["HOST:PORT"], "actor": [...]}, "task": {"type": "actor", "index": 0}}.'
  try:
    config = json.loads(text)
    cluster, task = config.get('cluster', {}), config.get('task', {})
    unknown = sorted(cluster.keys() - set(JOBS))
    job, index = task.get('type'), task.get('index')
    lists = tuple(tuple(map(str, cluster.get(name, ()))) for name in JOBS)
  except (ValueError, AttributeError, TypeError) as error:
    raise ConfigurationError(f'TF_CONFIG is not understood ({error}): {text!r}. {wanted}') from None
  if unknown or job not in (None, *JOBS):
    raise ConfigurationError(
      f'TF_CONFIG names the job {(unknown or [job])[0]!r}; there are {" and ".join(JOBS)}. {wanted}'
    )
  if index is not None and type(index) is not int:
    raise ConfigurationError(
      f'TF_CONFIG has the task index {index!r}, which is no whole number. {wanted}'
    )
  if len(lists[0]) > 1:
    raise ConfigurationError(
      f'TF_CONFIG names {len(lists[0])} learners; a cluster has one. {wanted}'
    )
  return _Config(job, index, *lists)


def _refuse_without_job(**given):
  for name, value in given.items():
    if value is not None:
      raise ConfigurationError(
        f'--{name}={value} is for clusters: say --job_name=learner or --job_name=actor, too.'
      )


def host_and_port(address, default_port=None, flag='address'):
  """('host', port) of 'host:port', or of 'host' where there is a default port.

  Raises:
    ConfigurationError: for anything else.
  """
  host, colon, port = address.rpartition(':')
  if not colon and default_port is not None:
    host, port = address, str(default_port)
  if not host or not port.isdecimal() or not int(port) < 2**16 or host.count(':'):
    raise ConfigurationError(
      f'{flag}={address!r} is no address such as 10.0.0.1:{DEFAULT_PORT} or node7:{DEFAULT_PORT}.'
    )
  return host, int(port)


def is_loopback(host):
  """Whether a host's name or number means this machine to itself."""
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return host == 'localhost'


def _own_host(learner):
  """By which address this machine reaches the learner, which is as a rule how the learner reaches
  it.
  """
  host, port = host_and_port(learner)
  try:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
      probe.connect((host, port))  # sends nothing
      return probe.getsockname()[0]
  except OSError as error:
    raise ConfigurationError(
      f"Can't find the way to the learner, {learner}: {error}. Correct --learner_address, or give --actor_address."
    ) from None


def free_port():
  """A TCP port that nobody uses now."""
  with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
    probe.bind(('', 0))
    return probe.getsockname()[1]
