"""A3C (Mnih et al., 2016): each actor computes gradients on its own unrolls and sends them to the
parameters.

An actor copies the weights, plays an unroll with them, and takes the gradient there, so that it is
always on-policy. By the time the gradient is applied the parameters have had those of other actors:
the lag that is logged is that of gradients, for which V-trace, or any other correction, can do
nothing.
"""

import queue
import threading
from typing import NamedTuple

import tensorflow as tf

from impala_tf import structs
from impala_tf.acting import actors, inference
from impala_tf.config import ConfigurationError
from impala_tf.learning import learner as learner_lib
from impala_tf.training import arrangement, metrics
from impala_tf.transport import unroll_queue


class _Work(NamedTuple):
  """What an actor sends.

  gradients: `learner.Gradients`.
  played: `structs.Unroll`, time-major, of which only level and episode information are there.
  """

  gradients: learner_lib.Gradients
  played: structs.Unroll


class A3C(arrangement.Arrangement):
  """Actors with gradients.

  Each update is of the unrolls of one actor, of which the next begins when it was applied.
  """

  def __init__(self, suite, config, agent, seed, version=0):
    """As `arrangement.Arrangement`."""
    super().__init__(suite, config, agent, seed, version)
    self.actors = None
    self._sent = queue.SimpleQueue()
    self._stopping = threading.Event()

  @classmethod
  def check(cls, config):
    """Raises `config.ConfigurationError` if a batch is not what one actor plays, or something asks
    for batches of others.
    """
    arrangement.check_own_inference(config)
    if config.batch_size != config.envs_per_actor:
      raise ConfigurationError(
        f'architecture=a3c takes each update with the unrolls of one actor: batch_size={config.batch_size} must be '
        f'envs_per_actor={config.envs_per_actor}. Change --batch_size or --envs_per_actor; those of the paper are 1.'
      )
    for name, reason in (
      ('replay_fraction', 'has no batches to replay in'),
      ('policy_lag', 'acts and learns with one copy'),
    ):
      if getattr(config, name):
        raise ConfigurationError(f'architecture=a3c {reason}: --{name} must be left out.')

  def _make_policy(self):
    return inference.LocalInference(self._agent, self.weights)

  def _update(self, learner):
    if self.actors is None:
      # Not earlier, as their work is traced with the learner's loss.
      worker = _Worker(self._unroller, self.policy, learner)
      self.actors = actors.ActorThreads(
        worker, self._config.num_actors, self._send, self.actor_timer, on_failure=self._stopping.set
      )
      self.actors.start()
    with self.learner_timer('wait'):
      try:
        work, applied = self._sent.get(timeout=1.0)
      except queue.Empty:
        return None
    with self.learner_timer('update'):
      update = learner.update(work.gradients)
      self.weights.publish(tf.cast(update.updates, tf.int32))
    applied.set()
    return metrics.episodes_in(work.played), update

  def _send(self, work):
    """Hands in gradients, and waits until they were applied: an actor's next unroll is to know of
    them.
    """
    applied = threading.Event()
    self._sent.put((work, applied))
    while not applied.wait(0.5) and not self._stopping.is_set():
      pass

  def _failure_of_actor(self):
    return self.actors.error

  def _stop(self):
    self._stopping.set()
    if self.actors is not None:
      self.actors.stop()
    self.environments.close()
    if self.actors is not None:
      self.actors.join()


class _Worker:
  """Stands for an `actors.Unroller` whose unrolls are gradients."""

  def __init__(self, unroller, policy, learner):
    """Traces the work; see `actors.Unroller` and `learner.Learner`."""
    self.initial = unroller.initial

    def work(index, carry):
      copies, version = policy.begin()
      carry, unrolls = unroller.play(index, carry, copies, version)
      batch = unroll_queue.as_batch(unrolls)
      step_outputs = structs.StepOutput((), (), batch.step_outputs.info, ())
      played = structs.Unroll(batch.level, (), (), step_outputs, ())
      return carry, _Work(learner.loss_and_gradients(batch, copies), played)

    signature = [tf.TensorSpec([], tf.int32), unroller.carry_spec]
    self._work = tf.function(work, input_signature=signature, autograph=False)
    self._work.get_concrete_function()

  def unroll(self, index, carry):
    """The next `actors.Carry` and the `_Work` of an unroll, as `actors.Unroller.unroll`."""
    return self._work(tf.constant(index, tf.int32), carry)
