"""The actors of one process: the same on one machine and in an actor's process of a cluster.

A thread that waits for the queue ends once the queue is closed, so that comes before `close`:

    actors = ActorGroup(suite, config, agent, weights, seed)
    actors.start()
    actors.start_threads(queue.enqueue_many, on_failure=queue.close)
    ...
    actors.stop()       # the threads are asked to end
    queue.close()       # those that wait for the queue are freed
    actors.close()
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from absl import logging

from impala_tf import errors
from impala_tf.acting import actors, inference, specs
from impala_tf.acting import weights as weights_lib
from impala_tf.agent import agents
from impala_tf.config import Config, ConfigurationError, sizes
from impala_tf.environments import operations, process_group
from impala_tf.environments import suite as suite_lib
from impala_tf.system import timing


class ActorError(errors.UserError, RuntimeError):
  """An actor failed or its process keeps dying."""


class ActorGroup:
  """Environments dealt out over the levels, the policy for them, and the threads that act.

  Attributes:
    specs: `specs.Specs`.
    levels: for each actor the indices of the levels of its environments.
    environments: `process_group.EnvironmentProcesses`.
    policy: where actions come from, see `inference`.
    unroller: `actors.Unroller`, after `start`.
    threads: `actors.ActorThreads`, none of them before `start_threads`.
    timer: gets the stages 'environment' (a part of 'unroll'), 'unroll' and 'enqueue'.
    failure: the exception that ended an actor, or None.
  """

  connected = None  # The actors are not other processes.

  def __init__(
    self,
    suite: suite_lib.Suite,
    config: Config,
    agent: agents.Agent,
    weights: weights_lib.PublishedWeights,
    seed: list[int],
    *,
    first: int = 0,
    shared_inference: bool = False,
  ):
    """Describes the parts.

    Args:
      suite: of the levels.
      config: of the run.
      agent: whose variables exist.
      weights: the agent's, which the actors pull.
      seed: differs between the starts of a run, and between processes.
      first: number of the first actor among those of all processes. The levels take turns, one
        environment after the other, so that an actor's unrolls are of as many levels as there can
        be, and so are a batch's.
      shared_inference: whether actors wait for one call of the network, see `inference`.
    """
    self._config = config
    self.specs = specs.Specs(suite, config, agent)
    self.timer = timing.StageTimer()
    names = suite.levels(config)
    self.levels = deal(len(names), config.num_actors, config.envs_per_actor, first)
    self.environments = process_group.make_environments(
      suite,
      config,
      [[names[i] for i in levels] for levels in self.levels],
      False,
      seed,
      self.timer,
      config.processes_per_actor,
    )
    self.policy = self._make_policy(agent, weights, shared_inference)
    self.threads = actors.ActorThreads.none()
    self.failure: Exception | None = None

  def _make_policy(self, agent, weights, shared_inference):
    config = self._config
    if not shared_inference:
      return inference.LocalInference(agent, weights)
    return inference.BatchedInference(
      agent,
      weights,
      [
        tf.TensorSpec([], tf.int32),
        operations.seen(self.specs.step_output),
        self.specs.agent_state,
      ],
      # A batch with the rows of all actors is a full one: it is computed at once, not after the
      # time-out. The rows of an actor stay together, so the maximum is a multiple of them.
      maximum_batch_size=config.envs_per_actor
      * max(1, min(config.num_actors, config.inference_maximum_batch // config.envs_per_actor)),
      timeout=config.inference_timeout_ms / 1000,
    )

  def start(self) -> None:
    """Starts the environments and traces what the threads run.

    Raises:
      ProcessError: if an environment can't be made.
    """
    self.environments.start()
    try:
      self.unroller = self._make_unroller()
    except BaseException:
      self.environments.close()
      raise

  def _make_unroller(self):
    return actors.Unroller(self.policy, self.environments, self.levels, self._config.unroll_length)

  def start_threads(
    self,
    enqueue_many: Callable[[Any], None],
    on_failure: Callable[[], None],
    unroller: Any = None,
  ) -> None:
    """Starts to act.

    Args:
      enqueue_many: takes what one actor made of an unroll, such as `structs.Unroll` of [n, ...].
      on_failure: called by the first thread that fails, once `failure` is set.
      unroller: what the threads run in place of `self.unroller`.
    """

    def failed():
      self.failure = self.threads.error
      on_failure()

    self.failure = None
    self.threads = actors.ActorThreads(
      unroller or self.unroller,
      self._config.num_actors,
      enqueue_many,
      self.timer,
      on_failure=failed,
    )
    self.threads.start()

  @property
  def error(self) -> Exception | None:
    """The exception that ended the acting, or None."""
    # What reached the actor tells less than what the environments' process said.
    return self.failure and (self.environments.error or self.failure)

  @property
  def restarts(self) -> int:
    """How often processes of environments were restarted."""
    return self.environments.restarts

  def statistics(self) -> dict[str, float]:
    """Returns the counters of the environments by name."""
    return self.environments.statistics()

  def shares(self) -> Callable[[], dict[str, float]]:
    """Returns a function: shares of the actors' time since its last call, by stage.

    The stages are those of `stage_shares`.
    """
    return stage_shares(self.timer)

  def poll(self) -> None:
    """Looks for changes among the actors; there are none among threads."""

  def describe_wait(self) -> str:
    """Says what is known of the actors, for somebody who waits for their unrolls."""
    return (
      f'Actors are at work; an unroll of {self._config.unroll_length} steps may take them that '
      'long.'
    )

  def stop(self) -> None:
    """Asks the threads to end. They do so once they are freed by the end of what they wait for."""
    self.threads.stop()

  def close(self, timeout: float = 30.0) -> None:
    """Ends the environments, and waits for the threads.

    Raises:
      RuntimeError: if some threads still run after `timeout` seconds.
    """
    self.stop()
    self.environments.close()
    self.threads.join(timeout)


def deal(num_levels: int, num_actors: int, envs_per_actor: int, first: int = 0) -> list[list[int]]:
  """Deals levels out to the environments of actors, the first of which has the number `first`.

  Returns:
    For each actor the indices of the levels of its environments: as many different ones as it has
    environments, if there are so many.
  """
  return [
    [(actor * envs_per_actor + i) % num_levels for i in range(envs_per_actor)]
    for actor in range(first, first + num_actors)
  ]


def stage_shares(timer: timing.StageTimer) -> Callable[[], dict[str, float]]:
  """Splits what `timer.reader` gives, with 'environment' and 'inference' in place of 'unroll'."""
  shares = timer.reader()

  def split():
    stages = shares()
    environment, unroll, queue = (
      stages.get(name, 0.0) for name in ('environment', 'unroll', 'enqueue')
    )
    total = unroll + queue
    if not total:
      return {}
    return {
      'environment': environment / total,
      'inference': (unroll - environment) / total,
      'queue': queue / total,
    }

  return split


def check(suite: suite_lib.Suite, config: Config) -> None:
  """Checks that the actors of one process play all levels, and warns if they do so unevenly.

  Raises:
    ConfigurationError: if a level would never be played.
  """
  levels = len(suite.levels(config))
  environments = config.num_actors * config.envs_per_actor
  if environments < levels:
    raise ConfigurationError(
      f'num_actors={config.num_actors} of envs_per_actor={config.envs_per_actor} are '
      f'{environments} environments, and each of the {levels} levels of {config.level_name} needs '
      'one of its own. Change --num_actors or --envs_per_actor, or leave both out.'
    )

  if environments % levels:
    logging.warning(
      'The %d environments (--num_actors times --envs_per_actor) are not a multiple of the %d '
      'levels of %s: some levels are played more often than others.',
      environments,
      levels,
      config.level_name,
    )

  if config.architecture == 'impala' and (warning := long_lag(config, environments, levels=levels)):
    logging.warning('%s', warning)
  if environments < config.fresh_per_batch:
    logging.warning(
      'A batch of %d new unrolls will hold several in a row of the same environment, as there are '
      'only %d environments. More of them (--num_actors, --envs_per_actor) make batches more '
      'diverse.',
      config.fresh_per_batch,
      environments,
    )


def long_lag(config: Config, environments: int, processes: int = 1, levels: int = 1) -> str:
  """Says what the policy lag will be, and what to change, if it is longer than it should be.

  Args:
    config: of the run.
    environments: of all its actors.
    processes: of actors, among which the environments are.
    levels: how many levels the environments play.

  Returns:
    The empty text if the lag is as it should be.
  """
  most = config.most_environments
  if environments <= most:
    return ''
  lag = sizes.expected_lag(environments, config.fresh_per_batch, config.queue_capacity)
  remedy = ''
  if processes > 1:
    remedy = (
      f'fewer actor processes than {processes}, or at most {max(1, most // processes)} '
      'environments in each (--num_actors times --envs_per_actor), or '
    )
  elif levels <= most:
    remedy = f'at most {most} environments (--num_actors times --envs_per_actor), or '

  return (
    f'The policy lag will be about {lag:.0f} updates: {environments} environments for '
    f'{config.fresh_per_batch} new unrolls in each update. It should be at most about '
    f"{sizes.MOST_LAG:.0f}, the paper's: what older policies played teaches less. Have {remedy}a "
    'larger --batch_size.'
  )


def check_local_inference(config: Config) -> None:
  """Raises `config.ConfigurationError` if inference is to be shared where no actors could."""
  if config.inference == 'shared':
    raise ConfigurationError(
      f'architecture={config.architecture} has no actors that could share inference: leave out '
      '--inference=shared.'
    )
