"""The part of a cluster that a process plays, and the addresses of the parts.

    role = roles.resolve('actor', task=3, learner_address='10.0.0.1:8470')

What is not given is taken from the environment variable TF_CONFIG, in the form that TensorFlow's
users know:

    {"cluster": {"learner": ["10.0.0.1:8470"], "actor": ["10.0.0.2:8471", "10.0.0.3:8471"]},
     "task": {"type": "actor", "index": 1}}
"""

import contextlib
import dataclasses
import errno
import ipaddress
import json
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Self

from impala_tf.config import ConfigurationError

JOBS = ('learner', 'actor')
DEFAULT_PORT = 8470
# Where queue, published weights and heartbeats live, for all parts.
LEARNER_DEVICE = '/job:learner/replica:0/task:0/device:CPU:0'
_LOOPBACK = '127.0.0.1'
_HERE_SECONDS = 5.0  # For a connection of this process to itself.


@dataclasses.dataclass(frozen=True)
class Role:
  """A process's part.

  Attributes:
    job: 'learner' or 'actor'.
    task: int, the actor's number; 0 for the learner.
    learner: 'host:port' of the learner.
    address: 'host:port' at which the others find this process; port 0 means any that is free, see
      `with_port`.
  """

  job: str
  task: int
  learner: str
  address: str

  @property
  def has_port(self) -> bool:
    """Whether the address has a port already."""
    return host_and_port(self.address)[1] > 0

  def with_port(self) -> Self:
    """Returns the role with a port that is free now, where it has none.

    It is for the moment before the port is opened: of dozens of processes that start at a time two
    would draw the same.
    """
    if self.has_port:
      return self
    return dataclasses.replace(self, address=f'{host_and_port(self.address)[0]}:{free_port()}')

  @property
  def is_local(self) -> bool:
    """Whether the address is one that only processes of this machine can reach."""
    return is_loopback(host_and_port(self.address)[0])


def resolve(
  job: str | None = None,
  task: int | None = None,
  learner_address: str | None = None,
  actor_address: str | None = None,
  environment: Mapping[str, str] = os.environ,
) -> Role | None:
  """Returns the role that flags and TF_CONFIG give to this process; flags go first.

  Args:
    job: 'learner' or 'actor'.
    task: number of the actor.
    learner_address: 'host' or 'host:port'.
    actor_address: 'host' or 'host:port' at which the learner finds this actor.
    environment: where TF_CONFIG may be.

  Returns:
    None if neither flags nor TF_CONFIG name a job, for a run on one machine.

  Raises:
    ConfigurationError: if something is missing, malformed or senseless.
  """
  config = _tf_config(environment)
  if job is None and config.job is None:
    _refuse_without_job(task=task, learner_address=learner_address, actor_address=actor_address)
    return None

  job = job or config.job
  if task is None and config.job == job:
    task = config.task
  learner = learner_address or (config.learners or [f'{_LOOPBACK}:{DEFAULT_PORT}'])[0]
  learner = '{}:{}'.format(*host_and_port(learner, DEFAULT_PORT, '--learner_address'))
  if job == 'learner':
    return _learner_role(task, learner, actor_address)
  return _actor_role(task, learner, actor_address, config.actors)


def _learner_role(task, learner, actor_address):
  if task not in (None, 0):
    raise ConfigurationError(
      f'--task={task}: there is one learner in a cluster, and its task is 0. Leave --task out.'
    )
  if actor_address:
    raise ConfigurationError(f'--actor_address={actor_address} is for actors. Leave it out.')
  return Role('learner', 0, learner, learner)


def _actor_role(task, learner, actor_address, known_addresses):
  if task is None:
    raise ConfigurationError(
      '--task is missing: number the actors 0, 1, 2 and so on, each with a number of its own.'
    )

  if task < 0:
    raise ConfigurationError(f'--task={task} must be at least 0.')
  if not actor_address and task < len(known_addresses):
    actor_address = known_addresses[task]
  address = actor_address or _own_host(learner)
  host, port = host_and_port(address, 0, '--actor_address')

  if is_loopback(host) and not is_loopback(host_and_port(learner)[0]):
    if not actor_address:
      raise ConfigurationError(
        f'The learner, {learner}, is this machine, by a name that leads to {host} here and '
        'elsewhere to another address. Give --learner_address as a number, or --actor_address, '
        "this machine's."
      )
    raise ConfigurationError(
      f'--actor_address={address} means this machine to itself, but the learner, {learner}, must '
      'reach it. Give an address by which it can.'
    )

  return Role('actor', task, learner, f'{host}:{port}')


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
  wanted = (
    'It should look like {"cluster": {"learner": ["HOST:PORT"], "actor": [...]}, "task": {"type": '
    '"actor", "index": 0}}. If it is meant for another program, unset it.'
  )
  try:
    config = json.loads(text)
    cluster, task = config.get('cluster', {}), config.get('task', {})
    unknown = sorted(cluster.keys() - set(JOBS))
    job, index = task.get('type'), task.get('index')
    lists = tuple(tuple(map(str, cluster.get(name, ()))) for name in JOBS)
  except (ValueError, AttributeError, TypeError, RecursionError) as error:
    raise ConfigurationError(f'TF_CONFIG is not understood ({error}): {text!r}. {wanted}') from None

  if unknown or job not in (None, *JOBS):
    raise ConfigurationError(
      f'TF_CONFIG names the job {(unknown or [job])[0]!r}; there are {" and ".join(JOBS)}. {wanted}'
    )

  if index is not None and type(index) is not int:
    raise ConfigurationError(
      f'TF_CONFIG has the task index {index!r}, which is not a whole number. {wanted}'
    )

  if len(lists[0]) > 1:
    raise ConfigurationError(
      f'TF_CONFIG names {len(lists[0])} learners; a cluster has one. {wanted}'
    )

  return _Config(job, index, *lists)


def _refuse_without_job(**flags):
  for name, value in flags.items():
    if value is not None:
      raise ConfigurationError(
        f'--{name}={value} is for clusters: say --job_name=learner or --job_name=actor, too.'
      )


def host_and_port(
  address: str, default_port: int | None = None, flag: str = 'address'
) -> tuple[str, int]:
  """Splits 'host:port', or 'host' where there is a default port.

  Raises:
    ConfigurationError: for anything else.
  """
  host, colon, port = address.rpartition(':')
  if not colon and default_port is not None:
    host, port = address, str(default_port)
  if not host or not port.isdecimal() or not int(port) < 2**16 or host.count(':'):
    raise ConfigurationError(
      f'{flag}={address!r} is not an address such as 10.0.0.1:{DEFAULT_PORT} or '
      f'node7:{DEFAULT_PORT}.'
    )
  return host, int(port)


def check_leads_here(role: Role) -> None:
  """Refuses an address of a learner that leads to another machine or nowhere: TensorFlow would wait
  there for ever.

  Raises:
    ConfigurationError: names the address.
  """
  host, port = host_and_port(role.address)
  problem = ''
  try:
    with socket.create_server(('', port)) as server:
      server.settimeout(_HERE_SECONDS)
      with socket.create_connection((host, port), _HERE_SECONDS):
        server.accept()[0].close()
  except socket.gaierror as error:
    problem = f'is not known: {error.strerror}'
  except OSError as error:
    # A port that is taken is reported by `connection.connect`.
    if error.errno not in (errno.EADDRINUSE, errno.EACCES):
      problem = f'does not lead to this machine ({error})'

  if problem:
    raise ConfigurationError(
      f'--learner_address={role.address} {problem}. Give an address of this machine by which the '
      'actors can reach it.'
    )


def is_loopback(host: str) -> bool:
  """Returns whether a host's name or number means this machine to itself."""
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return host == 'localhost'


def _own_host(learner):
  """Finds the address by which this machine reaches the learner.

  As a rule the learner reaches it by that, too.
  """
  host, port = host_and_port(learner)
  try:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
      probe.connect((host, port))  # sends nothing
      return probe.getsockname()[0]
  except OSError as error:
    raise ConfigurationError(
      f"Can't find the way to the learner, {learner}: {error}. Correct --learner_address, or give "
      '--actor_address.'
    ) from None


@contextlib.contextmanager
def held_port() -> Iterator[int]:
  """Holds a free TCP port: while the context lasts `free_port` gives it to nobody, and a server of
  the option SO_REUSEADDR, as TensorFlow's, may listen on it.
  """
  with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holder:
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(('', 0))
    yield holder.getsockname()[1]


def free_port() -> int:
  """Returns a TCP port that nobody uses now."""
  with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
    probe.bind(('', 0))
    return probe.getsockname()[1]
