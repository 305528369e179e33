"""Environments as the actors see them: several of one level in one process, reset within the step
that ends an episode.

A suite implements `Environment`. A process hosts an `EnvironmentBatch`, whose methods give
`structs.StepOutput`s of NumPy arrays with a leading batch. This module imports no TensorFlow.
"""

import collections
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from impala_tf import structs


class Transition(NamedTuple):
  """What an environment answers to one action.

  observation: Observation after the action. It is not looked at when `finished`.
  reward: float, as the suite gives it, not clipped.
  done: bool, whether bootstrapping must be cut and the agent's memory cleared here: the end of an
    episode, or the loss of a life in Atari training.
  finished: bool, whether the episode has ended and `reset` must follow. It implies `done`.
  """

  observation: structs.Observation
  reward: float
  done: bool
  finished: bool


class Environment(Protocol):
  """One environment of a suite.

  observation_spec: Observation of ArraySpecs.
  num_actions: int; actions are 0 <= action < num_actions.

  It may have a method `statistics() -> dict[str, float]`, counters since it was made by the names
  that TensorBoard shall show, where they are added up over all environments.
  """

  observation_spec: structs.Observation
  num_actions: int

  def reset(self) -> structs.Observation:
    """Starts an episode and returns its first observation; may be called at any time."""

  def step(self, action: int) -> Transition:
    """Takes one agent step (which may be several frames).

    Not called again after `finished` before a reset.
    """

  def close(self):
    """Frees what the environment holds."""


class EnvironmentBatch:
  """n environments of one level, stepped one after the other. Meant to be hosted by a
  `py_process.PyProcess`.

  The arrays it returns are written to again by its next call: copy what must stay.
  """

  def __init__(self, make_environments: Sequence[Callable[[], Environment]]):
    """Makes the environments.

    Args:
      make_environments: n picklable functions without arguments, each returning an environment.

    Raises:
      ValueError: if there is none, or if their specs or numbers of actions differ.
    """
    if not make_environments:
      raise ValueError(
        'An EnvironmentBatch needs at least one environment, make_environments is empty.'
      )
    self._environments = []
    with contextlib.ExitStack() as on_error:
      on_error.callback(self.close)
      for make in make_environments:
        self._environments.append(make())
      first = self._environments[0]
      for environment in self._environments:
        if (environment.observation_spec, environment.num_actions) != (
          first.observation_spec,
          first.num_actions,
        ):
          raise ValueError(
            'The environments of a batch must be alike: '
            f'{environment.observation_spec} with {environment.num_actions} actions is not '
            f'{first.observation_spec} with {first.num_actions} actions.'
          )
      on_error.pop_all()
    self._num_actions = first.num_actions
    self._observation_spec = first.observation_spec
    num = len(self._environments)
    self._output = _map_specs(
      lambda spec: np.zeros((num, *spec.shape), _array_dtype(spec)), self._spec()
    )
    self._returns = self._steps = None

  @property
  def num_actions(self) -> int:
    """Number of actions of each environment."""
    return self._num_actions

  def tensor_specs(self, method: str, *unused_args) -> structs.StepOutput:
    """The StepOutput of ArraySpecs, [n, ...], of `initial` and `step`; ValueError for another
    method.
    """
    if method not in ('initial', 'step'):
      raise ValueError(
        f"EnvironmentBatch gives tensors for 'initial' and 'step', not for {method!r}."
      )
    num = len(self._environments)
    return _map_specs(lambda spec: structs.ArraySpec((num, *spec.shape), spec.dtype), self._spec())

  def initial(self) -> structs.StepOutput:
    """Resets all environments.

    Returns:
      StepOutput of [n, ...] arrays: the first observations, with reward 0, done True, finished
      False and no steps.
    """
    num = len(self._environments)
    self._returns = [
      0.0
    ] * num  # float64: long episodes of large scores would lose points in float32
    self._steps = [0] * num
    output = self._output
    output.reward[:] = 0
    output.done[:] = True
    for array in output.info:
      array[:] = 0
    for index, environment in enumerate(self._environments):
      self._write_observation(index, environment.reset())
    return output

  def step(self, actions: np.ndarray) -> structs.StepOutput:
    """Steps all environments, and resets those whose episode finished.

    Args:
      actions: int32 [n].

    Returns:
      StepOutput of [n, ...] arrays. Where finished, the observation is the first of the next
      episode, while reward, done and info are of the one that ended.

    Raises:
      ValueError: if the actions have another shape or type or are out of range.
      RuntimeError: if `initial` was not called before.
    """
    self._check_actions(actions)
    output = self._output
    for index, (environment, action) in enumerate(
      zip(self._environments, actions.tolist(), strict=True)
    ):
      transition = environment.step(action)
      if transition.finished and not transition.done:
        raise ValueError(
          f'Environment {index} says finished without done: the end of an episode must be done too.'
        )
      self._returns[index] += float(transition.reward)
      self._steps[index] += 1
      output.reward[index] = transition.reward
      output.done[index] = transition.done
      output.info.episode_return[index] = self._returns[index]
      output.info.episode_steps[index] = self._steps[index]
      output.info.finished[index] = transition.finished
      observation = transition.observation
      if transition.finished:
        observation = environment.reset()
        self._returns[index] = 0.0
        self._steps[index] = 0
      self._write_observation(index, observation)
    return output

  def statistics(self) -> dict[str, float]:
    """The counters that the environments keep, added up by name; empty if they keep none."""
    return added(getattr(environment, 'statistics', dict)() for environment in self._environments)

  def close(self):
    """Closes all environments, also those after one whose `close` raises."""
    with contextlib.ExitStack() as stack:
      for environment in self._environments:
        stack.callback(environment.close)
    self._environments = []

  def _spec(self):
    return structs.step_output_spec(self._observation_spec)

  def _check_actions(self, actions):
    if self._steps is None:
      raise RuntimeError('step() was called before initial(), which resets the environments.')
    num = len(self._environments)
    if actions.shape != (num,) or actions.dtype.kind not in 'iu':
      raise ValueError(
        f'Actions must be {num} integers, not {actions.dtype} of shape {actions.shape}.'
      )
    wrong = (actions < 0) | (actions >= self._num_actions)
    if wrong.any():
      index = int(wrong.argmax())
      raise ValueError(
        f'Action {actions[index]} of environment {index} is not in 0..{self._num_actions - 1}.'
      )

  def _write_observation(self, index, observation):
    for array, value in zip(self._output.observation, observation, strict=True):
      if isinstance(array, tuple):  # no such observation in this suite
        continue
      if np.shape(value) != array.shape[1:]:  # assignment would broadcast it
        raise ValueError(
          f'Environment {index} gave an observation of shape {np.shape(value)}, not {array.shape[1:]}.'
        )
      array[index] = value


def added(counters: Iterable[Mapping[str, float]]) -> dict[str, float]:
  """Counters of several, added up by name."""
  totals = collections.Counter()  # Whose own sum would leave out what is 0.
  for counter in counters:
    totals.update(counter)
  return dict(totals)


def _array_dtype(spec: structs.ArraySpec) -> Any:
  return object if spec.dtype is np.bytes_ else spec.dtype


def _map_specs(function, specs: structs.StepOutput) -> structs.StepOutput:
  """Maps the ArraySpecs of a nest of named tuples."""
  if isinstance(specs, structs.ArraySpec):
    return function(specs)
  return type(specs)(*(_map_specs(function, spec) for spec in specs)) if specs else specs
