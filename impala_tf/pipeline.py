"""The data's way in one place: environment processes, actor threads, queue, staging area, learner, published weights."""

import contextlib
import time

import tensorflow as tf
import tree
from absl import logging

from impala_tf import actors, experiment, inference, metrics, structs, unroll_queue, weights

STARVED_SECONDS = 60.0  # between two warnings that nothing comes


class ActorError(RuntimeError):
  """An actor failed or its process keeps dying; the run was saved."""


class Specs:
  """What passes between the parts of a run, as nests of `tf.TensorSpec` of one environment.

  step_output: `structs.StepOutput`.
  agent_state: the agent's state.
  unroll: `structs.Unroll`.
  """

  def __init__(self, suite, hparams, agent):
    """Works them out for an `experiment.Suite`, `hparams.HParams`, and a built `agents.Agent`."""
    step_output = structs.step_output_spec(suite.observation_spec(hparams))
    self.step_output = unroll_queue.tensor_specs(step_output)
    self.agent_state = tree.map_structure(lambda t: tf.TensorSpec(t.shape[1:], t.dtype), agent.initial_state(1))
    self.unroll = unroll_queue.unroll_spec(step_output, agent.num_actions, self.agent_state, hparams.unroll_length)


class LearnerEnd:
  """The way from the queue to the learner and to the published weights, whoever fills the queue; runs while the context lasts.

  specs: `Specs`.
  queue: `unroll_queue.UnrollQueue`.
  staging: `unroll_queue.StagingArea` of batches and their lists of `metrics.Episode`.
  weights: `weights.PublishedWeights`, while it runs.
  learner_timer: `metrics.StageTimer` with the stages 'wait' and 'update'.
  is_over: whether all frames are consumed.
  connected: how many other processes act, an int; None if this one acts itself.

  A subclass says who fills the queue: `error`, `restarts`, `statistics`, `actor_shares`, `whereabouts`.
  """

  connected = None

  def __init__(self, suite, hparams, agent, version, **placement):
    """Describes the parts.

    Args:
      suite: an `experiment.Suite`.
      hparams: the run's `hparams.HParams`.
      agent: a built `agents.Agent`.
      version: int, the learner's updates behind the agent's weights.
      **placement: further arguments of the `unroll_queue.UnrollQueue`.
    """
    self._hparams = hparams
    self._agent = agent
    self._version = version
    self.is_over = False
    self.specs = Specs(suite, hparams, agent)
    self.learner_timer = metrics.StageTimer()
    self.queue = unroll_queue.UnrollQueue(self.specs.unroll, hparams.queue_capacity, **placement)
    self.staging = unroll_queue.StagingArea(lambda: self.queue.dequeue_batch(hparams.batch_size), on_host=metrics.episodes_in)

  @property
  def error(self):
    """What ended the acting, an Exception, or None."""
    raise NotImplementedError

  @property
  def restarts(self):
    """How often processes of environments were started anew, an int."""
    raise NotImplementedError

  def statistics(self):
    """Counters of the environments by name, a dict."""
    raise NotImplementedError

  def actor_shares(self):
    """A function that gives the shares of the actors' time since its last call, a dict by stage."""
    raise NotImplementedError

  def attend(self):
    """Is called once a second or more often by who takes the updates."""

  def whereabouts(self):
    """What there is to see of the actors, a sentence for somebody who waits for their unrolls."""
    raise NotImplementedError

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
    last_batch = last_warning = time.monotonic()
    while frames < hparams.total_environment_frames and not stop:
      with self.learner_timer('wait'):
        staged = self.staging.get(timeout=1.0)
      self.attend()
      now = time.monotonic()
      if staged is None:
        if self.error is not None:
          raise ActorError(f'Training stopped at frame {frames:_}: {self.error}') from None
        if now - last_warning >= STARVED_SECONDS:
          last_warning = now
          logging.warning('The learner has waited %d s for a batch. %s', now - last_batch, self.whereabouts())
        continue
      last_batch = last_warning = now
      batch, episodes = staged
      with self.learner_timer('update'):
        update = learner.update(batch)
        self.weights.publish(tf.cast(update.updates, tf.int32))
      frames += hparams.batch_size * hparams.unroll_length * hparams.num_action_repeats
      self.is_over = frames >= hparams.total_environment_frames
      yield frames, episodes, update


class Pipeline(LearnerEnd):
  """A `LearnerEnd` with actors in the same process.

  environments: `experiment.EnvironmentProcesses`, one for each actor; the levels take turns.
  actors: `actors.ActorThreads`, while it runs.
  policy: `inference.OwnInference` or `inference.SharedInference`, as the hyper-parameters and the devices say.
  actor_timer: `metrics.StageTimer` with the stages 'environment' (a part of 'unroll'), 'unroll' and 'enqueue'.
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
    super().__init__(suite, hparams, agent, version)
    self.actor_timer = metrics.StageTimer()
    names = suite.levels(hparams)
    self._levels = [i % len(names) for i in range(hparams.num_actors)]
    self.environments = experiment.make_environments(
      suite, hparams, [names[i] for i in self._levels], hparams.envs_per_actor, False, seed, self.actor_timer
    )

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
      [tf.TensorSpec([], tf.int32), self.specs.step_output, self.specs.agent_state],
      minimum_batch_size=min(hparams.inference_minimum_batch, hparams.num_actors * hparams.envs_per_actor),
      maximum_batch_size=max(hparams.inference_maximum_batch, hparams.envs_per_actor),
      timeout=hparams.inference_timeout_ms / 1000,
    )

  @property
  def error(self):
    """The first failure, as the part that failed tells it; an actor's is only what reached it of that."""
    return self.actors.error and (self.environments.error or self.policy.error or self.actors.error)

  @property
  def restarts(self):
    """See `LearnerEnd`."""
    return self.environments.restarts

  def statistics(self):
    """See `LearnerEnd`."""
    return self.environments.statistics()

  def actor_shares(self):
    """See `LearnerEnd`; the stages are those of `stage_shares`."""
    return stage_shares(self.actor_timer)

  def whereabouts(self):
    """See `LearnerEnd`."""
    return (
      f'{self._hparams.num_actors} actors are at work, with {self.restarts} restarts of their environments; their unrolls of '
      f'{self._hparams.unroll_length} steps may take that long.'
    )

  def __exit__(self, *exception):
    self.actors.stop()
    # Whoever waits for queue or environments is freed by their end.
    self.queue.close()
    self.policy.close()
    self.environments.close()
    self.actors.join()
    self.staging.close()


def stage_shares(timer):
  """A function as `metrics.StageTimer.reader` gives, with 'environment' and 'inference' in place of the whole 'unroll'."""
  shares = timer.reader()

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
