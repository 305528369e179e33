"""How an experiment of the paper is run: what the user asks for, and what of it is refused."""

import dataclasses
import math
from typing import Any

from impala_tf.cli import config_flags
from impala_tf.cluster import trainer
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.paper.kinds import Agents, Experiment, Method, Throughput
from impala_tf.pbt.population import Population
from impala_tf.sweeps import search_space
from impala_tf.sweeps.definition import Sweep
from impala_tf.system import machine


@dataclasses.dataclass(frozen=True)
class PaperSettings:
  """How an experiment is run.

  Attributes:
    scale: share of the paper's frames.
    levels: names in place of the experiment's own, None for those.
    trials: number of samples, or of members of a population.
    space: distributions by field, as texts; None for the paper's Table D.1.
    sweep_seed: decides the samples.
    given: further hyper-parameters of all methods, by name.
    parallel: number of trials of a sweep at a time.
    episodes: number of episodes of an evaluation of each level, None for the paper's.
    benchmark: further arguments of the benchmark.
    fake_environment: whether throughput is that of environments that cost nothing.
    time_slice: seconds that each member of a population trains in turn, None for all side by side.
    cluster: how each training is run, see `trainer`.
  """

  scale: float = 1.0
  levels: tuple[str, ...] | None = None
  trials: int = 24
  space: dict[str, str] | None = None
  sweep_seed: int = 1
  given: dict[str, Any] = dataclasses.field(default_factory=dict)
  parallel: int = 1
  episodes: int | None = None
  benchmark: tuple[str, ...] = ()
  fake_environment: bool = False
  time_slice: float | None = None
  cluster: str | None = None

  def hyper_parameters(self, method: Method) -> dict[str, Any]:
    """Returns what is given to the runs of a method.

    The method's environments are shared out among the actor processes of a cluster on this machine;
    actors elsewhere have what they are started with.
    """
    cluster = self.cluster_of(method)
    if cluster is None:
      return method.hyper_parameters(self.given)
    values = dataclasses.replace(method, environments=None).hyper_parameters(self.given)
    own = {'num_actors', 'envs_per_actor'} & self.given.keys()
    if own or trainer.has_one_address(cluster) or not isinstance(method.environments, int):
      return values
    actors = math.ceil(method.environments / int(cluster))
    return values | {'num_actors': actors, 'envs_per_actor': 1}

  @property
  def distributions(self) -> search_space.Space:
    """Returns the distributions of the hyper-parameters."""
    return search_space.from_texts(self.space) if self.space else search_space.TABLE_D1

  def cluster_of(self, method: Method) -> str | None:
    """Returns how the trainings of a method are run: without actors elsewhere if it has no form for
    them.
    """
    return self.cluster if self._has_cluster_form(method) else None

  def _has_cluster_form(self, method):
    return (self.given | method.given).get('architecture', 'impala') == 'impala'

  def left_out(self, experiment: Experiment, method: Method) -> str | None:
    """Returns why a method is not run, a text after 'as'; None if it is."""
    if not isinstance(experiment, Agents) or method.trainer == 'experts':
      return None
    if self.levels:
      return f'it is one agent for all levels, and --levels={",".join(self.levels)} was given'
    cards = method.given.get('num_learners', 1)
    if cards > 1 and len(machine.visible_cards()) < cards:
      return f'its {cards} learners have a graphics card each: run it where there are as many'
    one_address = trainer.has_one_address(self.cluster_of(method))
    if method.trainer == 'population' and one_address and self.time_slice is None:
      return (
        f'members train side by side, and at --cluster={self.cluster} is room for one learner; '
        'let them take --time_slice'
      )
    return None

  def levels_of(self, experiment: Experiment, method: Method) -> tuple[str, ...]:
    """Returns the levels of a method's runs; the suite's name stands for all of its own."""
    if self.left_out(experiment, method):
      return ()
    if not isinstance(experiment, Agents):
      return self.levels or experiment.levels
    if method.trainer != 'experts':
      return (experiment.suite,)
    if self.levels:
      return self.levels
    suite, config = suites.resolve(experiment.suite)
    return suite.levels(config)

  def check(self, experiment: Experiment) -> None:
    """Refuses what a part of an experiment would refuse after others had run.

    Raises:
      ConfigurationError: with the remedy.
    """
    if self.cluster is not None:
      self._check_cluster(experiment)
    for method in experiment.methods:
      levels = self.levels_of(experiment, method)
      if not levels:
        continue
      given = self.hyper_parameters(method)
      if isinstance(experiment, Agents) and method.trainer == 'population':
        Population(given=given, space=search_space.as_texts(self.distributions))
      elif method.trainer == 'sweep' and not isinstance(experiment, Throughput):
        Sweep(given, self.distributions)
      for level in levels:
        trainer.check_training(self.cluster_of(method), given | {'level_name': level})

  def _check_cluster(self, experiment):
    if isinstance(experiment, Throughput):
      raise ConfigurationError(
        f'--cluster={self.cluster}: {experiment.name} measures what one machine does. Leave '
        '--cluster out; `python -m impala_tf.benchmark cluster` measures the way between processes.'
      )

    alone = [method.label for method in experiment.methods if not self._has_cluster_form(method)]
    if len(alone) == len(experiment.methods):
      raise ConfigurationError(
        f'--cluster={self.cluster}: all methods of {experiment.name} keep actors and learner in '
        'step in one process. Leave --cluster out.'
      )

    trainer.check(self.cluster, at_a_time=self.parallel)
    if alone:
      print(f'# On this machine alone, as they have no form for a cluster: {"; ".join(alone)}.')

  def arguments(self, method: Method, level: str, frames: int) -> list[str]:
    """Returns the command line of a method on a level, without what is peculiar to a command."""
    return config_flags.arguments(
      self.hyper_parameters(method) | {'level_name': level, 'total_environment_frames': frames}
    )
