"""The configuration of a run: one frozen dataclass in two sections, to which a suite adds its own.

    config = dataclasses.replace(atari57.suite.EXPERT, level_name='seaquest', batch_size=16)
    print(config.changes_from(atari57.suite.EXPERT))

`LearningConfig` decides what is learned; `RuntimeConfig` is about the machine, and may differ when
a run is resumed. The suites supply complete presets with the paper's values.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from impala_tf.config import sizes
from impala_tf.config.options import Options, Value, option, suggestion
from impala_tf.config.runtime import RuntimeConfig
from impala_tf.errors import ConfigurationError


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningConfig:
  """Options that decide what is learned.

  Frames are emulator frames, action repeats counted; steps are the agent's; updates are the
  learner's.
  """

  level_name: str = option(
    'level to train on; atari57, dmlab30 or some games (pong+breakout) train one agent on all of '
    'them; gymnasium:CartPole-v1 is an environment of Gymnasium, a path such as '
    'contributed/psychlab/harlow a level script of DeepMind Lab, and package.module:level a level '
    'of a suite of your own'
  )
  agent: str = option(
    "the agent's network: shallow or deep as in the paper, or package.module:MyTorso for the torso "
    'of your own',
    choices=('shallow', 'deep'),
    may_be_reference=True,
  )
  total_environment_frames: int = option(
    'frames of the whole training, action repeats counted; paper: 200 million for an Atari game; '
    "its authors' code: 10 billion for all levels of DMLab-30",
    minimum=1,
    maximum=2**63 - 1,
  )
  batch_size: int = option('unrolls in each update of each learner; paper: 32', minimum=1)
  unroll_length: int = option(
    'agent steps in each unroll; paper: 20 on Atari, 100 on DMLab-30', minimum=1
  )
  num_action_repeats: int = option(
    'frames for which each action of the agent is repeated; paper: 4', minimum=1
  )
  seed: int = option(
    'random seed of weights, actions and environments', minimum=0, maximum=2**31 - 1
  )
  entropy_cost: float = option(
    'weight of the entropy bonus in the loss; paper: 0.01 on Atari, on DMLab-30 searched from '
    '0.00005 to 0.01',
    minimum=0,
  )
  baseline_cost: float = option("weight of the baseline's loss; paper: 0.5", minimum=0)
  discounting: float = option(
    'discount of rewards for each agent step; paper: 0.99', minimum=0, maximum=1
  )
  reward_clipping: str = option(
    'transform of rewards in the loss, or none; paper: abs_one for single levels, '
    'optimistic_asymmetric for DMLab-30; package.module:function for one of your own',
    choices=('none', 'abs_one', 'soft_asymmetric', 'optimistic_asymmetric'),
    may_be_reference=True,
  )
  reward_scale: float = option(
    'factor of the rewards in the loss, before reward_clipping; learning is steady where returns '
    'times this, discounted, are of the order of 1 to 10; paper: 1',
    default=1.0,
    above=0,
  )
  learning_rate: float = option(
    'initial learning rate, see learning_rate_decay; paper: 0.0006 on Atari, on DMLab-30 searched '
    'from 0.000005 to 0.005',
    minimum=0,
  )
  decay: float = option(
    "decay of RMSProp's mean square at each update; 0.99 in the authors' code", minimum=0, maximum=1
  )
  momentum: float = option('momentum of RMSProp; paper: 0', minimum=0, below=1)
  epsilon: float = option(
    'number that RMSProp adds to its mean square under the root; paper: 0.01 on Atari, on DMLab-30 '
    'one of 0.1, 0.001, 0.00001 and 0.0000001',
    above=0,
  )
  clip_global_norm: float | None = option(
    "largest norm of an update's gradient, which is scaled down to it, or none; paper: 40 on Atari",
    above=0,
  )
  learning_rate_decay: str = option(
    'way in which the learning rate goes to 0 over total_environment_frames, or none to keep it; '
    'paper: linear',
    default='linear',
    choices=('linear', 'none'),
  )

  # What the loss makes of actions that an older policy chose (Section 5.2.2).
  correction: str = option(
    'treatment of actions that an older policy chose: V-trace, or one of the alternatives in Table '
    '2; paper: vtrace; package.module:function for one of your own',
    default='vtrace',
    choices=('vtrace', 'one_step_is', 'epsilon', 'none'),
    may_be_reference=True,
  )
  extra_loss: str = option(
    'package.module:function whose result is added to the loss; empty for none',
    default='',
    may_be_empty=True,
    may_be_reference=True,
  )
  clip_rho_threshold: float | None = option(
    'rho-bar, where V-trace clips the importance weights of its targets, or none; paper: 1',
    default=1.0,
    above=0,
  )
  clip_c_threshold: float | None = option(
    'c-bar, where V-trace clips its traces, or none; paper: 1, and the theory asks for at most '
    'rho-bar',
    default=1.0,
    above=0,
  )
  clip_pg_rho_threshold: float | None = option(
    "value at which the importance weights of the policy's gradient are clipped, or none; paper: 1",
    default=1.0,
    above=0,
  )
  lambda_: float = option(
    "factor of V-trace's traces, as in TD(lambda); paper: 1", default=1.0, minimum=0, maximum=1
  )
  q_estimate: str = option(
    "estimate of an action's value in the policy's gradient, the reward and the discounted target "
    'or baseline of the next state; paper: target',
    default='target',
    choices=('target', 'baseline'),
  )

  # How actors and learner work together: as in the paper, or a baseline of Table 1.
  architecture: str = option(
    'way in which actors and learner work together: actors run ahead (impala), all wait for each '
    'other step by step or unroll by unroll (a2c), or actors compute gradients (a3c)',
    default='impala',
    choices=('impala', 'a2c_sync_step', 'a2c_sync_trajectories', 'a3c'),
  )
  policy_lag: int = option(
    'updates by which the weights of actors are held back, to study learning from older policies; '
    'paper: 0',
    default=0,
    minimum=0,
  )
  # Section 5.2.2 and Table D.3. "50% of the items in each batch" can be read in two ways.
  replay_fraction: float = option(
    "share of each batch that is drawn from earlier unrolls; paper: 0, or 0.5 in Table 2's replay",
    default=0.0,
    minimum=0,
    below=1,
  )
  replay_capacity: int = option(
    'number of unrolls that the replay keeps, the oldest being dropped first; paper: 10000',
    default=10_000,
    minimum=1,
  )
  replay_beside: bool = option(
    'whether replayed unrolls come in addition to batch_size new ones, not in place of some',
    default=False,
  )

  callbacks: str = option(
    'package.module:MyCallback that watches or changes the training, or several of them, separated '
    'by commas; empty for none',
    default='',
    may_be_empty=True,
    may_be_reference=True,
    may_be_several=True,
  )

  precision: str = option(
    'arithmetic of the network up to its features, for images; bfloat16 is faster where the '
    'processor has AVX-512',
    default='float32',
    choices=('float32', 'bfloat16'),
  )
  num_learners: int = option(
    'learners in step with each other, each on a device of this machine and with a batch of its '
    'own; paper: 1, or 8 for DMLab-30',
    default=1,
    minimum=1,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(RuntimeConfig, LearningConfig, Options):
  """Everything that defines a run; a suite with options of its own has a subclass.

  Attributes:
    frame_stack: frames in an observation; an option of the suites that stack them.

  Raises:
    ConfigurationError: for a value of the wrong type or outside its limits.
  """

  frame_stack = 1

  def __post_init__(self) -> None:
    """Checks every field, and what has to go together."""
    super().__post_init__()
    self._check_replay()

  @classmethod
  def of_older_version(cls, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields that a file of an older version has, as this version has them."""
    if values.pop('inference_minimum_batch', None) is not None:
      # Its time-out was that of a batch below the minimum.
      values.pop('inference_timeout_ms', None)
    return values

  def _check_replay(self) -> None:
    unrolls, replayed, total = self._unrolls_of_learners, self.replayed_per_batch, self.batch_total
    if self.frames_per_update >= 2**63:
      raise ConfigurationError(f'batch_size={unrolls} has too many frames. Change --batch_size.')
    if self.replay_fraction and not 0 < replayed < total:
      raise ConfigurationError(
        f'replay_fraction={self.replay_fraction} of batch_size={unrolls} comes to {replayed} '
        f'replayed and {self.fresh_per_batch} new unrolls, and at least one of each is needed. '
        'Change --replay_fraction or --batch_size.'
      )

    if total % self.num_learners:
      raise ConfigurationError(
        f'replay_fraction={self.replay_fraction} beside batches of {self.fresh_per_batch} makes '
        f"them {total}, which num_learners={self.num_learners} can't share evenly. Change "
        '--replay_fraction or --batch_size.'
      )

  @property
  def _unrolls_of_learners(self) -> int:
    return self.batch_size * self.num_learners

  @property
  def replayed_per_batch(self) -> int:
    """Unrolls of each batch, of all learners together, that are drawn from the replay."""
    replayed = self._unrolls_of_learners * self.replay_fraction
    # Beside `batch_size` new unrolls, the replayed ones are this share of their sum.
    return round(replayed / (1 - self.replay_fraction) if self.replay_beside else replayed)

  @property
  def fresh_per_batch(self) -> int:
    """Unrolls of each batch, of all learners together, that actors have just sent."""
    return self._unrolls_of_learners - (0 if self.replay_beside else self.replayed_per_batch)

  @property
  def batch_total(self) -> int:
    """Unrolls of each batch, of all learners together, new and replayed ones."""
    return self.fresh_per_batch + self.replayed_per_batch

  @property
  def expected_lag(self) -> float:
    """Mean policy lag, in updates, that the actors of one process lead to."""
    return self.policy_lag + sizes.expected_lag(
      self.num_actors * self.envs_per_actor, self.fresh_per_batch, self.queue_capacity
    )

  @property
  def most_environments(self) -> int:
    """Number of environments of all actors above which the lag is longer than it should be."""
    return sizes.most_environments(self.fresh_per_batch, self.queue_capacity)

  @property
  def frames_per_update(self) -> int:
    """Frames that the learner's counter moves on by: those of the new unrolls of a batch."""
    return self.fresh_per_batch * self.unroll_length * self.num_action_repeats


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageConfig(Config):
  """The configuration of a suite whose observations are images of any size."""

  width: int = option(
    'width of an observed image in pixels; paper: 84 on Atari, 96 on DMLab-30', minimum=1
  )
  height: int = option(
    'height of an observed image in pixels; paper: 84 on Atari, 72 on DMLab-30', minimum=1
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackedImageConfig(ImageConfig):
  """The configuration of a suite that stacks images, and where actions may be sticky."""

  frame_stack: int = option(
    'most recent images in an observation, one for each agent step; paper: 4 on Atari', minimum=1
  )
  repeat_action_probability: float = option(
    'probability with which each frame of an Atari game, or step of an environment of Gymnasium, '
    'takes the action of the one before (sticky actions); paper: 0',
    default=0.0,
    minimum=0,
    below=1,
  )


def differences(a: Config, b: Config) -> list[tuple[str, Value, Value]]:
  """Returns how the learning of two runs differs: (name, value in `a`, in `b`)."""
  names = dict.fromkeys([*a.learning_fields(), *b.learning_fields()])
  rows = [(name, getattr(a, name, None), getattr(b, name, None)) for name in names]
  return [row for row in rows if row[1] != row[2]]


def field_of(name: str) -> dataclasses.Field:
  """Returns the option of a name, of `Config` or of a suite that is loaded.

  Raises:
    ConfigurationError: if there is none, with the nearest name.
  """
  known: dict[str, dataclasses.Field] = {}
  classes = [Config]
  for config_class in classes:
    classes += config_class.__subclasses__()
    known = {field.name: field for field in dataclasses.fields(config_class)} | known
  if name not in known:
    raise ConfigurationError(f'{name!r} is not a configuration option{suggestion(name, known)}.')
  return known[name]


def learning_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
  """Returns those of some options that decide what is learned."""
  return {
    name: value for name, value in overrides.items() if not field_of(name).metadata['runtime']
  }
