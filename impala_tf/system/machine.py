"""The machine: the cores and files that this process may use, its processor, and the thread pools
of TensorFlow.

TensorFlow is loaded only by the functions that configure it.
"""

import contextlib
import math
import os
import re

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
_CORES_VARIABLE = 'IMPALA_TF_CORES'
_CARDS_VARIABLE = 'CUDA_VISIBLE_DEVICES'
_CARDS = '/proc/driver/nvidia/gpus'


def cores() -> int:
  """Counts the processor cores that this process may use: fewer than the machine has where a
  scheduler, a container or the variable IMPALA_TF_CORES says so.

  Raises:
    ConfigurationError: if the variable is not a number of cores.
  """
  text = os.environ.get(_CORES_VARIABLE) or 'inf'
  try:
    given = float(text)
  except ValueError:
    given = math.nan
  if not given >= 1:
    raise ConfigurationError(
      f'{_CORES_VARIABLE}={text} is not a number of cores, 1 or more. Change it, or unset it.'
    )
  return max(1, math.ceil(min(_schedulable_cores(), _quota(), given)))


def _schedulable_cores():
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def environment_of_share(index: int, count: int, cards: int = 1) -> dict[str, str]:
  """Returns the environment variables for one of some runs side by side, by which each has its
  share of the cores, and cards of its own as long as there are any.

  Cores are counted out, not bound: the system moves threads where there is room.

  Args:
    index: of the run, 0 to count - 1.
    count: how many there are.
    cards: graphics cards that each can use.
  """
  if count == 1:
    return {}
  variables = {_CORES_VARIABLE: str(max(1, cores() // count))}
  visible = visible_cards()
  if len(visible) > 1:
    numbers = dict.fromkeys((index * cards + i) % len(visible) for i in range(cards))
    variables[_CARDS_VARIABLE] = ','.join(visible[number] for number in numbers)
  return variables


def visible_cards() -> list[str]:
  """Returns the names of NVIDIA's cards that this process may use, without loading TensorFlow."""
  if _CARDS_VARIABLE in os.environ:
    return [name for name in os.environ[_CARDS_VARIABLE].split(',') if name]
  with contextlib.suppress(OSError):
    return [str(number) for number in range(len(os.listdir(_CARDS)))]
  return []


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
  pool, which shares out single operations, has a thread a core: it lets a learner use the cores
  that actors leave idle.

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
    if cores() < _schedulable_cores():  # Which TensorFlow would count.
      tf.config.threading.set_intra_op_parallelism_threads(cores())
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
