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

import numpy as np
import tensorflow as tf
import tree

from impala_tf import timing
from impala_tf.acting import actors, inference
from impala_tf.config import ConfigurationError
from impala_tf.environments import process_group
from impala_tf.training import arrangement, metrics
from impala_tf.transport import unroll_queue


class SynchronousTrajectories(arrangement.Arrangement):
  """Actors play an unroll each; when the slowest is done, the learner takes one update with all of
  them.

  With shared inference this is the paper's A2C with dynamic batching.
  """

  def __init__(self, suite, config, agent, seed, version=0):
    """As `arrangement.Arrangement`."""
    super().__init__(suite, config, agent, seed, version)
    self._level = tf.constant(np.repeat(self._levels, config.envs_per_actor), tf.int32)
    self._failure = None

  @classmethod
  def check(cls, config):
    """Raises `config.ConfigurationError` if there are not as many environments as new unrolls in a
    batch.
    """
    environments, fresh = config.num_actors * config.envs_per_actor, config.fresh_per_batch
    if environments != fresh:
      raise ConfigurationError(
        f'architecture={config.architecture} learns from one unroll of each environment at a time, so there must be as many '
        f'environments as new unrolls in a batch: {config.num_actors} actors of {config.envs_per_actor} are {environments}, '
        f'the batch has {fresh}. Change --num_actors, --envs_per_actor or --batch_size.'
      )

  def _start(self):
    players = self._num_players()
    self._pool = concurrent.futures.ThreadPoolExecutor(players, thread_name_prefix='actor')
    self._join = tf.function(self._build_join, autograph=False)
    self._carries = [None] * players

  def _num_players(self):
    return self._config.num_actors

  def _play(self, index):
    with self.actor_timer('unroll'):
      if self._carries[index] is None:
        self._carries[index] = self._unroller.initial(index)
      self._carries[index], unrolls = self._unroller.unroll(index, self._carries[index])
    return unrolls

  def _build_join(self, unrolls):
    together = tree.map_structure(lambda *parts: tf.concat(parts, 0), *unrolls)
    return unroll_queue.as_batch(self._batches.unstack_frames(together._replace(level=self._level)))

  def _update(self, learner):
    with self.learner_timer('wait'):
      try:
        unrolls = list(self._pool.map(self._play, range(len(self._carries))))
      except Exception as error:  # Whatever it is, it is the actors' and ends them.
        self._failure = error
        return None
      batch = self._batches.complete(self._join(unrolls))
      episodes = metrics.episodes_in(batch, self._config.fresh_per_batch)
    with self.learner_timer('update'):
      update = learner.update(batch)
      self.weights.publish(tf.cast(update.updates, tf.int32))
    return episodes, update

  def _failure_of_actor(self):
    return self._failure

  def _stop(self):
    self.environments.close()
    self._pool.shutdown()


class SynchronousSteps(SynchronousTrajectories):
  """All environments step together, and one call of the network chooses the actions of all: each
  step waits for the slowest.
  """

  @classmethod
  def check(cls, config):
    """Raises `config.ConfigurationError` as `SynchronousTrajectories`, or if inference is to be
    shared.
    """
    super().check(config)
    arrangement.check_own_inference(config)

  def _num_players(self):
    return 1

  def _environment_timer(self):
    # Of no use, since the processes work at the same time: `_LockStep` is timed instead.
    return timing.StageTimer()

  def _make_policy(self):
    return inference.LocalInference(self._agent, self.weights)

  def _make_unroller(self):
    config = self._config
    self._lock_step = _LockStep(self.environments, self.actor_timer)
    total = config.num_actors * config.envs_per_actor
    return actors.Unroller(
      self.policy, process_group.ProcessGroup([self._lock_step]), [0], total, config.unroll_length
    )

  def _stop(self):
    super()._stop()
    self._lock_step.close()


class _LockStep:
  """Processes of environments that are called together, in place of the one process of one actor."""

  def __init__(self, processes, timer):
    """Takes a `process_group.ProcessGroup`, and a `timing.StageTimer` for the stage 'environment'."""
    self._processes = processes
    self._timer = timer
    self._pool = concurrent.futures.ThreadPoolExecutor(
      len(processes), thread_name_prefix='lock-step'
    )

  def call(self, method, *args):
    """As `py_process.PyProcess.call`: arrays of all environments in and out, in the order of the
    processes.
    """
    if method == 'tensor_specs':
      specs = self._processes[0].call(method, *args)
      widen = lambda spec: type(spec)(
        (spec.shape[0] * len(self._processes), *spec.shape[1:]), spec.dtype
      )
      return tree.map_structure(widen, specs)
    with self._timer('environment'):
      parts = [np.split(array, len(self._processes)) for array in args]
      outputs = list(
        self._pool.map(lambda process, *part: process.call(method, *part), self._processes, *parts)
      )
      return tree.map_structure(lambda *arrays: np.concatenate(arrays), *outputs)

  def close(self):
    """Ends its threads, once the processes are closed."""
    self._pool.shutdown()
