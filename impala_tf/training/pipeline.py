"""IMPALA's arrangement, and the data's way in one place: actor threads, queue, staging area,
learner, published weights.
"""

import tensorflow as tf

from impala_tf.acting import actors
from impala_tf.training import arrangement, metrics
from impala_tf.transport import unroll_queue


class QueueFed:
  """Mixed into an `arrangement.Learning` whose batches come through a queue.

  queue: `unroll_queue.UnrollQueue`.
  staging: `unroll_queue.StagingArea` of batches and their lists of `metrics.Episode`.
  """

  def _make_queue(self, **placement):
    """Describes the parts; `placement` are arguments of the `unroll_queue.UnrollQueue`."""
    self.queue = unroll_queue.UnrollQueue(
      self._batches.spec, self._config.queue_capacity, **placement
    )
    fresh = self._config.fresh_per_batch
    self.staging = unroll_queue.StagingArea(
      lambda: self._batches.complete(self.queue.dequeue_batch(fresh)),
      on_host=lambda batch: metrics.episodes_in(batch, fresh),
    )

  def _update(self, learner):
    with self.learner_timer('wait'):
      staged = self.staging.get(timeout=1.0)
    if staged is None:
      return None
    batch, episodes = staged
    with self.learner_timer('update'):
      update = learner.update(batch)
      self.weights.publish(tf.cast(update.updates, tf.int32))
    return episodes, update

  def queue_fill(self):
    """How many unrolls wait for the learner, and how many can, both int."""
    return int(self.queue.size()), self.queue.capacity


class Pipeline(QueueFed, arrangement.Arrangement):
  """Actors that go on while the learner learns, and what leads from them to it; runs while the
  context lasts.

  actors: `actors.ActorThreads`.
  """

  def __init__(self, suite, config, agent, seed, version=0):
    """As `arrangement.Arrangement`."""
    super().__init__(suite, config, agent, seed, version)
    self._make_queue()

  def _start(self):
    enqueue_many = lambda unrolls: self.queue.enqueue_many(self._batches.unstack_frames(unrolls))
    self.actors = actors.ActorThreads(
      self._unroller,
      self._config.num_actors,
      enqueue_many,
      self.actor_timer,
      on_failure=self.queue.close,
    )
    self.actors.start()
    self.staging.start()

  def _failure_of_actor(self):
    return self.actors.error

  def _stop(self):
    self.actors.stop()
    # Whoever waits for queue or environments is freed by their end.
    self.queue.close()
    self.environments.close()
    self.actors.join()
    self.staging.close()
