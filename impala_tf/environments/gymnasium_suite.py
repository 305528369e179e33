"""Any Gymnasium environment with discrete actions, as a level: `gymnasium:CartPole-v1`."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from impala_tf import structs
from impala_tf.config import ConfigurationError
from impala_tf.config.options import import_module
from impala_tf.environments import base, trial
from impala_tf.environments.gymnasium_presets import GymnasiumConfig, module_of, values_of
from impala_tf.environments.py_process import ProcessError
from impala_tf.environments.suite import Suite, split_level_name

if TYPE_CHECKING:
  from impala_tf.agent import agents
  from impala_tf.environments import gymnasium_spaces


class _Facts(NamedTuple):
  """The number of actions and the observations of an environment, by its own account."""

  num_actions: int
  observation_spec: structs.Observation
  space: 'gymnasium_spaces.ObservationSpace'
  max_episode_steps: int | None


class GymnasiumSuite(Suite):
  """Suite of single levels, or of several whose spaces agree, with '+' between.

  The name of a level is what `gymnasium.make` takes; a module that registers the environment may
  precede it, as in `gymnasium:highway_env:highway-v0`.
  """

  name = 'gymnasium'
  config_class = GymnasiumConfig
  shared_modules = ('impala_tf.environments.gymnasium_environment',)

  def known_levels(self) -> Sequence[str]:
    """Returns an example: the names have no end."""
    return ('CartPole-v1',)

  def find(self, level: str) -> str:
    """Returns the name, or names with '+' between, with the modules that register them.

    Raises:
      ConfigurationError: with Gymnasium's own words if it does not have one of them.
    """
    names = [name.strip().removeprefix(f'{self.name}:') for name in level.split('+')]
    return '+'.join(_find(name) for name in names)

  def preset(self, level: str) -> GymnasiumConfig:
    """Returns the values of the first of the levels; the frames are those of all of them."""
    first, *others = level.split('+')
    config = values_of(first.rpartition(':')[2])
    count = 1 + len(others)
    return dataclasses.replace(
      config,
      level_name=f'{self.name}:{level}',
      total_environment_frames=count * config.total_environment_frames,
    )

  def check(self, config: GymnasiumConfig) -> None:
    """Makes each environment once.

    Raises:
      ConfigurationError: if one can't be made, or their spaces are not for one agent.
    """
    facts = _facts_of(self, config)
    if not facts.space.is_image:
      for field, value in (('agent', 'shallow'), ('frame_stack', 1), ('precision', 'float32')):
        if getattr(config, field) != value and ':' not in str(getattr(config, field)):
          raise ConfigurationError(
            f'{config.level_name} gives vectors, and {field}={getattr(config, field)} is for '
            f'images. Take --{field}={value}. What it gives:\n{facts.space}'
          )

  def introduction(self, config: GymnasiumConfig) -> str:
    """Returns what the agent sees of an observation, and the time limit."""
    facts = _facts_of(self, config)
    limit = facts.max_episode_steps
    lines = [
      'An observation, and what the agent takes it for:',
      *(f'  {line}' for line in str(facts.space).splitlines()),
      f'Episodes are cut after {limit:_} steps.'
      if limit
      else 'Gymnasium knows of no time limit of its episodes; --max_episode_steps sets one.',
    ]
    if 'ALE/' in config.level_name:
      lines.append(
        "The paper's protocol for Atari is another one: --level_name=pong, and so on, has it. Here "
        'a frame is a step of the environment, four emulator frames.'
      )

    return '\n'.join(lines)

  def levels(self, config: GymnasiumConfig) -> tuple[str, ...]:
    """Returns the levels, each with the suite's name before it."""
    prefix, names = split_level_name(config.level_name)
    return tuple(f'{prefix}:{name}' for name in names.split('+'))

  def make_environment(
    self, level: str, seed: int, is_test: bool, config: GymnasiumConfig
  ) -> Callable[[], base.Environment]:
    """Returns a constructor of `gymnasium_environment.GymnasiumEnvironment`."""
    del is_test
    return self._constructor(level, seed, config, config.arguments())

  def make_viewed_environment(
    self, level: str, seed: int, config: GymnasiumConfig
  ) -> Callable[[], base.Environment]:
    """Returns such a constructor, of an environment that gives pictures."""
    arguments = {**config.arguments(), 'render_mode': 'rgb_array'}
    return self._constructor(level, seed, config, arguments)

  def check_pictures(self, config: GymnasiumConfig) -> None:
    """Lets the first level draw once.

    Raises:
      ConfigurationError: if it can't, as a package is missing, such as pygame for CartPole-v1, or
        as it has no pictures.
    """
    try:
      trial.run(_draw_once, self, config, modules=self.shared_modules)
    except ProcessError as error:
      raise ConfigurationError(f'{self.levels(config)[0]} can not be drawn: {error}') from error

  def _constructor(self, level, seed, config, env_kwargs):
    from impala_tf.environments import gymnasium_environment

    return functools.partial(
      gymnasium_environment.GymnasiumEnvironment,
      split_level_name(level)[1],
      seed,
      num_action_repeats=config.num_action_repeats,
      frame_stack=config.frame_stack,
      height=config.height,
      width=config.width,
      image_values=config.image_values,
      repeat_action_probability=config.repeat_action_probability,
      max_episode_steps=config.max_episode_steps,
      env_kwargs=env_kwargs,
    )

  def protocol(self, config: GymnasiumConfig) -> dict[str, str | int | float | bool]:
    """Returns how episodes are played."""
    return {
      **super().protocol(config),
      'max_episode_steps': config.max_episode_steps or "the environment's own",
      'repeat_action_probability': config.repeat_action_probability,
      'env_kwargs': config.env_kwargs,
    }

  def num_actions(self, config: GymnasiumConfig) -> int:
    """Returns as many as the environment has; ConfigurationError if it can't be made."""
    return _facts_of(self, config).num_actions

  def observation_spec(self, config: GymnasiumConfig) -> structs.Observation:
    """Returns that of the environment; ConfigurationError if it can't be made."""
    return _facts_of(self, config).observation_spec

  def make_agent(self, config: GymnasiumConfig) -> 'agents.Agent':
    """Returns an agent whose variables are yet to be made.

    Its torso is one of the paper's for images of pixels (Section 5.3), small convolutions or the
    deep torso for codes, and two layers of 64 for numbers alone. With --use_lstm it is the paper's
    agent of Figure 3.
    """
    from impala_tf.agent import agents, networks

    facts = _facts_of(self, config)
    space, spec = facts.space, facts.observation_spec
    numbers = networks.VectorTorso(space.bounds if config.scale_numbers else None)
    torso: Any = config.agent
    if not space.is_image:
      torso = numbers if torso == 'shallow' else torso
    elif config.image_values == 'codes':
      torso = {'shallow': networks.CodesTorso(), 'deep': networks.DeepTorso(of_codes=True)}.get(
        torso, torso
      )
    elif torso == 'shallow':
      torso = 'nature'

    has_text, has_numbers = bool(spec.instruction), bool(spec.numbers)
    return agents.make_agent(
      facts.num_actions,
      network=torso,
      use_lstm=config.use_lstm,
      use_last_action_and_reward=config.use_lstm,
      use_instruction=has_text,
      numbers_encoder=numbers if has_numbers else None,
      use_mixer=(has_text or has_numbers) and not config.use_lstm,
    )


def _find(level):
  """Returns the name of one environment with its module; ConfigurationError if there is none."""
  import gymnasium  # It takes a moment, and concerns these levels alone.

  module, _, registered = level.rpartition(':')
  module = module or module_of(registered)
  try:
    if module:
      import_module(module)  # As `gymnasium.make` does, and `gymnasium.spec` does not.
    gymnasium.spec(registered)
  except (gymnasium.error.Error, ConfigurationError, ValueError, TypeError) as error:
    raise ConfigurationError(
      f'Gymnasium has no environment {level!r}: {error} One of another package is named with the '
      "module that registers it, such as 'gymnasium:highway_env:highway-v0'."
    ) from error

  return f'{module}:{registered}' if module else registered


@functools.cache
def _facts_of(suite, config):
  """Returns the `_Facts` of the run's levels; ConfigurationError unless they agree."""
  try:
    facts = trial.run(_play_once, suite, config, modules=suite.shared_modules)
  except ProcessError as error:
    raise ConfigurationError(f'{config.level_name} can not be played: {error}') from error

  first, *others = facts
  for level, other in zip(suite.levels(config)[1:], others, strict=True):
    if other[:2] != first[:2]:
      raise ConfigurationError(
        f'{config.level_name}: one agent for all needs the same actions and observations in each. '
        f'The first has {first.num_actions} actions and\n{first.space}\nbut {level} has '
        f'{other.num_actions} actions and\n{other.space}'
      )
  return first


def _play_once(suite, config):
  """Makes each environment and takes a step, so that what is wrong is seen at the start."""
  facts = []
  for level in suite.levels(config):
    _check_registered(level)
    given = f' with the arguments {config.env_kwargs}' if config.env_kwargs else ''
    with (
      _refusing(f'{level} can not be played{given}'),
      contextlib.closing(suite.make_environment(level, 0, False, config)()) as environment,
    ):
      environment.reset()
      environment.step(0)
      facts.append(
        _Facts(
          environment.num_actions,
          environment.observation_spec,
          environment.space,
          environment.max_episode_steps,
        )
      )
  return facts


def _check_registered(level):
  """Refuses a name that only the main program has registered."""
  import gymnasium

  module, _, name = split_level_name(level)[1].rpartition(':')
  if not module and name not in gymnasium.registry:
    raise ConfigurationError(
      f'{level} is registered by this program, and processes of environments are others. Register '
      f'it in a module, and name that before it: gymnasium:my_module:{name}.'
    )


def _draw_once(suite, config):
  level = suite.levels(config)[0]
  with (
    _refusing(f'{level} can not be drawn', ' Leave --record_video and --render out, or mend it.'),
    contextlib.closing(suite.make_viewed_environment(level, 0, config)()) as environment,
  ):
    environment.reset()
    environment.render()


@contextlib.contextmanager
def _refusing(what, remedy=''):
  """Makes a ConfigurationError of any other, as environments run code of their own."""
  try:
    yield
  except ConfigurationError:
    raise
  except Exception as error:
    raise ConfigurationError(f'{what}: {type(error).__name__}: {error}{remedy}') from error


SUITE = GymnasiumSuite()
