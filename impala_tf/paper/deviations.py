"""Settings of runs that are other than those of the paper's experiment."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from impala_tf.config import Config, ConfigurationError
from impala_tf.environments import suites
from impala_tf.paper.kinds import Method
from impala_tf.pbt.population import Population
from impala_tf.pbt.rules import Rules
from impala_tf.sweeps import search_space
from impala_tf.sweeps.definition import Sweep

# Those that each table has in a column or a sentence of its own, and that no paper has.
_SHOWN = ('level_name', 'total_environment_frames', 'seed')


class Deviations:
  """Deviations of an experiment's methods, gathered for its report.

  Each run adds its own:

      deviations.add(method, level, config)
      print(deviations.text())
  """

  def __init__(self):
    """Knows of no runs yet."""
    self._labels: list[tuple[str, str]] = []  # Of methods, with the group that each is of.
    self._found: dict[str, list[tuple[str, str]]] = {}

  def add(self, method: Method, level: str, ours: Config | Mapping[str, Any]) -> None:
    """Compares the configuration of a run with that of the method on the level by default.

    Args:
      method: of the experiment.
      level: its name. The paper's settings are those of its suite.
      ours: the run's. Fields that it lacks are not compared.
    """
    try:
      _, theirs = suites.resolve(level, **method.hyper_parameters({}))
    except ConfigurationError:  # Its suite is not installed here.
      return

    self._note(method)
    ours = dataclasses.asdict(ours) if isinstance(ours, Config) else ours
    for name in theirs.learning_fields():
      if name in ours and name not in _SHOWN:
        self._compare(name, ours[name], getattr(theirs, name))

    if {'num_actors', 'envs_per_actor'} <= ours.keys():
      actors = ours['num_actors'], ours['envs_per_actor']
      self._compare(
        'environments of a process',
        actors[0] * actors[1],
        theirs.num_actors * theirs.envs_per_actor,
      )
      self._compare('environments of an actor', actors[1], theirs.envs_per_actor)

  def add_sweep(self, method: Method, level: str, sweep: Sweep) -> None:
    """Compares a sweep with the paper's: its hyper-parameters, space and number of trials.

    Args:
      method, level: as for `add`.
      sweep: what was run.
    """
    try:
      _, config = suites.resolve(**{'level_name': level} | sweep.given)
    except ConfigurationError:
      return

    space = search_space.as_texts(sweep.space)
    self._add_with_space(method, level, dataclasses.asdict(config), space)
    self._compare('trials', sweep.num_trials, Sweep.num_trials)

  def add_population(self, method: Method, config: Config, population: Population) -> None:
    """Compares a population with the paper's: its size and rules, the space of its first
    hyper-parameters, and those that all members have in common.

    Args:
      method: as for `add`.
      config: of one of the members.
      population: what was run.
    """
    ours = dataclasses.asdict(config)
    del ours['learning_rate_decay']  # Which is none in all populations.
    self._add_with_space(method, config.level_name, ours, population.space)
    self._compare('members', population.population, Population.population)
    for name, theirs in dataclasses.asdict(Rules()).items():
      self._compare(name, getattr(population.rules, name), theirs)

  def _add_with_space(self, method, level, ours, space):
    """Compares what was not drawn from a space, and the space, whose distributions are texts."""
    theirs = search_space.as_texts(search_space.TABLE_D1)
    self.add(method, level, {k: v for k, v in ours.items() if k not in space | theirs})
    self._note(method)
    for name in theirs:
      if name not in space:  # All runs have the same, which the paper drew.
        self._compare(name, ours[name], None, of_paper='drawn')
    as_text = lambda space: '; '.join(f'{name}={form}' for name, form in space.items())
    self._compare('search space', as_text(space), as_text(theirs), of_paper='that of Table D.1')

  def _note(self, method):
    self._label = method.label, method.group
    if self._label not in self._labels:
      self._labels.append(self._label)

  def _compare(self, name, ours, theirs, of_paper=None):
    if ours != theirs:
      labels = self._found.setdefault(f'{name} {ours}, not {of_paper or theirs}', [])
      if self._label not in labels:
        labels.append(self._label)

  def text(self) -> str:
    """Returns all of them in a sentence or two, the empty text if there are no runs."""
    if not self._labels:
      return ''
    if not self._found:
      return "All settings are the paper's, or this project's where the paper has none."
    by_labels: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for text, labels in self._found.items():
      by_labels.setdefault(tuple(labels), []).append(text)
    of_all = by_labels.pop(tuple(self._labels), [])
    sentences = [f"Settings other than the paper's: {'; '.join(of_all)}."] if of_all else []
    for of_some, texts in by_labels.items():
      sentences.append(
        f"Settings of {self._names(of_some)} other than the paper's: {'; '.join(texts)}."
      )
    return ' '.join(sentences)

  def _names(self, labels):
    """Returns the names of some methods, those of a whole group as the group's."""
    names = []
    for label, group in labels:
      whole = group and {of for of in self._labels if of[1] == group} <= set(labels)
      names.append(f'"{group}"' if whole else f'{label} ({group})' if group else label)
    return ', '.join(dict.fromkeys(names))
