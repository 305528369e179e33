"""Batched A2C: the learner waits for the actors, and they for it, so that what is learned from was
played by the newest policy.

    updates    1         2                1         2
    actor 0    ssss______ssss____         ssss______ssss____
    actor 1    sss_s_____ss_ss___         sss_______sss_____
    learner    ______llll______ll         ____llll______llll
               step by step               unroll by unroll

Time goes to the right; s is a step of an environment, l the learner's work, and _ waiting (Figure 2
of Espeholt et al., 2018).
"""

import concurrent.futures
import dataclasses
from typing import Self

import tensorflow as tf
import tree

from impala_tf.acting import group
from impala_tf.config import Config, ConfigurationError
from impala_tf.environments import suite as suite_lib
from impala_tf.learning import learner as learner_lib
from impala_tf.training import episodes, sources
from impala_tf.transport import replay, unroll_queue


class UnrollSource(sources.Source):
  """Actors play an unroll each; when the slowest is done, the learner takes an update with all.

  With shared inference this is the paper's A2C with dynamic batching.
  """

  def __init__(
    self,
    suite: suite_lib.Suite,
    config: Config,
    learner: learner_lib.Learner,
    seed: list[int],
  ):
    """Describes the parts, as `sources.Source`."""
    super().__init__(suite, config, learner, seed)
    self._fresh = config.fresh_per_batch
    self._batches = replay.make(self.actors.specs.unroll, config, seed)
    self._carries = [None] * len(self.actors.levels)
    self._playing: list[concurrent.futures.Future] = []

  @classmethod
  def check(cls, suite: suite_lib.Suite, config: Config) -> None:
    """Checks the configuration.

    Raises:
      ConfigurationError: if there are not as many environments as new unrolls in a batch, or fewer
        than levels.
    """
    environments, fresh = config.num_actors * config.envs_per_actor, config.fresh_per_batch
    if environments != fresh:
      raise ConfigurationError(
        f'architecture={config.architecture} learns from one unroll of each environment at a time, '
        'so there must be as many environments as new unrolls in a batch: '
        f'{config.num_actors} actors of {config.envs_per_actor} are {environments}, the batch has '
        f'{fresh}. Change --num_actors, --envs_per_actor or --batch_size.'
      )
    if environments < (levels := len(suite.levels(config))):
      raise ConfigurationError(
        f'architecture={config.architecture} learns from one unroll of each environment at a time, '
        f'and each of the {levels} levels of {config.level_name} needs an environment of its own: '
        f'batches of {fresh} new unrolls are too small. Change --batch_size.'
      )
    super().check(suite, config)

  def __enter__(self) -> Self:
    self.actors.start()
    self._pool = concurrent.futures.ThreadPoolExecutor(
      len(self._carries), thread_name_prefix='actor'
    )
    self._join = tf.function(self._build_join, autograph=False)
    return self

  def _build_join(self, unrolls):
    together = tree.map_structure(lambda *parts: tf.concat(parts, 0), *unrolls)
    return unroll_queue.as_batch(together)

  def _get(self, timeout):
    if not self._playing:
      self._playing = [self._pool.submit(self._play, i) for i in range(len(self._carries))]
    done, not_done = concurrent.futures.wait(
      self._playing, timeout, concurrent.futures.FIRST_EXCEPTION
    )
    failures = [error for future in done if isinstance(error := future.exception(), Exception)]
    if failures:
      self.actors.failure = failures[0]
    if failures or not_done:
      return None

    unrolls = [future.result() for future in self._playing]
    self._playing = []
    batch = self._batches.complete(self._join(unrolls))
    return sources.Batch(batch, episodes.episodes_in(batch, self._fresh))

  def _play(self, index):
    unroller = self.actors.unroller
    with self.actors.timer('unroll'):
      if self._carries[index] is None:
        self._carries[index] = unroller.initial(index)
      self._carries[index], unrolls = unroller.unroll(index, self._carries[index])
    return self._batches.unstack_frames(unrolls)

  def __exit__(self, *exception) -> None:
    self.actors.close()
    self._pool.shutdown()


class StepSource(UnrollSource):
  """All environments step together, and one call of the network chooses the actions of all.

  Each step waits for the slowest environment.
  """

  def _make_actors(self, suite, config, seed):
    # One actor, with the processes of all.
    together = dataclasses.replace(
      config,
      num_actors=1,
      envs_per_actor=config.num_actors * config.envs_per_actor,
      processes_per_actor=config.num_actors * config.processes_per_actor,
    )
    return group.ActorGroup(suite, together, self._learner.agent, self.weights, seed)

  @classmethod
  def check(cls, suite: suite_lib.Suite, config: Config) -> None:
    """Checks the configuration.

    Raises:
      ConfigurationError: as `UnrollSource`, or if inference is to be shared.
    """
    super().check(suite, config)
    group.check_local_inference(config)
