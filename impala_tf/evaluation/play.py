"""Plays whole episodes without learning: with a trained agent, or at random.

`evaluate_checkpoint` and `evaluate_random` play some episodes of each level of a run and print the
returns, as `run_experiment.py --mode=test` does. `evaluate` plays whole suites in the same way,
several shares at once, and keeps the results.
"""

import contextlib
import functools
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf

from impala_tf import structs
from impala_tf.acting import actors, inference, weights
from impala_tf.agent import agents
from impala_tf.config import Config
from impala_tf.environments import process_group, py_process, recording, window
from impala_tf.environments.suite import Suite
from impala_tf.evaluation.shares import EvaluatedRun, Share, View
from impala_tf.system import timing
from impala_tf.training import checkpoints
from impala_tf.training.episodes import Episode

_GAME_FRAME_RATE = 60  # Emulator frames per second of game time, in both suites.


def load_run(suite: Suite, logdir: str, config: Config) -> EvaluatedRun:
  """Loads the newest checkpoint of a run; nothing in its folder is changed.

  Raises:
    CheckpointError: if there is no checkpoint, or it is another agent's.
  """
  agent = agents.for_suite(suite, config)
  checkpoint = checkpoints.load_weights(logdir, agent)

  checksum = 0
  for variable in agent.trainable_variables:
    checksum = zlib.crc32(variable.numpy().tobytes(), checksum)

  # Once for all levels of a run, as TensorFlow keeps each vector for as long as the process lives.
  published = weights.PublishedWeights(agent)
  return EvaluatedRun(
    logdir, config, agent, published, checkpoint.path, checkpoint.frames, f'{checksum:08x}'
  )


def evaluate_checkpoint(
  suite: Suite, config: Config, logdir: str, num_episodes: int, seed: int, view: View | None = None
) -> dict[str, list[float]]:
  """Plays complete episodes of each level with the newest checkpoint of a run, and prints their
  returns.

  Actions are sampled from the policy, as in training. Environments are the suite's test
  environments.

  Returns:
    Unclipped returns by level.

  Raises:
    CheckpointError: if there is no checkpoint, or it is another agent's.
    ProcessError: if a level can't be played.
  """
  run = load_run(suite, logdir, config)
  return _play_levels(suite, run, f'agent after {run.frames:_} frames', num_episodes, seed, view)


def evaluate_random(
  suite: Suite, config: Config, num_episodes: int, seed: int, view: View | None = None
) -> dict[str, list[float]]:
  """Plays as `evaluate_checkpoint` does, with the policy that chooses all actions equally often."""
  return _play_levels(suite, EvaluatedRun('', config), 'random policy', num_episodes, seed, view)


def _play_levels(suite, run, name, num_episodes, seed, view):
  view = view or View()
  num_environments = 1 if view.is_shown else min(num_episodes, run.config.envs_per_actor)
  if view.record_video:
    os.makedirs(view.folder, exist_ok=True)
  player = Player(suite)
  returns = {}

  # One level after the other, as environments may be large.
  for index, level in enumerate(suite.levels(run.config)):
    videos = view.videos(level)
    share = Share(run, level, [seed, index], num_episodes, num_environments, videos, view.is_shown)
    episodes = player.play(share)
    returns[level] = [episode.episode_return for episode in episodes]
    print(
      f'{level}, {name}: mean return {np.mean(returns[level]):.2f} over {num_episodes} complete '
      f'episodes (standard deviation {np.std(returns[level]):.2f}, lowest {min(returns[level]):g}, '
      f'highest {max(returns[level]):g})' + (f'. Films: {", ".join(videos)}' if videos else ''),
      flush=True,
    )

  return returns


class Player:
  """Plays shares of episodes, each in the thread that asks for it, until it is closed.

  episodes: int, how many have been completed.
  """

  def __init__(self, suite: Suite, greedy: bool = False):
    """Takes a `suite.Suite`, and whether agents take the action of the highest probability instead
    of sampling one.
    """
    self.episodes = 0
    self._suite = suite
    self._greedy = greedy
    self._lock = threading.Lock()
    self._groups: set[process_group.EnvironmentProcesses] = set()
    self._closed = False

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *exception: Any) -> None:
    """Ends everything that is being played; shares that have not started fail at once."""
    with self._lock:
      self._closed = True
      groups = list(self._groups)
    for group in groups:
      group.close()

  def play(self, share: Share) -> list[Episode]:
    """Plays the episodes of a share; they are in the order in which they ended.

    Raises:
      ProcessClosed: if the player was closed.
      ProcessError: if the environments fail again and again.
    """
    config, n = share.run.config, share.num_environments
    is_seen = share.videos or share.is_shown
    suite = _ViewedSuite(self._suite, share) if is_seen else self._suite
    group = process_group.make_environments(
      suite, config, [[share.level] * n], True, share.seed, timing.StageTimer()
    )

    with self._lock:
      if self._closed:
        raise py_process.ProcessClosed('The evaluation has ended.')
      self._groups.add(group)

    try:
      with group, _process_errors(group):
        if share.run.agent is None:
          num_actions = self._suite.num_actions(config)
          return play_randomly(
            group[0], num_actions, n, share.num_episodes, share.seed, self._count_episode
          )
        unroller = self._make_unroller(share, group)
        return play_episodes(unroller, n, share.num_episodes, self._count_episode)
    finally:
      with self._lock:
        self._groups.discard(group)

  def _make_unroller(self, share, group):
    run, n = share.run, share.num_environments
    agent = agents.Greedy(run.agent) if self._greedy else SeededAgent(run.agent, share.seed)

    # Tracing puts other weights in the variables' place, which only one thread may do at a time.
    with self._lock:
      policy = inference.LocalInference(agent, run.published)
      return actors.Unroller(policy, group, [[0] * n], run.config.unroll_length)

  def _count_episode(self):
    with self._lock:
      self.episodes += 1


@contextlib.contextmanager
def _process_errors(group):
  """Raises the `ProcessError` of a process that was given up, where TensorFlow raises its text."""
  try:
    yield
  except tf.errors.OpError as error:
    if group.error is not None:
      raise group.error from error
    raise


class SeededAgent(tf.Module):
  """An agent whose actions are drawn from a seed of its own.

  `tf.random.set_seed` outside of a function would restart the random numbers of all functions that
  other threads are running.
  """

  def __init__(self, agent: agents.Agent, seed: Sequence[int]):
    """Takes a built agent, whose variables it shares."""
    super().__init__()
    self.num_actions = agent.num_actions
    self.initial_state = agent.initial_state
    self._agent = agent
    self._seed = int(np.random.SeedSequence(seed).generate_state(1)[0])

  def step(self, last_actions: tf.Tensor, step_outputs: structs.StepOutput, state: Any) -> Any:
    """See `agents.Agent.step`."""
    tf.random.set_seed(self._seed)  # Only that of the function that is being traced.
    return self._agent.step(last_actions, step_outputs, state)


class _ViewedSuite(Suite):
  """A suite whose environments record the first episodes of a share, or show all in a window."""

  def __init__(self, suite, share):
    self._suite = suite
    self._videos = np.array_split(share.videos, share.num_environments)
    self.observation_spec = suite.observation_spec
    self._is_shown = share.is_shown
    self._made = 0

  def make_environment(self, level, seed, is_test, config):
    """Gives a constructor of the next environment of the process; after the last one it starts
    again with the first, as a process does that is restarted.
    """
    videos = self._videos[self._made % len(self._videos)].tolist()
    self._made += 1
    if not (videos or self._is_shown):
      return self._suite.make_environment(level, seed, is_test, config)
    make = self._suite.make_viewed_environment(level, seed, config)
    frame_rate = _GAME_FRAME_RATE / config.num_action_repeats
    if self._is_shown:
      make = functools.partial(window.WatchedEnvironment, make, level, frame_rate)
    if videos:
      make = functools.partial(recording.RecordingEnvironment, make, videos, frame_rate)
    return make


def play_episodes(
  unroller: actors.Unroller,
  num_environments: int,
  num_episodes: int,
  on_episode: Callable[[], None] | None = None,
) -> list[Episode]:
  """Plays complete episodes with an agent, a fixed share in each environment.

  Args:
    unroller: of one actor, with the weights to be judged and test environments.
    num_environments: of that actor.
    num_episodes: in all environments together.
    on_episode: called after each of them.

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

  return _fixed_shares(infos(), num_environments, num_episodes, on_episode)


def play_randomly(
  process: Any,
  num_actions: int,
  num_environments: int,
  num_episodes: int,
  seed: Sequence[int],
  on_episode: Callable[[], None] | None = None,
) -> list[Episode]:
  """Plays as `play_episodes` does, with the policy that chooses all actions equally often.

  Args:
    process: one of `process_group.EnvironmentProcesses`, with test environments.
    num_actions: how many actions there are to choose from.
    num_environments: of the process.
    num_episodes: in all environments together.
    seed: of the actions.
    on_episode: called after each episode.

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

  return _fixed_shares(infos(), num_environments, num_episodes, on_episode)


def _fixed_shares(
  infos: Iterator[structs.EpisodeInfo],
  num_environments: int,
  num_episodes: int,
  on_episode: Callable[[], None] | None,
) -> list[Episode]:
  """Takes the first episodes of each environment, as many as its share, which is fixed beforehand.

  Taking the episodes that end first, over all environments, would favour short ones, which in most
  games are the poor ones.

  Args:
    infos: without an end; arrays of [num_environments, steps].
    num_environments, num_episodes, on_episode: as for `play_episodes`.
  """
  if num_episodes < 1:
    raise ValueError(f'At least one episode must be played, got {num_episodes}.')

  shares = np.array_split(np.arange(num_episodes), num_environments)
  left = np.array([len(share) for share in shares])
  episodes = []

  while left.any():
    info = next(infos)
    for t, environment in np.argwhere(info.finished.T):
      if left[environment]:
        left[environment] -= 1
        total, steps = info.episode_return[environment, t], info.episode_steps[environment, t]
        episodes.append(Episode(0, float(total), int(steps)))
        if on_episode is not None:
          on_episode()

  return episodes
