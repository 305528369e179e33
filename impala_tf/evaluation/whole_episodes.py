"""Plays complete episodes, a share of them in each environment that was fixed beforehand."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from impala_tf import structs
from impala_tf.acting import actors
from impala_tf.training.episodes import Episode


def play_episodes(
  unroller: actors.Unroller,
  num_environments: int,
  num_episodes: int,
  on_episode: Callable[[], object] = lambda: None,
  stop: Any = False,
) -> list[Episode]:
  """Plays complete episodes with an agent, a fixed share in each environment.

  Args:
    unroller: of one actor, with the weights to be judged and test environments.
    num_environments: of that actor.
    num_episodes: in all environments together.
    on_episode: called after each of them.
    stop: becomes true if it is to end with the episodes that there are.

  Returns:
    Episodes of level 0 with unclipped returns, in the order in which they ended.

  Raises:
    ValueError: if `num_episodes` is below 1.
    tf.errors.OpError: if the actor's process failed or was closed.
  """

  def infos():
    carry = unroller.initial(0)
    while True:
      carry, unrolls = unroller.unroll(0, carry)
      # Column 0 repeats the last one of the unroll before.
      yield tf.nest.map_structure(lambda t: t.numpy()[:, 1:], unrolls.step_outputs.info)

  return _fixed_shares(infos(), num_environments, num_episodes, on_episode, stop)


def play_randomly(
  process: Any,
  num_actions: int,
  num_environments: int,
  num_episodes: int,
  seed: Sequence[int],
  on_episode: Callable[[], object] = lambda: None,
  stop: Any = False,
) -> list[Episode]:
  """Plays as `play_episodes` does, with the policy that chooses all actions equally often.

  Args:
    process: one of `process_group.EnvironmentProcesses`, with test environments.
    num_actions: how many actions there are to choose from.
    num_environments: of the process.
    num_episodes: in all environments together.
    seed: of the actions.
    on_episode, stop: as for `play_episodes`.

  Raises:
    ValueError: if `num_episodes` is below 1.
    ProcessError: if the process failed.
    RuntimeError: if it was closed.
  """
  random = np.random.default_rng(seed)

  def infos():
    process.initial()
    while True:
      actions = random.integers(num_actions, size=num_environments, dtype=np.int32)
      info = process.step(0, actions).info
      yield tf.nest.map_structure(lambda array: array[:, np.newaxis], info)

  return _fixed_shares(infos(), num_environments, num_episodes, on_episode, stop)


def _fixed_shares(
  infos: Iterator[structs.EpisodeInfo],
  num_environments: int,
  num_episodes: int,
  on_episode: Callable[[], object],
  stop: Any,
) -> list[Episode]:
  """Takes the first episodes of each environment, as many as its share, which is fixed beforehand.

  Taking the episodes that end first, over all environments, would favour short ones, which in most
  games are the poor ones.

  Args:
    infos: without an end; arrays of [num_environments, steps].
    num_environments, num_episodes, on_episode, stop: as for `play_episodes`.
  """
  if num_episodes < 1:
    raise ValueError(f'At least one episode must be played, got {num_episodes}.')

  shares = np.array_split(np.arange(num_episodes), num_environments)
  left = np.array([len(share) for share in shares])
  episodes = []

  while left.any() and not stop:
    info = next(infos)
    for t, environment in np.argwhere(info.finished.T):
      if left[environment]:
        left[environment] -= 1
        total, steps = info.episode_return[environment, t], info.episode_steps[environment, t]
        episodes.append(Episode(0, float(total), int(steps)))
        on_episode()

  return episodes
