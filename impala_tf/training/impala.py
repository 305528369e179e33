"""IMPALA's source of batches: actors continue while the learner learns, through a bounded queue."""

from typing import Any, ClassVar, Self

from impala_tf import structs
from impala_tf.acting import specs
from impala_tf.config import Config
from impala_tf.environments import suite as suite_lib
from impala_tf.learning import learner as learner_lib
from impala_tf.training import episodes, sources
from impala_tf.transport import replay, unroll_queue
from impala_tf.transport.staging import StagingArea


class QueueSource(sources.Source):
  """Base class of sources whose batches come through a queue.

  Attributes:
    batches: what is done to unrolls on their way through the queue, see `replay.make`.
    queue: `unroll_queue.UnrollQueue`.
    staging: `StagingArea` of batches and the episodes that ended in them.
  """

  _over_network = False  # Whether unrolls come from other machines.
  _place_of_queue: ClassVar[dict[str, Any]] = {}  # Arguments of `unroll_queue.UnrollQueue`.

  def __init__(
    self,
    suite: suite_lib.Suite,
    config: Config,
    learner: learner_lib.Learner,
    seed: list[int],
  ):
    """Describes the parts, as `sources.Source`."""
    super().__init__(suite, config, learner, seed)
    unroll = specs.Specs(suite, config, learner.agent).unroll
    self.batches = replay.make(unroll, config, seed, over_network=self._over_network)
    self.queue = unroll_queue.UnrollQueue(
      self.batches.spec, config.queue_capacity, **self._place_of_queue
    )
    fresh = config.fresh_per_batch
    self.staging = StagingArea(
      lambda: self.batches.complete(self._dequeue_batch(fresh)),
      on_host=lambda batch: episodes.episodes_in(batch, fresh),
    )

  def _dequeue_batch(self, size: int) -> structs.Unroll:
    """Waits for the next `size` unrolls; see `unroll_queue.UnrollQueue.dequeue_batch`."""
    return self.queue.dequeue_batch(size)

  def _get(self, timeout):
    staged = self.staging.get(timeout)
    return staged and sources.Batch(*staged)

  def queue_fill(self) -> tuple[int, int]:
    """Returns how many unrolls wait for the learner, and how many can."""
    return int(self.queue.size()), self.queue.capacity


class ImpalaSource(QueueSource):
  """Actor threads of this process, and the queue that they fill."""

  def __enter__(self) -> Self:
    self.actors.start()
    self.actors.start_threads(self._enqueue_many, on_failure=self.queue.close)
    self.staging.start()
    return self

  def _enqueue_many(self, unrolls):
    self.queue.enqueue_many(self.batches.unstack_frames(unrolls))

  def __exit__(self, *exception) -> None:
    self.actors.stop()
    # Its end frees actors that wait for room in it.
    self.queue.close()
    self.actors.close()
    self.staging.close()
