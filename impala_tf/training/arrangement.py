"""What every arrangement of actors and learner has: environment processes, published weights, and
who chooses the actions.

The paper compares four arrangements (its Figure 2 and Table 1). They share agent, losses and
environments, and differ in when actors wait and who computes gradients; that is all their modules
hold:

    impala                 pipeline.py      actors go on while the learner learns, through a bounded queue
    a2c_sync_step          synchronous.py   all environments step together, then the learner learns
    a2c_sync_trajectories  synchronous.py   actors play an unroll each, wait for the slowest, then
    the learner learns
    a3c                    a3c.py           actors compute gradients on their own unrolls, with weights that may be old by then

`architectures.make` chooses.
"""

import contextlib
import time

import tensorflow as tf
import tree
from absl import logging

from impala_tf import errors, structs, timing
from impala_tf.acting import actors, inference, weights
from impala_tf.config import ConfigurationError
from impala_tf.environments import process_group
from impala_tf.transport import replay, unroll_queue

STARVED_SECONDS = 60.0  # between two warnings that nothing comes


class ActorError(errors.UserError, RuntimeError):
  """An actor failed or its process keeps dying; the run was saved."""


def check_own_inference(config):
  """Raises `config.ConfigurationError` if inference is to be shared where there is nobody to share
  it.
  """
  if config.inference == 'shared':
    raise ConfigurationError(
      f'architecture={config.architecture} has no actors that could share inference: leave out --inference=shared.'
    )


class Specs:
  """What passes between the parts of a run, as nests of `tf.TensorSpec` of one environment.

  step_output: `structs.StepOutput`.
  agent_state: the agent's state.
  unroll: `structs.Unroll`.
  """

  def __init__(self, suite, config, agent):
    """Works them out for an `suite.Suite`, `config.Config`, and a built `agents.Agent`."""
    step_output = structs.step_output_spec(suite.observation_spec(config))
    self.step_output = unroll_queue.tensor_specs(step_output)
    self.agent_state = tree.map_structure(
      lambda t: tf.TensorSpec(t.shape[1:], t.dtype), agent.initial_state(1)
    )
    self.unroll = unroll_queue.unroll_spec(
      step_output, agent.num_actions, self.agent_state, config.unroll_length
    )


class Learning:
  """A learner at work while the context lasts, whoever acts; a base class.

  weights: `weights.PublishedWeights`, while the context lasts.
  learner_timer: `timing.StageTimer` with the stages 'wait' and 'update'.
  is_over: whether all frames are consumed.
  connected: how many other processes act, an int; None if this one does.
  restarts: how often processes of environments were started anew, an int.

  A subclass has `restarts`, `statistics`, `actor_shares`, `_update` and `_error`.
  """

  connected = None
  _over_network = False  # Whether unrolls come from other machines.

  def __init__(self, suite, config, agent, seed, version=0):
    """Describes the parts.

    Args:
      suite: an `suite.Suite`.
      config: the run's `config.Config`.
      agent: a built `agents.Agent`.
      seed: a list of int that differs between the starts of a run.
      version: int, the learner's updates behind the agent's weights.
    """
    self._config = config
    self._agent = agent
    self._version = version
    self.is_over = False
    self.learner_timer = timing.StageTimer()
    self._specs = Specs(suite, config, agent)
    self._batches = replay.make(self._specs.unroll, config, seed, over_network=self._over_network)

  def _publish_weights(self, **options):
    if self._config.policy_lag:
      return weights.LaggingWeights(
        self._agent, self._config.policy_lag, version=self._version, **options
      )
    return weights.PublishedWeights(self._agent, version=self._version, **options)

  def updates(self, learner, stop=False):
    """Has the learner take one update after the other, until all frames are consumed or it is to
    stop.

    Args:
      learner: a `learner.Learner` of the same agent.
      stop: whatever is true once it is to stop, such as `signals.Stop`.

    Yields:
      After each update the learner's frames, an int; the list of `metrics.Episode` that ended in
      the batch; and the `learner.Metrics`, whose numbers are best left alone most of the time: to
      look at them, one must wait for the device.

    Raises:
      ActorError: if an actor failed.
      NonFiniteLossError: as `learner.Learner.update`.
    """
    config = self._config
    frames = int(learner.frames)
    last_update = last_warning = time.monotonic()
    while frames < config.total_environment_frames and not stop:
      done = self._update(learner)
      self._attend()
      now = time.monotonic()
      if done is not None:
        last_update = last_warning = now
        frames += config.frames_per_update
        self.is_over = frames >= config.total_environment_frames
        yield frames, *done
      elif self._error() is not None:
        raise ActorError(f'Training stopped at frame {frames:_}: {self._error()}') from None
      elif now - last_warning >= STARVED_SECONDS:
        last_warning = now
        logging.warning(
          'The learner has waited %d s for a batch. %s', now - last_update, self._whereabouts()
        )

  def _update(self, learner):
    """Waits for what the next update needs, a second or so, and takes it.

    Returns:
      A list of `metrics.Episode` and the `learner.Metrics`, or None if it had to wait longer or an
      actor failed.
    """
    raise NotImplementedError

  def _error(self):
    """The exception that ended the acting, or None."""
    raise NotImplementedError

  def _attend(self):
    """Called between updates and while there are none, once a second or more often."""

  def _whereabouts(self):
    """What there is to see of the actors, a sentence for somebody who waits for their unrolls."""
    return f'Actors are at work; an unroll of {self._config.unroll_length} steps may take them that long.'

  def queue_fill(self):
    """How many unrolls wait for the learner, and how many can; None where none ever do."""
    return None

  def statistics(self):
    """Counters of the environments by name, a dict."""
    raise NotImplementedError

  def actor_shares(self):
    """A function that gives the shares of the actors' time since its last call, a dict by stage."""
    raise NotImplementedError


class Arrangement(Learning):
  """Actors and learner in one process, at work while the context lasts; a base class.

  environments: `process_group.EnvironmentProcesses`, one for each actor; the levels take turns.
  policy: `inference.LocalInference` or `inference.BatchedInference`, as the hyper-parameters and
    the devices say.
  actor_timer: `timing.StageTimer` with the stages 'environment' (a part of 'unroll'), 'unroll' and
    'enqueue'.

  A subclass has `_start`, `_update`, `_stop` and `_failure_of_actor`.
  """

  def __init__(self, suite, config, agent, seed, version=0):
    """As `Learning`."""
    super().__init__(suite, config, agent, seed, version)
    self.actor_timer = timing.StageTimer()
    names = suite.levels(config)
    self._levels = [i % len(names) for i in range(config.num_actors)]
    self.environments = process_group.make_environments(
      suite,
      config,
      [names[i] for i in self._levels],
      config.envs_per_actor,
      False,
      seed,
      self._environment_timer(),
    )

  @classmethod
  def check(cls, config):
    """Raises `config.ConfigurationError` for hyper-parameters that do not go with this arrangement."""

  def __enter__(self):
    with contextlib.ExitStack() as on_error:
      on_error.enter_context(self.environments)
      self.weights = self._publish_weights()
      self.policy = self._make_policy()
      self._unroller = self._make_unroller()
      on_error.pop_all()
    self._start()
    return self

  def _environment_timer(self):
    return self.actor_timer

  def _make_policy(self):
    config = self._config
    if not inference.is_shared(config):
      return inference.LocalInference(self._agent, self.weights)
    return inference.BatchedInference(
      self._agent,
      self.weights,
      [tf.TensorSpec([], tf.int32), self._specs.step_output, self._specs.agent_state],
      # A batch of all environments is full, and does not wait for the time-out.
      maximum_batch_size=config.envs_per_actor
      * max(1, min(config.num_actors, config.inference_maximum_batch // config.envs_per_actor)),
      timeout=config.inference_timeout_ms / 1000,
    )

  def _make_unroller(self):
    config = self._config
    return actors.Unroller(
      self.policy, self.environments, self._levels, config.envs_per_actor, config.unroll_length
    )

  def _start(self):
    """Starts to act; called when all parts exist."""

  @property
  def restarts(self):
    """See `Learning`."""
    return self.environments.restarts

  def statistics(self):
    """See `Learning`."""
    return self.environments.statistics()

  def _failure_of_actor(self):
    """The exception that ended an actor, or None."""
    raise NotImplementedError

  def _error(self):
    # An actor's is only what reached it of what another part tells better.
    failure = self._failure_of_actor()
    return failure and (self.environments.error or failure)

  def actor_shares(self):
    """See `Learning`; the stages are those of `stage_shares`."""
    return stage_shares(self.actor_timer)

  def __exit__(self, *exception):
    self._stop()

  def _stop(self):
    """Ends what `_start` started, the policy, and the environments."""
    raise NotImplementedError


def stage_shares(timer):
  """A function as `timing.StageTimer.reader` gives, with 'environment' and 'inference' in place of
  the whole 'unroll'.
  """
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
