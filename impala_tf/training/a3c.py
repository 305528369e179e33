"""A3C (Mnih et al., 2016): each actor computes gradients on its own unrolls and sends them to the
parameters.

An actor copies the weights, plays an unroll with them, and takes the gradient there, so that it is
always on-policy. By the time the gradient is applied the parameters have had those of other actors:
the lag that is logged is that of gradients, for which V-trace, or any other correction, can do
nothing.
"""

import queue
import threading
from typing import NamedTuple, Self

import tensorflow as tf

from impala_tf import structs
from impala_tf.acting import group
from impala_tf.config import Config, ConfigurationError
from impala_tf.environments import suite as suite_lib
from impala_tf.learning import learner as learner_lib
from impala_tf.training import episodes, sources
from impala_tf.transport import unroll_queue


class _Work(NamedTuple):
  """Message of an actor.

  Attributes:
    gradients: for the learner.
    played: time-major, of which only level and episode information are there.
  """

  gradients: learner_lib.Gradients
  played: structs.Unroll


class A3CSource(sources.Source):
  """Actors with gradients.

  Each update is of the unrolls of one actor, whose next one begins when the update was published.
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
    self._sent: queue.SimpleQueue = queue.SimpleQueue()
    self._applied = threading.Event()  # of the gradients that the learner has
    self._stopping = threading.Event()

  def _make_actors(self, suite, config, seed):
    return group.ActorGroup(suite, config, self._learner.agent, self.weights, seed)

  @classmethod
  def check(cls, suite: suite_lib.Suite, config: Config) -> None:
    """Checks the configuration.

    Raises:
      ConfigurationError: if a batch is not what one actor plays, or something asks for batches of
        others.
    """
    super().check(suite, config)
    group.check_local_inference(config)
    if config.num_learners > 1:
      raise ConfigurationError(
        f'num_learners={config.num_learners}: with architecture=a3c actors compute the gradients. '
        'Leave it out.'
      )

    if config.batch_size != config.envs_per_actor:
      raise ConfigurationError(
        'architecture=a3c takes each update with the unrolls of one actor: '
        f'batch_size={config.batch_size} must be envs_per_actor={config.envs_per_actor}. Change '
        '--batch_size or --envs_per_actor; those of the paper are 1.'
      )

    for name, reason in (
      ('replay_fraction', 'has no batches to replay in'),
      ('policy_lag', 'acts and learns with one copy'),
    ):
      if getattr(config, name):
        raise ConfigurationError(f'architecture=a3c {reason}: --{name} must be left out.')

  def __enter__(self) -> Self:
    self.actors.start()
    try:
      worker = _Worker(self.actors.unroller, self.actors.policy, self._learner)
      self.actors.start_threads(self._send, on_failure=self._stopping.set, unroller=worker)
    except BaseException:
      self.actors.close()
      raise
    return self

  def _send(self, work):
    """Hands in gradients, and waits until they are applied: the next unroll depends on them."""
    applied = threading.Event()
    self._sent.put((work, applied))
    while not applied.wait(0.5) and not self._stopping.is_set():
      pass

  def _get(self, timeout):
    try:
      work, self._applied = self._sent.get(timeout=timeout)
    except queue.Empty:
      return None
    return sources.Batch(work.gradients, episodes.episodes_in(work.played))

  def publish(self, updates: tf.Tensor) -> None:
    """Publishes the weights and frees the actor whose gradients were applied."""
    super().publish(updates)
    self._applied.set()

  def __exit__(self, *exception) -> None:
    self._stopping.set()
    self.actors.close()


class _Worker:
  """Stands for an `actors.Unroller` whose unrolls are gradients."""

  def __init__(self, unroller, policy, learner):
    """Traces the work; see `actors.Unroller` and `learner.Learner`."""
    self.initial = unroller.initial

    def work(index, carry):
      copies, version = policy.begin()
      carry, unrolls = unroller.play(index, carry, copies, version)
      batch = unroll_queue.as_batch(unrolls)
      step_outputs = structs.StepOutput((), (), (), batch.step_outputs.info, ())
      played = structs.Unroll(batch.level, (), (), step_outputs, ())
      return carry, _Work(learner.loss_and_gradients(batch, copies), played)

    signature = [tf.TensorSpec([], tf.int32), unroller.carry_spec]
    self._work = tf.function(work, input_signature=signature, autograph=False)
    self._work.get_concrete_function()

  def unroll(self, index, carry):
    """Plays and learns as `actors.Unroller.unroll`; returns the next `actors.Carry` and `_Work`."""
    return self._work(tf.constant(index, tf.int32), carry)
