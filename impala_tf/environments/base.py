"""Environments as the actors see them: several in one process, reset within the step
that ends an episode.

A suite implements `Environment`. A process hosts a `HostedBatch` of them, which writes
`structs.StepOutput`s of NumPy arrays with a leading batch into memory that the actor sees.
"""

import collections
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from impala_tf import structs
from impala_tf.environments.rows import TEXT_BYTES, Rows

_LARGEST = float(np.finfo(np.float32).max)


class Transition(NamedTuple):
  """An environment's answer to one action.

  Attributes:
    observation: the observation after the action. It is not used when `finished` and not
      `truncated`.
    reward: as the suite gives it, not clipped.
    done: whether bootstrapping must be cut and the agent's memory cleared here: the end of an
      episode, or the loss of a life in Atari training.
    finished: whether the episode has ended and `reset` must follow. It implies `done`.
    truncated: whether it was a time limit that ended the episode, and the task had not ended. It
      implies `finished`; the value of the observation then counts.
  """

  observation: structs.Observation
  reward: float
  done: bool
  finished: bool
  truncated: bool = False


class Environment(Protocol):
  """One environment of a suite.

  Attributes:
    observation_spec: of ArraySpecs.
    num_actions: actions are 0 <= action < num_actions.

  It may have a method `statistics() -> dict[str, float]`, counters since it was made by the names
  for TensorBoard, which shows their sums over all environments.
  """

  observation_spec: structs.Observation
  num_actions: int

  def reset(self) -> structs.Observation:
    """Starts an episode and returns its first observation; may be called at any time."""

  def step(self, action: int) -> Transition:
    """Takes one agent step (which may be several frames).

    Not called again after `finished` before a reset.
    """

  def close(self) -> None:
    """Frees what the environment holds."""


class EnvironmentBatch:
  """n environments, stepped one after the other.

  The arrays it returns are those of a row, and are written to again by the next call for the same
  row: copy what must stay.
  """

  def __init__(
    self, make_environments: Sequence[Callable[[], Environment]], rows: Rows | None = None
  ):
    """Makes the environments.

    Args:
      make_environments: n picklable functions without arguments, each returning an environment.
      rows: where steps are written, by default a single row of its own.

    Raises:
      ValueError: if `make_environments` is empty, or specs or numbers of actions differ.
    """
    if not make_environments:
      raise ValueError(
        'An EnvironmentBatch needs at least one environment, make_environments is empty.'
      )

    self._environments: list[Environment] = []
    with contextlib.ExitStack() as on_error:
      on_error.callback(self.close)
      for index, make in enumerate(make_environments):
        if rows:
          rows.report(index)
        self._environments.append(make())
      first = self._environments[0]
      self._rows = rows or Rows(first.observation_spec, len(self._environments), 1)
      expected, self._num_actions = self._rows.spec.observation, first.num_actions
      for other in self._environments:
        if (other.observation_spec, other.num_actions) != (expected, self._num_actions):
          raise ValueError(
            f'The environments of a batch, and of a run, must be alike: {other.observation_spec} '
            f'with {other.num_actions} actions is not {expected} with {self._num_actions} actions.'
          )
      on_error.pop_all()

    # Float64, in Python: long episodes of large scores would lose points in float32.
    self._returns: list[float] = []
    self._steps: list[int] = []
    self._cut: list[bool] = []  # Whose episode a time limit has ended, and which wait for a reset.

  @property
  def num_actions(self) -> int:
    """Number of actions of each environment."""
    return self._num_actions

  def initial(self, row: int = 0) -> structs.StepOutput:
    """Resets all environments.

    Args:
      row: into which to write the observations.

    Returns:
      Arrays of [n, ...]: the first observations, with reward 0, done and truncated True, finished
      False and no steps.
    """
    num = len(self._environments)
    self._returns, self._steps, self._cut = [0.0] * num, [0] * num, [False] * num
    output = self._rows.row[row]
    output.reward[:] = 0
    output.done[:] = True
    output.truncated[:] = True
    for array in output.info:
      array[:] = 0
    for index, environment in enumerate(self._environments):
      self._rows.report(index)
      self._write_observation(output, index, environment.reset())

    self._check_finite(output.observation)
    return output

  def step(self, actions: np.ndarray, row: int = 0) -> structs.StepOutput:
    """Steps all environments, and resets those whose episode finished.

    The step that a time limit makes the last one is a row like any other, with the observation
    after it, so that the learner can take the value of that. The next row is then the one that is
    done and finished; it has no reward, and its action is not taken. `structs` has the convention.

    Args:
      actions: int32 [n].
      row: into which to write.

    Returns:
      Arrays of [n, ...]. Where finished, the observation is the first of the next episode, while
      reward, done and info are of the one that ended.

    Raises:
      ValueError: if the actions have another shape or type or are out of range, or what an
        environment gave is not of its spec, or not finite.
      RuntimeError: if `initial` was not called before.
    """
    self._check_actions(actions)
    output = self._rows.row[row]
    for index, (environment, action) in enumerate(
      zip(self._environments, actions.tolist(), strict=True)
    ):
      self._rows.report(index)
      reward, done, finished, observation = 0.0, True, True, None
      truncated = self._cut[index]
      self._cut[index] = False
      if not truncated:
        transition = environment.step(action)
        self._check_ends(index, transition)
        reward, observation = float(transition.reward), transition.observation
        self._returns[index] += reward
        self._steps[index] += 1
        if not -_LARGEST <= reward <= _LARGEST:
          raise ValueError(
            f'Environment {index} gave the reward {reward} at step {self._steps[index]} of an '
            'episode: rewards must be finite numbers of single precision.'
          )
        self._cut[index] = transition.truncated
        done = transition.done and not transition.truncated
        finished = transition.finished and not transition.truncated

      output.reward[index] = reward
      output.done[index] = done
      output.truncated[index] = truncated
      output.info.episode_return[index] = self._returns[index]
      output.info.episode_steps[index] = self._steps[index]
      output.info.finished[index] = finished

      if finished:
        observation = environment.reset()
        self._returns[index] = 0.0
        self._steps[index] = 0
      self._write_observation(output, index, observation)

    self._check_finite(output.observation)
    return output

  def statistics(self) -> dict[str, float]:
    """Adds up the counters that the environments keep, by name."""
    totals = added(getattr(environment, 'statistics', dict)() for environment in self._environments)
    return {name: float(value) for name, value in totals.items()}  # Not NumPy's: they become JSON.

  def close(self) -> None:
    """Closes all environments, also those after one whose `close` raises."""
    with contextlib.ExitStack() as stack:
      for environment in self._environments:
        stack.callback(environment.close)
    self._environments = []

  def _check_ends(self, index, transition):
    for cause, effect in (('finished', 'done'), ('truncated', 'finished')):
      if getattr(transition, cause) and not getattr(transition, effect):
        raise ValueError(
          f'Environment {index} says {cause} without {effect}: the end of an episode must be '
          f'{effect} too.'
        )

  def _check_actions(self, actions):
    if not self._steps:
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

  def _write_observation(self, output, index, observation):
    for array, value in zip(output.observation, observation, strict=True):
      if isinstance(array, tuple):  # This suite does not have it.
        continue
      if array.dtype.kind == 'S':
        value = value.encode() if isinstance(value, str) else value
        if len(value) > TEXT_BYTES:
          raise ValueError(
            f'Environment {index} gave a text of {len(value)} bytes; at most {TEXT_BYTES} are '
            f'carried: {value[:60]!r}...'
          )
      elif np.shape(value) != array.shape[1:]:  # Assignment would broadcast it.
        raise ValueError(
          f'Environment {index} gave an observation of shape {np.shape(value)}, not '
          f'{array.shape[1:]}.'
        )
      elif getattr(value, 'dtype', None) != array.dtype:
        value = _converted(value, array.dtype, index)
      array[index] = value

  def _check_finite(self, observation):
    """Refuses observations of all environments if a number of one is not finite."""
    for array in observation:
      if isinstance(array, tuple) or array.dtype.kind != 'f' or np.isfinite(array).all():
        continue
      index = int(np.argwhere(~np.isfinite(array))[0, 0])
      raise ValueError(
        f'Environment {index} gave an observation that is not finite, after {self._steps[index]} '
        f'steps of an episode: {array[index]}'
      )


def _converted(value, dtype, index):
  """Returns an observation in the type of its spec; assignment would make whole numbers of floats,
  and other ones of those that the type does not have.
  """
  given = np.asarray(value)
  converted = given.astype(dtype)
  if dtype.kind in 'iu' and (given.dtype.kind == 'f' or (converted != given).any()):
    raise ValueError(
      f'Environment {index} gave an observation of {given.dtype} from {given.min()} to '
      f'{given.max()}, where its spec has {dtype}. Give it in that type, images from 0 to 255.'
    )
  return converted


class HostedBatch(EnvironmentBatch):
  """A batch in a process of its own: it returns nothing, as its actor sees the rows."""

  def initial(self, row: int) -> None:  # type: ignore[override]
    """Resets all environments; see `EnvironmentBatch.initial`."""
    super().initial(row)

  def step(self, row: int) -> None:  # type: ignore[override]
    """Steps with the actions that lie beside the rows; see `EnvironmentBatch.step`."""
    super().step(self._rows.actions, row)


def added(counters: Iterable[Mapping[str, float]]) -> dict[str, float]:
  """Adds up several mappings of counters by name."""
  totals: collections.Counter = collections.Counter()
  for counter in counters:
    totals.update(counter)
  return dict(totals)
