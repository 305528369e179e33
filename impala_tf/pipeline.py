"""The data's way in one place: environment processes, actor threads, queue, staging area, learner, published weights."""

import contextlib

import tensorflow as tf
import tree

from impala_tf import actors, experiment, inference, metrics, structs, unroll_queue, weights


class ActorError(RuntimeError):
  """An actor failed or its process keeps dying; the run was saved."""


class Pipeline:
  """Actors and what leads from them to the learner; runs while the context lasts.

  environments: `experiment.EnvironmentProcesses`, one for each actor; the levels take turns.
  actors: `actors.ActorThreads`.
  queue: `unroll_queue.UnrollQueue`.
  staging: `unroll_queue.StagingArea` of batches and their lists of `metrics.Episode`.
  weights: `weights.PublishedWeights`.
  policy: `inference.OwnInference` or `inference.SharedInference`, as the hyper-parameters and the devices say.
  learner_timer, actor_timer: `metrics.StageTimer` with the stages 'wait' and 'update', and 'environment' (a part of
    'unroll'), 'unroll' and 'enqueue'.
  """

  def __init__(self, suite, hparams, agent, seed, version=0):
    """Describes the parts.

    Args:
      suite: an `experiment.Suite`.
      hparams: the run's `hparams.HParams`.
      agent: a built `agents.Agent`.
      seed: a list of int that differs between the starts of a run.
      version: int, the learner's updates behind the agent's weights.
    """
    self._version = version
    self.learner_timer = metrics.StageTimer()
    self.actor_timer = metrics.StageTimer()
    names = suite.levels(hparams)
    self._levels = [i % len(names) for i in range(hparams.num_actors)]
    self._suite = suite
    self._hparams = hparams
    self._agent = agent
    self.environments = experiment.make_environments(
      suite, hparams, [names[i] for i in self._levels], hparams.envs_per_actor, False, seed, self.actor_timer
    )
    step_output_spec = structs.step_output_spec(suite.observation_spec(hparams))
    state_spec = tree.map_structure(lambda t: tf.TensorSpec(t.shape[1:], t.dtype), agent.initial_state(1))
    self._policy_specs = [tf.TensorSpec([], tf.int32), unroll_queue.tensor_specs(step_output_spec), state_spec]
    spec = unroll_queue.unroll_spec(step_output_spec, agent.num_actions, state_spec, hparams.unroll_length)
    self.queue = unroll_queue.UnrollQueue(spec, hparams.queue_capacity)
    self.staging = unroll_queue.StagingArea(lambda: self.queue.dequeue_batch(hparams.batch_size), on_host=metrics.episodes_in)

  def __enter__(self):
    hparams = self._hparams
    with contextlib.ExitStack() as on_error:
      on_error.enter_context(self.environments)
      self.weights = weights.PublishedWeights(self._agent, version=self._version)
      self.policy = on_error.enter_context(self._make_policy())
      unroller = actors.Unroller(self.policy, self.environments, self._levels, hparams.envs_per_actor, hparams.unroll_length)
      self.actors = actors.ActorThreads(
        unroller, hparams.num_actors, self.queue.enqueue_many, self.actor_timer, on_failure=self.queue.close
      )
      on_error.pop_all()
    self.actors.start()
    self.staging.start()
    return self

  def _make_policy(self):
    hparams = self._hparams
    if not inference.is_shared(hparams):
      return inference.OwnInference(self._agent, self.weights)
    return inference.SharedInference(
      self._agent,
      self.weights,
      self._policy_specs,
      minimum_batch_size=min(hparams.inference_minimum_batch, hparams.num_actors * hparams.envs_per_actor),
      maximum_batch_size=max(hparams.inference_maximum_batch, hparams.envs_per_actor),
      timeout=hparams.inference_timeout_ms / 1000,
    )

  def updates(self, learner, stop=False):
    """Has the learner take an update with each batch that arrives, until all frames are consumed or it is to stop.

    Args:
      learner: a `learner.Learner` of the same agent.
      stop: whatever is true once it is to stop, such as `experiment.Stop`; it is looked at once a second at least.

    Yields:
      After each update the learner's frames, an int; the list of `metrics.Episode` that ended in the batch; and the
      `learner.Metrics`, whose numbers are best left alone most of the time: to look at them, one must wait for the device.

    Raises:
      ActorError: if an actor failed.
      NonFiniteLossError: as `learner.Learner.update`.
    """
    hparams = self._hparams
    frames = int(learner.frames)
    while frames < hparams.total_environment_frames and not stop:
      with self.learner_timer('wait'):
        staged = self.staging.get(timeout=1.0)
      if staged is None:
        error = self.environments.error or self.policy.error or self.actors.error
        if self.actors.error is not None:
          raise ActorError(f'Training stopped at frame {frames:_}: {error}') from None
        continue
      batch, episodes = staged
      with self.learner_timer('update'):
        update = learner.update(batch)
        self.weights.publish(tf.cast(update.updates, tf.int32))
      frames += hparams.batch_size * hparams.unroll_length * hparams.num_action_repeats
      yield frames, episodes, update

  def actor_shares(self):
    """A function as `metrics.StageTimer.reader` gives, with 'environment' and 'inference' in place of the whole 'unroll'."""
    shares = self.actor_timer.reader()

    def split():
      stages = shares()
      environment, unroll, queue = (stages.get(name, 0.0) for name in ('environment', 'unroll', 'enqueue'))
      total = unroll + queue
      if not total:
        return {}
      return {
        'environment': environment / total,
        'inference': (unroll - environment) / total,
        'queue': queue / total,
      }

    return split

  def __exit__(self, *exception):
    self.actors.stop()
    # Whoever waits for queue or environments is freed by their end.
    self.queue.close()
    self.policy.close()
    self.environments.close()
    self.actors.join()
    self.staging.close()
