"""The machine: the cores and files that this process may use, its processor, and the thread pools
of TensorFlow.

TensorFlow is loaded only by the functions that configure it.
"""

import contextlib
import math
import os
import re
from collections.abc import Collection, Iterator

from impala_tf.errors import ConfigurationError
from impala_tf.system import quiet

try:
  import resource
except ImportError:  # The system is not a Unix.
  resource = None  # type: ignore[assignment]

_CPU_INFO = '/proc/cpuinfo'
_CGROUP = '/sys/fs/cgroup'
_OWN_CGROUPS = '/proc/self/cgroup'
_MANY_FILES = 65_536


def cores() -> int:
  """Counts the processor cores that this process may use: fewer than the machine has where a
  scheduler or container says so.
  """
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  return max(1, math.ceil(min(cores, _quota())))


def share_of_cores(index: int, count: int) -> list[int]:
  """Returns the numbers of the cores that are the share of one of some processes side by side.

  Each has equally many, within one, and at least one, which is another's, too, where there are more
  processes than cores.

  Args:
    index: of the process, 0 to count - 1.
    count: how many there are.
  """
  if not hasattr(os, 'sched_setaffinity'):
    return []
  numbers = sorted(os.sched_getaffinity(0))[: cores()]
  if count > len(numbers):
    return [numbers[index % len(numbers)]]
  return numbers[index * len(numbers) // count : (index + 1) * len(numbers) // count]


@contextlib.contextmanager
def on_cores(numbers: Collection[int]) -> Iterator[None]:
  """Lets processes that this thread starts within the context use only these cores; all of this
  one's if there are none.

  `cores` says so there, and TensorFlow's thread pools are as large.
  """
  if not numbers:
    yield
    return
  before = os.sched_getaffinity(0)
  os.sched_setaffinity(0, numbers)
  try:
    yield
  finally:
    os.sched_setaffinity(0, before)


def _quota():
  """Returns the processor time that this process may use, in cores; infinity without a limit.

  It is the least of the quotas of its control group and of those around that.
  """
  quotas = [math.inf]
  for folder in _control_groups():
    # Of control groups of version 2 and of version 1.
    for names in (('cpu.max',), ('cpu.cfs_quota_us', 'cpu.cfs_period_us')):
      try:
        words = ' '.join(_read(os.path.join(folder, name)) for name in names).split()
        quota, period = int(words[0]), int(words[1])
      except (OSError, ValueError):  # The file does not exist, or says 'max'.
        continue
      if quota > 0 and period > 0:
        quotas.append(quota / period)

  return min(quotas)


def _control_groups():
  """Yields the folders of this process's control groups that may limit its time, and those around
  them.
  """
  try:
    lines = _read(_OWN_CGROUPS).splitlines()
  except OSError:
    lines = []

  # A line is a number, the controllers, which version 2 leaves empty, and the path of the group. In
  # a container the path may be one outside of it, so that only the root is there.
  for line in [*lines, '0::/', '0:cpu:/']:
    _, _, rest = line.partition(':')
    controllers, _, path = rest.partition(':')
    if controllers and 'cpu' not in controllers.split(','):
      continue
    root = os.path.join(_CGROUP, 'cpu') if controllers else _CGROUP
    parts = [part for part in path.split('/') if part]
    for depth in range(len(parts) + 1):
      yield os.path.join(root, *parts[:depth])


def _read(path):
  with open(path) as file:
    return file.read()


def graphics_cards() -> int:
  """Counts the graphics cards that TensorFlow sees."""
  import tensorflow as tf

  return len(tf.config.list_physical_devices('GPU'))


def allow_many_files() -> None:
  """Lets this process open many files at once, as far as the system allows; the default is often
  1024.
  """
  if resource is None:
    return
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, _MANY_FILES)
  if soft != resource.RLIM_INFINITY and soft < wanted:
    # Some systems have a limit that they do not report.
    with contextlib.suppress(OSError, ValueError):
      resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def has_bfloat16() -> bool:
  """Returns whether oneDNN multiplies in bfloat16 on this processor, by AVX-512 or AVX-NE-CONVERT;
  True where the system does not say.
  """
  try:
    found = re.search(r'^flags\s*:(.*)$', _read(_CPU_INFO), re.MULTILINE)
  except OSError:
    return True
  return not found or bool({'avx512f', 'avx_ne_convert'} & set(found[1].split()))


def local_cpu() -> str:
  """Returns the full name of this process's CPU, which differs in each process of a cluster."""
  import tensorflow as tf

  with tf.init_scope(), tf.device('/CPU:0'):
    return tf.constant(0.0).device


def configure_tensorflow(num_actors: int, num_learners: int = 1) -> None:
  """Sizes TensorFlow's thread pools; call it before all other functions of TensorFlow.

  An actor holds a thread of the inter-op pool while it waits for its environments. With fewer
  threads than that, the learner would wait for actors and the actors for a thread. The intra-op
  pool, which shares out single operations, keeps TensorFlow's size, a thread a core: it lets a
  learner use the cores that actors leave idle.

  Args:
    num_actors: actor threads, or threads of an evaluation.
    num_learners: without a graphics card, as many logical processors are made for them.

  Raises:
    ConfigurationError: if TensorFlow is in use already, with fewer threads.
  """
  quiet.load_tensorflow()
  import tensorflow as tf

  wanted = num_actors + 2 + cores()
  try:
    tf.config.threading.set_inter_op_parallelism_threads(wanted)
  except RuntimeError as error:  # TensorFlow is in use already.
    there = tf.config.threading.get_inter_op_parallelism_threads() or cores()
    if there < wanted:
      raise ConfigurationError(
        f'TensorFlow is in use in this process, with {there} threads, and num_actors={num_actors} '
        f'needs {wanted}. Train before other work with TensorFlow, or with fewer --num_actors.'
      ) from error

  if num_learners > 1 and not tf.config.list_physical_devices('GPU'):
    processor = tf.config.list_physical_devices('CPU')[0]
    tf.config.set_logical_device_configuration(
      processor, [tf.config.LogicalDeviceConfiguration()] * num_learners
    )
