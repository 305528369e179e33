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
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf
import tqdm

from impala_tf import structs
from impala_tf.acting import actors, inference, weights
from impala_tf.agent import agents
from impala_tf.config import Config
from impala_tf.environments import process_group, py_process, recording, window
from impala_tf.environments.suite import Suite
from impala_tf.evaluation import whole_episodes
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
  suite: Suite,
  config: Config,
  logdir: str,
  num_episodes: int,
  seed: int,
  view: View | None = None,
  stop: Any = False,
) -> dict[str, list[float]]:
  """Plays complete episodes of each level with the newest checkpoint of a run, and prints their
  returns.

  Actions are sampled from the policy, as in training. Environments are the suite's test
  environments.

  Args:
    suite, config, logdir: of the run.
    num_episodes: of each level.
    seed: of environments and actions.
    view: films of it, and whether it is shown in a window.
    stop: becomes true if it is to end early, with the episodes that were complete by then.

  Returns:
    Unclipped returns by level.

  Raises:
    CheckpointError: if there is no checkpoint, or it is another agent's.
    ProcessError: if a level can't be played.
  """
  run = load_run(suite, logdir, config)
  name = f'agent after {run.frames:_} frames'
  return _play_levels(suite, run, name, num_episodes, seed, view, stop)


def evaluate_random(
  suite: Suite,
  config: Config,
  num_episodes: int,
  seed: int,
  view: View | None = None,
  stop: Any = False,
) -> dict[str, list[float]]:
  """Plays as `evaluate_checkpoint` does, with the policy that chooses all actions equally often."""
  run = EvaluatedRun('', config)
  return _play_levels(suite, run, 'random policy', num_episodes, seed, view, stop)


def _play_levels(suite, run, name, num_episodes, seed, view, stop):
  view = view or View()
  num_environments = 1 if view.is_shown else min(num_episodes, run.config.envs_per_actor)
  if view.record_video:
    os.makedirs(view.folder, exist_ok=True)
  levels = suite.levels(run.config)
  returns: dict[str, list[float]] = {}

  with tqdm.tqdm(total=len(levels) * num_episodes, unit='episode', disable=None) as bar:
    player = Player(suite, stop=stop, on_episode=bar.update)
    # One level after the other, as environments may be large.
    for index, level in enumerate(levels):
      if stop:
        break
      videos, shown = view.videos(level), view.is_shown
      share = Share(run, level, [seed, index], num_episodes, num_environments, videos, shown)
      returns[level] = [episode.episode_return for episode in player.play(share)]
      films = f'. Films: {", ".join(videos)}' if videos else ''
      with bar.external_write_mode():
        print(f'{level}, {name}: {_summary(returns[level], num_episodes)}{films}', flush=True)

  return returns


def _summary(returns, num_episodes):
  early = f'stopped after {len(returns)} of {num_episodes} complete episodes'
  if not returns:
    return early
  spread = (
    f'standard deviation {np.std(returns):.2f}, lowest {min(returns):g}, highest {max(returns):g}'
  )
  mean = f'mean return {np.mean(returns):.2f} over {len(returns)} complete episodes ({spread})'
  # Those that end first are short ones, which in most games are the poor ones.
  return mean if len(returns) == num_episodes else f'{early}, the shorter ones: {mean}'


class Player:
  """Plays shares of episodes, each in the thread that asks for it, until it is closed.

  Attributes:
    episodes: int, how many have been completed.
  """

  def __init__(
    self,
    suite: Suite,
    greedy: bool = False,
    stop: Any = False,
    on_episode: Callable[[], object] = lambda: None,
  ):
    """Takes a `suite.Suite`, whether agents take the action of the highest probability instead of
    sampling one, what becomes true if shares are to end early, and what to call at each episode.
    """
    self.episodes = 0
    self._stop = stop
    self._on_episode = on_episode
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
          return whole_episodes.play_randomly(
            group[0],
            num_actions,
            n,
            share.num_episodes,
            share.seed,
            self._count_episode,
            self._stop,
          )
        unroller = self._make_unroller(share, group)
        return whole_episodes.play_episodes(
          unroller, n, share.num_episodes, self._count_episode, self._stop
        )
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
      self._on_episode()


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
