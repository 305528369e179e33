"""The configuration of a run as one frozen dataclass.

    config = dataclasses.replace(atari57.presets.EXPERT, level_name='seaquest', batch_size=16)
    print(config)

The suites supply complete presets with the paper's values. This module imports no TensorFlow, as
environment processes load it.
"""

import dataclasses
import difflib
import importlib
import json
import math
import typing
from typing import Any

from impala_tf import errors, machine


class ConfigurationError(errors.UserError, ValueError):
  """A setting that a run can't go with; the message says which, why, and what to do."""


def _field(
  help, default=dataclasses.MISSING, default_factory=dataclasses.MISSING, resumable=False, **limits
):
  """A dataclass field with metadata: help (str), resumable (bool), and the limits that apply.

  The limits are minimum and maximum (allowed themselves), above and below (not allowed themselves),
  choices, and for text may_be_empty and may_be_reference (see `import_reference`).
  """
  metadata = {'help': help, 'resumable': resumable, **limits}
  return dataclasses.field(default=default, default_factory=default_factory, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Everything that defines a run.

  Frames are emulator frames, action repeats counted; steps are the agent's; updates are the
  learner's. The fields marked resumable leave alone what is learned, and may differ when a run is
  resumed. Metadata of each field: see `_field`.

  Raises:
    ConfigurationError: for a value of the wrong type or outside its limits.
  """

  level_name: str = _field(
    'level to train on; atari57, dmlab30 or some games (pong+breakout) for one agent on all of them'
  )
  agent: str = _field("network: the paper's shallow or deep one", choices=('shallow', 'deep'))
  total_environment_frames: int = _field('frames of the whole training', minimum=1)
  batch_size: int = _field('unrolls in each update, of each learner', minimum=1)
  unroll_length: int = _field('agent steps in each unroll', minimum=1)
  num_action_repeats: int = _field('frames for which each action is repeated', minimum=1)
  seed: int = _field('of weights, actions and environments', minimum=0, maximum=2**31 - 1)
  entropy_cost: float = _field('weight of the entropy bonus', minimum=0)
  baseline_cost: float = _field('weight of the baseline loss', minimum=0)
  discounting: float = _field('discount of rewards per agent step', minimum=0, maximum=1)
  reward_clipping: str = _field(
    'transform of rewards in the loss',
    choices=('abs_one', 'soft_asymmetric', 'optimistic_asymmetric'),
    may_be_reference=True,
  )
  learning_rate: float = _field('at frame 0', minimum=0)
  decay: float = _field("of RMSProp's mean square, per update", minimum=0, maximum=1)
  momentum: float = _field('of RMSProp, per update', minimum=0, below=1)
  epsilon: float = _field("added to RMSProp's mean square, under the root", above=0)
  clip_global_norm: float | None = _field(
    "largest norm of an update's gradient; none means no clipping", above=0
  )
  width: int = _field('of the observed frame, in pixels', minimum=1)
  height: int = _field('of the observed frame, in pixels', minimum=1)
  frame_stack: int = _field('most recent frames in an observation, one per agent step', minimum=1)
  max_noops: int = _field(
    'emulator frames of no-ops, from 1 to this many, with which a game of Atari starts; 0 for none',
    minimum=0,
  )
  full_action_space: bool = _field(
    "all 18 of Atari's actions instead of those the game uses", default=False
  )
  learning_rate_decay: str = _field(
    'how the learning rate goes to 0 over the training, or none: it stays',
    default='linear',
    choices=('linear', 'none'),
  )
  repeat_action_probability: float = _field(
    "with which each frame (of Gymnasium's environments, each step) takes the action of the one before (sticky actions)",
    default=0.0,
    minimum=0,
    below=1,
  )

  # What the loss makes of actions that an older policy chose (Section 5.2.2); the defaults are the
  # paper's.
  correction: str = _field(
    'for actions of older policies: V-trace, or what the paper compares it with',
    default='vtrace',
    choices=('vtrace', 'one_step_is', 'epsilon', 'none'),
    may_be_reference=True,
  )
  extra_loss: str = _field(
    'function of an installed package whose result is added to the loss, such as '
    'my_package.losses:my_term; empty for none',
    default='',
    may_be_empty=True,
    may_be_reference=True,
  )
  clip_rho_threshold: float | None = _field(
    "rho-bar of V-trace's targets; none means no clipping", default=1.0, above=0
  )
  clip_c_threshold: float | None = _field(
    "c-bar of V-trace's traces; none means no clipping. The theory asks for at most rho-bar",
    default=1.0,
    above=0,
  )
  clip_pg_rho_threshold: float | None = _field(
    "of the importance ratios in the policy's gradient; none means no clipping",
    default=1.0,
    above=0,
  )
  lambda_: float = _field('scales the traces of the targets', default=1.0, minimum=0, maximum=1)
  q_estimate: str = _field(
    "of the action's value in the policy's gradient: r + gamma v, with the target of the next state, or with its baseline",
    default='target',
    choices=('target', 'baseline'),
  )

  # How actors and learner work together: the paper's, or one of the baselines that it is measured
  # against (Table 1).
  architecture: str = _field(
    'actors ahead of the learner (impala); all in step, step by step or unroll by unroll (a2c); actors with gradients (a3c)',
    default='impala',
    choices=('impala', 'a2c_sync_step', 'a2c_sync_trajectories', 'a3c'),
  )
  policy_lag: int = _field(
    'updates by which the weights of actors are held back, to learn from older policies than need be',
    default=0,
    minimum=0,
  )
  # Section 5.2.2 and Table D.3. "50% of the items in each batch" can be read in two ways.
  replay_fraction: float = _field(
    'share of each batch drawn from earlier unrolls; 0 for none', default=0.0, minimum=0, below=1
  )
  replay_capacity: int = _field(
    'unrolls that are kept for it, the oldest going first', default=10_000, minimum=1
  )
  replay_beside: bool = _field(
    'replayed unrolls come beside batch_size new ones, instead of taking the place of some of them',
    default=False,
  )

  precision: str = _field(
    'of the network up to its features, for images; bfloat16 is faster, and takes a processor with AVX-512',
    default='float32',
    choices=('float32', 'bfloat16'),
  )
  num_learners: int = _field(
    'learners in step, each on a device of this host and with a batch of its own',
    default=1,
    minimum=1,
  )
  jit_compile: bool = _field(
    "compile the learner's update by XLA, for GPUs", default=False, resumable=True
  )

  # Two for each core keep the processor busy: one acts while the other's environments step.
  # Environments share their actor's calls of the network, which makes a step much cheaper up to
  # about 16.
  num_actors: int = _field(
    'actors, each a thread with a process of environments',
    default_factory=lambda: 2 * machine.cores(),
    minimum=1,
    resumable=True,
  )
  envs_per_actor: int = _field('environments of each actor', default=16, minimum=1, resumable=True)
  # As in the authors' code: what waits in a longer queue was made by an older policy.
  queue_capacity: int = _field(
    'finished unrolls that may wait for the learner', default=1, minimum=1, resumable=True
  )
  checkpoint_interval: float = _field(
    'seconds between checkpoints', default=300.0, above=0, resumable=True
  )
  summary_interval: float = _field(
    'seconds between summaries', default=30.0, above=0, resumable=True
  )

  inference: str = _field(
    'each actor runs the network itself (own), or all wait for one batch (shared); auto: shared on a GPU, in one process with '
    'impala or a2c_sync_trajectories',
    default='auto',
    choices=('auto', 'own', 'shared'),
    resumable=True,
  )
  inference_maximum_batch: int = _field(
    'shared inference: observations at a time', default=1024, minimum=1, resumable=True
  )
  inference_timeout_ms: float = _field(
    'shared inference: milliseconds for which a batch waits for more observations; with 0 it takes those that are there',
    default=0.0,
    minimum=0,
    resumable=True,
  )

  # What DeepMind Lab needs of the machine; of no concern to other suites.
  dataset_path: str = _field(
    'folder of the images that some psychlab levels show',
    default='',
    may_be_empty=True,
    resumable=True,
  )
  level_cache_dir: str = _field(
    'folder where compiled maps are kept, empty for none; any path that TensorFlow can write',
    default='',
    may_be_empty=True,
    resumable=True,
  )
  level_cache_max_gigabytes: float = _field(
    'size of that folder above which the maps used longest ago go',
    default=20.0,
    above=0,
    resumable=True,
  )
  renderer: str = _field(
    'what draws the frames: the processor or a graphics card',
    default='software',
    choices=('software', 'hardware'),
    resumable=True,
  )

  def __post_init__(self):
    """Checks every field.

    Whole numbers in float fields become floats, so that equal settings print equal.
    """
    for field in dataclasses.fields(self):
      value = _typed(field, getattr(self, field.name))
      object.__setattr__(self, field.name, value)
      if value is not None:
        _check_limits(field, value)
    self._check_replay()

  def _check_replay(self):
    unrolls, replayed, total = self._unrolls_of_learners, self.replayed_per_batch, self.batch_total
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
  def frames_per_update(self) -> int:
    """Frames that the learner's counter moves on by: those of the new unrolls of a batch."""
    return self.fresh_per_batch * self.unroll_length * self.num_action_repeats

  def __str__(self):
    """A line for each field: name, value, meaning."""
    rows = [
      (f.name, as_text(getattr(self, f.name)), f.metadata['help']) for f in dataclasses.fields(self)
    ]
    name_width, value_width = (max(len(row[i]) for row in rows) for i in (0, 1))
    return '\n'.join(
      f'{name:{name_width}}  {value:{value_width}}  {help}' for name, value, help in rows
    )

  def to_json(self):
    """The fields as the text of a JSON object; `from_json` undoes it."""
    return json.dumps(dataclasses.asdict(self), indent=2) + '\n'

  @classmethod
  def from_json(cls, text):
    """The Config that `to_json` made `text` from; fields that an older version did not have take
    their defaults.

    Raises:
      ConfigurationError: if it is no JSON object, has a field too many or too few, or a value is
        refused.
    """
    try:
      values = json.loads(text)
    except json.JSONDecodeError as error:
      raise ConfigurationError(f'Not a configuration: {error} in {_shortened(text)!r}.') from error
    if not isinstance(values, dict):
      raise ConfigurationError(
        f'Not a configuration but a JSON {type(values).__name__}: {_shortened(text)!r}.'
      )
    if values.pop('inference_minimum_batch', None) is not None:
      # Of an older version, whose time-out was that of a batch below the minimum.
      values.pop('inference_timeout_ms', None)
    names = [field.name for field in dataclasses.fields(cls)]
    has_default = lambda field: (
      (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
    )
    required = [field.name for field in dataclasses.fields(cls) if not has_default(field)]
    unknown = [name + _suggestion(name, names) for name in values if name not in names]
    missing = [name for name in required if name not in values]
    if unknown or missing:
      problems = [f'unknown: {", ".join(unknown)}'] * bool(unknown) + [
        f'missing: {", ".join(missing)}'
      ] * bool(missing)
      raise ConfigurationError(
        f'The fields of the configuration are not those of this version ({"; ".join(problems)}). Correct them, or use the '
        'version that wrote it.'
      )
    return cls(**values)


def field_of(name):
  """The `dataclasses.Field` of a name.

  Raises:
    ConfigurationError: if there is none, with the nearest name.
  """
  fields = {field.name: field for field in dataclasses.fields(Config)}
  if name not in fields:
    raise ConfigurationError(
      f'{name!r} is no field of the configuration{_suggestion(name, fields)}.'
    )
  return fields[name]


def check_value(name, value):
  """A value of one field as Config would keep it.

  Raises:
    ConfigurationError: if it is of the wrong type or outside the field's limits.
  """
  field = field_of(name)
  value = _typed(field, value)
  if value is not None:
    _check_limits(field, value)
  return value


def parse(name, text):
  """The value of one field that a text means, checked.

  Raises:
    ConfigurationError: if the text means no value of the field.
  """
  types = typing.get_args(field_of(name).type) or (field_of(name).type,)
  words = (
    {'none': None}
    if type(None) in types
    else {'true': True, 'false': False}
    if bool in types
    else {}
  )
  text = text.strip()
  if text.lower() in words:
    value = words[text.lower()]
  elif types[0] in (int, float):
    try:
      value = types[0](text)
    except ValueError:
      wanted = (
        'neither a number nor none'
        if words
        else 'not a whole number'
        if types[0] is int
        else 'not a number'
      )
      raise ConfigurationError(f'--{name}={text} is {wanted}.') from None
  else:
    value = text
  return check_value(name, value)


def import_reference(name: str, text: str) -> Any:
  """Imports what a field's text such as 'package.module:function' names.

  Args:
    name: of the field, for messages.
    text: the dotted name of a module that can be imported, a colon, and a name in that module.

  Raises:
    ConfigurationError: if there is no such module, or nothing of that name in it.
  """
  module, _, attribute = text.partition(':')
  try:
    return getattr(importlib.import_module(module), attribute)
  except (ImportError, AttributeError, ValueError) as error:
    raise ConfigurationError(
      f'{name}={text!r} can not be imported: {error}. Write it as package.module:function, and '
      'install the package or put its folder on PYTHONPATH.'
    ) from error


def differences(a, b):
  """What sets two runs apart: a list of (name, value in `a`, value in `b`), resumable fields left
  out.
  """
  return [
    (name, getattr(a, name), getattr(b, name))
    for name in lasting_fields()
    if getattr(a, name) != getattr(b, name)
  ]


def lasting_fields():
  """The names of the fields that are not resumable, a list."""
  return [field.name for field in dataclasses.fields(Config) if not field.metadata['resumable']]


def lasting(given):
  """Those of a dict of fields that are not resumable."""
  return {name: value for name, value in given.items() if not field_of(name).metadata['resumable']}


def as_text(value):
  """The value of a field, for people to read."""
  if value is None:
    return 'none'
  if type(value) is int:
    return f'{value:_}'
  return str(value) or "''"


def _typed(field, value):
  types = typing.get_args(field.type) or (field.type,)
  # bool is an int to Python, but a flag given as a number is a mistake.
  if type(value) in types:
    return value
  if float in types and type(value) is int:
    return float(value)
  names = ' or '.join('none' if t is type(None) else t.__name__ for t in types)
  hint = (
    f'; write {int(value)}'
    if int in types and isinstance(value, float) and value.is_integer()
    else ''
  )
  raise ConfigurationError(
    f'{field.name}={value!r} is of type {type(value).__name__}, but {field.name} ({field.metadata["help"]}) must be of '
    f'type {names}{hint}.'
  )


def _check_limits(field, value):
  limits = field.metadata
  if isinstance(value, str) and not value.strip() and not limits.get('may_be_empty'):
    reason = 'must not be empty'
  elif limits.get('may_be_reference') and ':' in value:
    import_reference(field.name, value)
    return
  elif 'choices' in limits and value not in limits['choices']:
    reason = f'must be one of {", ".join(limits["choices"])}{_suggestion(value, limits["choices"])}'
  elif isinstance(value, float) and not math.isfinite(value):
    reason = 'must be a finite number'
  elif 'minimum' in limits and value < limits['minimum']:
    reason = f'must be at least {limits["minimum"]}'
  elif 'maximum' in limits and value > limits['maximum']:
    reason = f'must be at most {limits["maximum"]}'
  elif 'above' in limits and value <= limits['above']:
    reason = f'must be above {limits["above"]}'
  elif 'below' in limits and value >= limits['below']:
    reason = f'must be below {limits["below"]}'
  else:
    return
  raise ConfigurationError(
    f'{field.name}={value!r} ({limits["help"]}) {reason}. Change --{field.name}.'
  )


def _suggestion(name, choices):
  matches = difflib.get_close_matches(name, choices, n=1)
  return f' (did you mean {matches[0]}?)' if matches else ''


def _shortened(text):
  return text if len(text) <= 60 else text[:60] + '...'
