"""A suite of levels: everything that training and evaluation need to know of it, in one object.

    class MySuite(Suite):
      name = 'mine'

      def known_levels(self): return ['easy', 'hard']
      def preset(self, level): return Config(level_name=level, ...)
      def make_environment(self, level, seed, is_test, config): return partial(Mine, level)

    SUITE = MySuite()

`suites` says how the commands find it.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from impala_tf import structs
from impala_tf.config import Config, ConfigurationError, sizes
from impala_tf.config.options import did_you_mean, suggestion
from impala_tf.environments import base, trial
from impala_tf.system import machine

if TYPE_CHECKING:
  from impala_tf.agent import agents


class Suite:
  """A suite of levels; the base class of all of them.

  A subclass has a name, `known_levels` (or `find`, where levels can't be listed), `preset` and
  `make_environment`; the other methods have defaults, which serve a suite of one level after the
  other without reference scores.

  Attributes:
    name: word by which level names of the suite may begin, with a colon behind it; also the name of
      the level which stands for all of its levels, if there is one.
    config_class: the suite's configuration, `Config` or a subclass with options of its own.
    has_plain_names: whether its levels are found by their plain names, pong instead of
      atari57:pong. Configurations of its runs then have the plain name, too.
    claimed_names: pattern of plain names that no other suite is asked for, also where this one does
      not have such a level.
    presets: complete configurations with a name of their own, for --preset.
    shared_modules: what environment processes import, once for all of them. Such a module loads no
      TensorFlow, and has no thread and no file of its own once it is imported.
    usual_envs_per_actor: how many environments share their actor's calls of the network; 1 if an
      environment is as large as a process, or some of its steps take much longer than others.
  """

  name: str
  config_class: ClassVar[type[Config]] = Config
  has_plain_names: bool = False
  claimed_names: str = '(?!)'
  presets: ClassVar[Mapping[str, Config]] = {}
  shared_modules: ClassVar[Sequence[str]] = ()
  usual_envs_per_actor: int = 16

  # The levels and their configurations.

  def known_levels(self) -> Sequence[str]:
    """Returns names of levels, without the suite's name, to suggest and to look up."""
    return ()

  def find(self, level: str) -> str:
    """Returns the one name of a level, whose name may be in any spelling the suite knows.

    Args:
      level: without the suite's name.

    Raises:
      ConfigurationError: if the suite does not have it, with the nearest names.
    """
    known = self.known_levels()
    if level not in known:
      raise ConfigurationError(
        f'{level!r} is not a level of {self.name}. {did_you_mean(level, known)}'
      )
    return level

  def preset(self, level: str) -> Config:
    """Returns the complete configuration that a level has by default; `level` is from `find`."""
    raise NotImplementedError

  def configure(self, level_name: str, **overrides: Any) -> Config:
    """Returns the configuration of a run.

    Args:
      level_name: str, in any spelling; the suite's name, or the module's that has the suite, may
        stand before it.
      **overrides: fields that are other than the preset's.

    Raises:
      ConfigurationError: if the suite does not have the level or an option, or a value is refused.
    """
    names = self.config_class.field_names()
    for option in overrides:
      if option not in names:
        raise ConfigurationError(
          f'--{option} is not an option of {self.name}{suggestion(option, names)}. Leave it out.'
        )

    prefix, level = split_level_name(level_name)
    level = self.find(level)
    if prefix and not self.has_plain_names:
      level_name = f'{prefix}:{level}'
    else:
      level_name = level

    config = dataclasses.replace(self.preset(level), **{**overrides, 'level_name': level_name})
    return self.with_sizes(config)

  def with_sizes(self, config: Config) -> Config:
    """Returns the configuration with numbers of actors, environments and processes where it has 0.

    They follow from the machine's cores, the levels, and the bound on the policy lag, see
    `config.sizes`. The baselines of the paper have as many as their batches ask for.
    """
    unrolls = config.fresh_per_batch
    actors, environments = config.num_actors, config.envs_per_actor
    if config.architecture == 'a3c':
      environments = environments or config.batch_size
    elif config.architecture != 'impala':
      # One unroll of each environment is a batch.
      most = min(self.usual_envs_per_actor, unrolls)
      divisors = [n for n in range(1, most + 1) if unrolls % n == 0]
      environments = environments or (max(1, unrolls // actors) if actors else max(divisors))
      actors = actors or max(1, unrolls // environments)

    chosen = sizes.choose(
      machine.cores(),
      len(self.levels(config)),
      unrolls,
      most=config.most_environments,
      usual_envs_per_actor=self.usual_envs_per_actor,
      num_actors=actors,
      envs_per_actor=environments,
      processes_per_actor=config.processes_per_actor,
    )
    return dataclasses.replace(config, **chosen._asdict())

  def check(self, config: Config) -> None:
    """Raises `ConfigurationError` if the configuration does not go with the suite."""

  def check_installed(self, config: Config, names: Sequence[str] | None = None) -> None:
    """Raises `ConfigurationError` if something is missing that environments need: a module, a data
    set.

    Args:
      config: the run's.
      names: the levels that will be played; by default all of the run's.
    """

  def introduction(self, config: Config) -> str:
    """Returns what somebody who starts a training should know of its levels, as whole lines; empty
    if there is nothing.
    """
    del config
    return ''

  def levels(self, config: Config) -> tuple[str, ...]:
    """Returns the names of the levels that `config.level_name` stands for."""
    return (split_level_name(config.level_name)[1],)

  # Environment and agent.

  def make_environment(
    self, level: str, seed: int, is_test: bool, config: Config
  ) -> Callable[[], base.Environment]:
    """Returns a picklable function without arguments that makes an environment.

    Args:
      level: one of `levels`.
      seed: below 2**31.
      is_test: whether it serves an evaluation.
      config: the run's.
    """
    raise NotImplementedError

  def make_viewed_environment(
    self, level: str, seed: int, config: Config
  ) -> Callable[[], base.Environment]:
    """Returns a function as `make_environment` does, for an evaluation that is filmed or watched.

    By default it is that of any evaluation. The environment has a method `render`, see
    `viewed.ViewedEnvironment`.
    """
    return self.make_environment(level, seed, True, config)

  def check_pictures(self, config: Config) -> None:
    """Raises `ConfigurationError` if something is missing that films and windows need."""

  def num_actions(self, config: Config) -> int:
    """Returns the number of actions the agent chooses from.

    By default an environment of the first level is made for it, in a process of its own, and so for
    `observation_spec`.
    """
    return _facts(self, config)[0]

  def observation_spec(self, config: Config) -> structs.Observation:
    """Returns an Observation of `structs.ArraySpec`."""
    return _facts(self, config)[1]

  def make_agent(self, config: Config) -> 'agents.Agent':
    """Returns an agent whose variables are yet to be made.

    By default it is feed-forward: for images the paper's Atari agents (Section 5.3), for vectors
    two layers of 64, and the torso that --agent names if it is neither shallow nor deep.
    """
    from impala_tf.agent import agents

    is_vector = len(self.observation_spec(config).frame.shape) == 1
    network = config.agent
    if network == 'shallow':
      network = 'vector' if is_vector else 'nature'
    return agents.make_agent(
      self.num_actions(config),
      network=network,
      use_lstm=False,
      use_last_action_and_reward=False,
      use_instruction=False,
    )

  # How well an agent does.

  def scores(self, level_returns: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Returns how well an agent does on all the levels together, by names for TensorBoard; empty
    if the suite has no such score.

    Args:
      level_returns: for each of the run's levels its returns, at least one.
    """
    del level_returns
    return {}

  def fitness(self, level_returns: Mapping[str, Sequence[float]]) -> float:
    """Returns by what the members of a population are compared.

    That is the mean over the levels of their human-normalised scores in percent, each capped at
    100; where there are no references, as by default, the mean return in its own unit.
    """
    return float(np.mean([np.mean(returns) for returns in level_returns.values()]))

  # Evaluation: what results are called, and what they mean.

  def result_name(self, level: str) -> str:
    """Returns the name under which results of an evaluation have one of `levels`."""
    return level

  def protocol(self, config: Config) -> dict[str, str | int | float | bool]:
    """Returns what decides what the results of an evaluation mean, besides episodes, actions and
    seed; equal for all levels of an evaluation.
    """
    return {'num_action_repeats': config.num_action_repeats, 'score': 'mean return'}

  def describe(self, result_name: str, mean: float) -> str:
    """Returns a mean return on a common scale, as text to follow it; empty if there is none."""
    del result_name, mean
    return ''

  def score_columns(self) -> dict[str, Callable[[str, float], float | str]]:
    """Returns further columns of an evaluation's table, by name: functions of a level's
    `result_name` and its mean return.
    """
    return {}

  def summary(self, level_returns: Mapping[str, Sequence[float]]) -> str:
    """Returns the score of a whole evaluation as text, or why there is none.

    Args:
      level_returns: by `result_name`, those of the levels that are finished.
    """
    means = [float(np.mean(returns)) for returns in level_returns.values()]
    mean = np.mean(means or [np.nan])
    return f'Mean return over {len(level_returns)} levels: {mean:.2f}.'


def split_level_name(level_name: str) -> tuple[str, str]:
  """Returns what stands before the first colon, the name of a suite or of a module, and the level;
  the first is empty if there is none.
  """
  prefix, colon, level = level_name.partition(':')
  is_name = all(part.isidentifier() for part in prefix.split('.'))
  return (prefix, level) if colon and is_name else ('', level_name)


@functools.cache
def _facts(suite, config):
  make = suite.make_environment(suite.levels(config)[0], 0, False, config)
  return trial.run(_facts_of, make, modules=suite.shared_modules)


def _facts_of(make):
  with contextlib.closing(make()) as environment:
    return environment.num_actions, environment.observation_spec
