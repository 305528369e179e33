"""How commands that start several trainings run each of them: in one process, or as a cluster."""

from typing import Any

from absl import flags

from impala_tf.cluster import roles
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.system import processes, quiet

flags.disclaim_key_flags()  # So that --help shows the flag among those of the command.


def define_flag() -> None:
  """Defines --cluster."""
  flags.DEFINE_string(
    'cluster',
    None,
    'number of actor processes that each training has on this machine, or host:port at which its '
    'learner waits for actors of other machines; left out, each training is one process',
  )


def check(cluster: str | None, at_a_time: int = 1) -> None:
  """Refuses a value of --cluster that makes no sense.

  Args:
    cluster: the value.
    at_a_time: how many trainings there are at the same time.

  Raises:
    ConfigurationError: if it is neither a number nor an address, or several learners would wait at
      the same address.
  """
  if cluster is None:
    return
  if has_one_address(cluster):
    roles.host_and_port(cluster, flag='--cluster')
    if at_a_time > 1:
      raise ConfigurationError(
        f'--cluster={cluster} has room for one learner at a time, not for {at_a_time}. Train one '
        'after the other, or give a number of actor processes on this machine.'
      )
  elif not cluster.strip().isdecimal() or int(cluster) < 1:
    raise ConfigurationError(
      f'--cluster={cluster} is neither a number of actor processes on this machine, such as 4, nor '
      f'an address for learners, such as 10.0.0.1:{roles.DEFAULT_PORT}.'
    )


def check_training(cluster: str | None, given: dict[str, Any]) -> None:
  """Refuses what a training would refuse before it writes anything.

  Args:
    cluster: the value of --cluster.
    given: hyper-parameters of the training, the level among them.

  Raises:
    ConfigurationError: with the remedy.
  """
  suite, config = suites.resolve(**given)
  quiet.load_tensorflow()
  from impala_tf.cluster import learner
  from impala_tf.training import loop

  loop.check(suite, config, None if cluster is None else learner.ClusterSource)


def has_one_address(cluster: str | None) -> bool:
  """Returns whether all trainings have their learners at the same address."""
  return cluster is not None and ':' in cluster


def module(cluster: str | None) -> str:
  """Returns the module that trains with its flags, as for `processes.Child`."""
  if cluster is None:
    return processes.MAIN_MODULE
  if has_one_address(cluster):
    return f'{processes.MAIN_MODULE} --job_name=learner --learner_address={cluster}'
  return f'impala_tf.launch --num_actor_processes={cluster}'
