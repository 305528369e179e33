"""What every arrangement of actors and learner has: environment processes, published weights, and who chooses the actions.

The paper compares four arrangements (its Figure 2 and Table 1). They share agent, losses and environments, and differ in when
actors wait and who computes gradients; that is all their modules hold:

    impala                 pipeline.py      actors go on while the learner learns, through a bounded queue
    a2c_sync_step          synchronous.py   all environments step together, then the learner learns
    a2c_sync_trajectories  synchronous.py   actors play an unroll each, wait for the slowest, then the learner learns
    a3c                    a3c.py           actors compute gradients on their own unrolls, with weights that may be old by then

`architectures.make` chooses.
"""

import contextlib

import tensorflow as tf
import tree

from impala_tf import actors, experiment, inference, metrics, policy_lag, replay, structs, unroll_queue, weights
from impala_tf.hparams import ConfigurationError


class ActorError(RuntimeError):
  """An actor failed or its process keeps dying; the run was saved."""


def check_own_inference(hparams):
  """Raises `hparams.ConfigurationError` if inference is to be shared where there is nobody to share it."""
  if hparams.inference == 'shared':
    raise ConfigurationError(
      f'architecture={hparams.architecture} has no actors that could share inference: leave out --inference=shared.'
    )


class Arrangement:
  """Actors and learner at work while the context lasts; a base class.

  environments: `experiment.EnvironmentProcesses`, one for each actor; the levels take turns.
  weights: `weights.PublishedWeights`.
  policy: `inference.OwnInference` or `inference.SharedInference`, as the hyper-parameters and the devices say.
  learner_timer, actor_timer: `metrics.StageTimer` with the stages 'wait' and 'update', and 'environment' (a part of
    'unroll'), 'unroll' and 'enqueue'.

  A subclass has `_start`, `_update`, `_stop` and `_error`.
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
    self._hparams = hparams
    self._agent = agent
    self.environments = experiment.make_environments(
      suite, hparams, [names[i] for i in self._levels], hparams.envs_per_actor, False, seed, self._environment_timer()
    )
    step_output_spec = structs.step_output_spec(suite.observation_spec(hparams))
    state_spec = tree.map_structure(lambda t: tf.TensorSpec(t.shape[1:], t.dtype), agent.initial_state(1))
    self._policy_specs = [tf.TensorSpec([], tf.int32), unroll_queue.tensor_specs(step_output_spec), state_spec]
    unroll_spec = unroll_queue.unroll_spec(step_output_spec, agent.num_actions, state_spec, hparams.unroll_length)
    self._batches = replay.make(unroll_spec, hparams, seed)

  @classmethod
  def check(cls, hparams):
    """Raises `hparams.ConfigurationError` for hyper-parameters that do not go with this arrangement."""

  def __enter__(self):
    hparams = self._hparams
    with contextlib.ExitStack() as on_error:
      on_error.enter_context(self.environments)
      if hparams.policy_lag:
        self.weights = policy_lag.LaggingWeights(self._agent, hparams.policy_lag, version=self._version)
      else:
        self.weights = weights.PublishedWeights(self._agent, version=self._version)
      self.policy = on_error.enter_context(self._make_policy())
      self._unroller = self._make_unroller()
      on_error.pop_all()
    self._start()
    return self

  def _environment_timer(self):
    return self.actor_timer

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

  def _make_unroller(self):
    hparams = self._hparams
    return actors.Unroller(self.policy, self.environments, self._levels, hparams.envs_per_actor, hparams.unroll_length)

  def _start(self):
    """Starts to act; called when all parts exist."""

  def updates(self, learner, stop=False):
    """Has the learner take one update after the other, until all frames are consumed or it is to stop.

    Args:
      learner: a `learner.Learner` of the same agent.
      stop: whatever is true once it is to stop, such as `experiment.Stop`.

    Yields:
      After each update the learner's frames, an int; the list of `metrics.Episode` that ended in the batch; and the
      `learner.Metrics`, whose numbers are best left alone most of the time: to look at them, one must wait for the device.

    Raises:
      ActorError: if an actor failed.
      NonFiniteLossError: as `learner.Learner.update`.
    """
    hparams = self._hparams
    frames = int(learner.frames)
    frames_per_update = replay.split(hparams).fresh * hparams.unroll_length * hparams.num_action_repeats
    while frames < hparams.total_environment_frames and not stop:
      done = self._update(learner)
      if done is not None:
        frames += frames_per_update
        yield frames, *done
      elif self._error() is not None:
        error = self.environments.error or self.policy.error or self._error()
        raise ActorError(f'Training stopped at frame {frames:_}: {error}') from None

  def _update(self, learner):
    """Waits for what the next update needs, a second or so, and takes it.

    Returns:
      A list of `metrics.Episode` and the `learner.Metrics`, or None if it had to wait longer or an actor failed.
    """
    raise NotImplementedError

  def _error(self):
    """The exception that ended an actor, or None."""
    raise NotImplementedError

  def queue_fill(self):
    """How many unrolls wait for the learner, and how many can; None where none ever do."""
    return None

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
    self._stop()

  def _stop(self):
    """Ends what `_start` started, the policy, and the environments."""
    raise NotImplementedError
