"""Where the learner's batches come from.

The paper compares four ways in which actors and learner work together (Figure 2, Table 1). They
share agent, loss and environments, and differ in who waits for whom and who computes gradients:

    impala                 impala.py   actors continue while the learner learns, through a queue
    a2c_sync_step          a2c.py      all environments step together, then the learner learns
    a2c_sync_trajectories  a2c.py      actors play an unroll each, and the learner waits for all
    a3c                    a3c.py      actors compute gradients, with weights that may be old

In a cluster a fifth one, `cluster.learner.ClusterSource`, is fed by other machines.

    with ImpalaSource(suite, config, learner, seed) as source:
      while (batch := source.next_batch(stop)) is not None:
        source.publish(learner.update(batch.unrolls).updates)
"""

import time
from typing import Any, ClassVar, NamedTuple, Self

import tensorflow as tf
from absl import logging

from impala_tf import structs
from impala_tf.acting import group, inference
from impala_tf.acting import weights as weights_lib
from impala_tf.config import Config
from impala_tf.environments import suite as suite_lib
from impala_tf.learning import learner as learner_lib
from impala_tf.training import episodes

STARVED_SECONDS = 60.0  # between two warnings that nothing comes


class Batch(NamedTuple):
  """Input of the learner's next update.

  Attributes:
    unrolls: what `learner.Learner.update` takes.
    episodes: those that ended in it.
  """

  unrolls: structs.Unroll | learner_lib.Gradients
  episodes: list[episodes.Episode]


class Source:
  """Base class of the sources of batches; a context manager, at work while the context lasts.

  Attributes:
    actors: `group.ActorGroup`, or what has the same `error`, `restarts`, `connected`, `statistics`,
      `shares`, `poll` and `describe_wait`.
    weights: where the learner publishes its weights.
    is_over: set when all frames were consumed and are in a checkpoint.
  """

  _place_of_weights: ClassVar[dict[str, Any]] = {}  # Arguments of `weights.PublishedWeights`.

  def __init__(
    self,
    suite: suite_lib.Suite,
    config: Config,
    learner: learner_lib.Learner,
    seed: list[int],
  ):
    """Publishes the learner's weights, and describes the actors.

    Args:
      suite: of the levels.
      config: of the run.
      learner: restored.
      seed: differs between the starts of a run.
    """
    self._learner = learner
    place = {'version': int(learner.updates), **self._place_of_weights}
    self.weights: weights_lib.PublishedWeights
    if config.policy_lag:
      self.weights = weights_lib.LaggingWeights(learner.agent, config.policy_lag, **place)
    else:
      self.weights = weights_lib.PublishedWeights(learner.agent, **place)
    self.actors = self._make_actors(suite, config, seed)
    self.is_over = False

  def _make_actors(self, suite: suite_lib.Suite, config: Config, seed: list[int]) -> Any:
    """Makes `actors`, not started."""
    return group.ActorGroup(
      suite,
      config,
      self._learner.agent,
      self.weights,
      seed,
      shared_inference=inference.is_shared(config),
    )

  @classmethod
  def check(cls, suite: suite_lib.Suite, config: Config) -> None:
    """Raises `config.ConfigurationError` for a configuration that does not go with this source."""
    group.check(suite, config)

  @classmethod
  def announce_end(cls, stop: Any) -> None:
    """Informs actors elsewhere that a run has its frames already; here there are none.

    Args:
      stop: becomes true once this is to end early.
    """

  def __enter__(self) -> Self:
    raise NotImplementedError

  def __exit__(self, *exception) -> None:
    raise NotImplementedError

  def next_batch(self, stop: Any = False) -> Batch | None:
    """Waits for the next batch; returns None once `stop` is true.

    Args:
      stop: becomes true once the waiting is to end, such as `signals.Stop`.

    Raises:
      ActorError: if an actor failed.
    """
    began = last_warning = time.monotonic()
    while not stop:
      batch = self._get(timeout=1.0)
      self.actors.poll()
      if batch is not None:
        return batch
      if self.actors.error is not None:
        frames = int(self._learner.frames)
        raise group.ActorError(
          f'Training stopped at frame {frames:_}: {self.actors.error}'
        ) from None
      now = time.monotonic()
      if now - last_warning >= STARVED_SECONDS:
        last_warning = now
        logging.warning(
          'The learner has waited %d s for a batch. %s', now - began, self.actors.describe_wait()
        )

    return None

  def _get(self, timeout: float) -> Batch | None:
    """Returns the next batch; None if that takes longer than the timeout, or an actor failed."""
    raise NotImplementedError

  def publish(self, updates: tf.Tensor) -> None:
    """Makes the learner's weights, after so many updates, the ones that actors pull next."""
    self.weights.publish(tf.cast(updates, tf.int32))

  def queue_fill(self) -> tuple[int, int] | None:
    """Returns how many unrolls wait for the learner, and how many can; None without a queue."""
    return None
