"""The part of a process in a cluster as flags, for the command that trains.

Once the flags are parsed:

    role = role_flags.role(mode)
"""

import os

from absl import flags

from impala_tf.cli import config_flags
from impala_tf.cluster import roles
from impala_tf.config import ConfigurationError

_JOB_NAME = flags.DEFINE_enum(
  'job_name',
  None,
  roles.JOBS,
  'part of this process in a cluster; left out, and without TF_CONFIG, it does everything itself',
  module_name=config_flags.CLUSTER,
)
_TASK = flags.DEFINE_integer(
  'task',
  None,
  'number of the actor, which no other actor has: 0, 1, 2 and so on',
  module_name=config_flags.CLUSTER,
)
_LEARNER_ADDRESS = flags.DEFINE_string(
  'learner_address',
  None,
  f'host:port of the learner (default: this machine alone, port {roles.DEFAULT_PORT})',
  module_name=config_flags.CLUSTER,
)
_ACTOR_ADDRESS = flags.DEFINE_string(
  'actor_address',
  None,
  'host:port at which the learner finds this actor (default: the way to the learner, any free '
  'port)',
  module_name=config_flags.CLUSTER,
)
_GIVE_UP_AFTER = flags.DEFINE_float(
  'give_up_after',
  1800.0,
  'seconds without a word from the learner after which an actor ends',
  lower_bound=0.0,
  module_name=config_flags.CLUSTER,
)


def role(mode: str) -> roles.Role | None:
  """Returns the role that the flags and TF_CONFIG give to this process, None outside of clusters.

  Args:
    mode: of the command. Only 'train' is for clusters.

  Raises:
    ConfigurationError: if flags do not go together, or what they say makes no sense.
  """
  if _JOB_NAME.present and mode != 'train':
    raise ConfigurationError(f'--mode={mode} is not for a part of a cluster: leave --job_name out.')

  found = roles.resolve(
    _JOB_NAME.value,
    _TASK.value,
    _LEARNER_ADDRESS.value,
    _ACTOR_ADDRESS.value,
    os.environ if mode == 'train' else {},
  )
  if found and found.job == 'learner':
    roles.check_leads_here(found)
  if _GIVE_UP_AFTER.present and not found:
    raise ConfigurationError(
      '--give_up_after is for clusters: say --job_name=learner or --job_name=actor, too.'
    )

  return found


def give_up_after() -> float:
  """Returns the seconds without a word from the learner after which an actor ends."""
  return _GIVE_UP_AFTER.value
