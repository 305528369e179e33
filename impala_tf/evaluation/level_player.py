"""Plays levels with trained agents or at random: each level's episodes divided among processes,
several of them at once.

`level_evaluation` decides what is played, and keeps what came out.
"""

import concurrent.futures
import functools
import os
import threading
import zlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tqdm

from impala_tf import signals, timing
from impala_tf.acting import actors, inference
from impala_tf.agent import agents
from impala_tf.config import Config
from impala_tf.environments import py_process, recording, restarts
from impala_tf.evaluation import play as play_lib

_FRAME_RATE = 60  # Emulator frames a second of game time, in both suites.


class Run(NamedTuple):
  """A trained agent; or the random policy, without agent, folder and the like.

  logdir: its folder.
  config: `Config` that it plays with.
  agent, published: the agent, and its weights as `weights.PublishedWeights`.
  checkpoint, frames: where the weights come from, and the frames that they learned from.
  checksum: of the weights, in hexadecimal digits.
  """

  logdir: str
  config: Config
  agent: Any = None
  published: Any = None
  checkpoint: str = ''
  frames: int = 0
  checksum: str = ''


class Part(NamedTuple):
  """A share of a level's episodes, for one process.

  run, level: who plays what.
  index: which of the level's parts it is.
  num_episodes, num_environments: how many episodes, and how many environments play them at once.
  videos: files for the first of its episodes.
  """

  run: Run
  level: str
  index: int
  num_episodes: int
  num_environments: int
  videos: list[str]


def parts_of(run, level, name, num_parts, output, settings):
  """Divides a level's episodes among processes, and the videos in the same way.

  Args:
    run: `Run`.
    level: its name in the run.
    name: its name in the results, with which the files of its videos begin.
    num_parts: int; no more than there are episodes are made.
    output: folder of the results; the videos go into `videos` below it.
    settings: `level_evaluation.Settings`.

  Returns:
    A list of `Part`.
  """
  num_parts = min(num_parts, settings.num_episodes)
  numbers = np.array_split(np.arange(settings.num_episodes), num_parts)
  videos = np.array_split(videos_of(name, output, settings), num_parts)
  return [
    Part(
      run,
      level,
      index,
      len(numbers[index]),
      min(settings.envs_per_process, len(numbers[index])),
      videos[index].tolist(),
    )
    for index in range(num_parts)
  ]


def videos_of(name, output, settings):
  """The files of a level's videos, a list of str; arguments as for `parts_of`."""
  return [
    os.path.join(output, 'videos', f'{name}_{i + 1}.mp4') for i in range(settings.record_video)
  ]


def play_all(player, parts, processes, take):
  """Plays all parts, `processes` at once, and closes the player.

  Args:
    player: a `Player`.
    parts: a list of `Part`.
    processes: int.
    take: called with a part and its episodes for each part in the order in which they end; returns
      a line to print, or None.

  Returns:
    The exit code: 0, or that of the signal that ended it early.

  Raises:
    ProcessError: if a part can't be played; those that had ended by then were taken.
  """
  for folder in {os.path.dirname(video) for part in parts for video in part.videos}:
    os.makedirs(folder, exist_ok=True)
  total = sum(part.num_episodes for part in parts)
  with (
    signals.Stop() as stop,
    concurrent.futures.ThreadPoolExecutor(processes) as pool,
    tqdm.tqdm(total=total, unit='episode', disable=None) as bar,
  ):
    pending = {pool.submit(player.play, part): part for part in parts}
    try:
      while pending and not stop:
        done, _ = concurrent.futures.wait(
          pending, timeout=0.5, return_when=concurrent.futures.FIRST_COMPLETED
        )
        bar.update(player.episodes - bar.n)
        # All the finished ones first, so that an error of one doesn't cost another.
        for future in sorted(done, key=lambda future: future.exception() is not None):
          line = take(pending[future], future.result())
          del pending[future]
          if line:
            with bar.external_write_mode():
              print(line, flush=True)
    finally:
      player.close()  # What has not started ends at once, too.
  return stop.exit_code


class Player:
  """Plays parts of levels, each from a thread of its own.

  episodes: int, how many were played to their end so far.
  """

  def __init__(self, suite, settings):
    """Takes an `suite.Suite` and `level_evaluation.Settings`."""
    self.episodes = 0
    self._suite = suite
    self._settings = settings
    self._lock = threading.Lock()
    self._groups = set()
    self._closed = False

  def play(self, part):
    """The episodes of a part, a list of `metrics.Episode`."""
    # The same whichever other levels are played, and whatever their order.
    seed = [self._settings.seed, zlib.crc32(part.level.encode()), part.index]
    config, n = part.run.config, part.num_environments
    suite = _RecordingSuite(self._suite, part, config) if part.videos else self._suite
    group = restarts.make_environments(
      suite, config, [part.level], n, True, seed, timing.StageTimer()
    )
    with self._lock:
      if self._closed:
        raise py_process.ProcessClosed('The evaluation has ended.')
      self._groups.add(group)
    try:
      with group, play_lib.process_errors(group):
        if part.run.agent is None:
          num_actions = self._suite.num_actions(config)
          return play_lib.play_randomly(
            group[0], num_actions, n, part.num_episodes, seed, self._count
          )
        agent = (
          agents.Greedy(part.run.agent) if self._settings.greedy else _Seeded(part.run.agent, seed)
        )
        with self._lock:  # weights are put in the variables' place while functions are traced, in one thread at a time
          policy = inference.LocalInference(agent, part.run.published)
          unroller = actors.Unroller(policy, group, [0], n, config.unroll_length)
        return play_lib.play_episodes(unroller, n, part.num_episodes, self._count)
    finally:
      with self._lock:
        self._groups.discard(group)

  def _count(self):
    with self._lock:
      self.episodes += 1

  def close(self):
    """Ends all that is being played."""
    with self._lock:
      self._closed = True
      groups = list(self._groups)
    for group in groups:
      group.close()


class _Seeded(tf.Module):
  """An agent whose actions are drawn from a seed of its own.

  `tf.random.set_seed` outside of a function would start the random numbers again of all functions
  that others are running.
  """

  def __init__(self, agent, seed):
    super().__init__()
    self.num_actions = agent.num_actions
    self.initial_state = agent.initial_state
    self._agent = agent
    self._seed = int(np.random.SeedSequence(seed).generate_state(1)[0])

  def step(self, last_actions, step_outputs, state):
    """See `agents.Agent.step`."""
    tf.random.set_seed(self._seed)  # Only of the function that is being traced.
    return self._agent.step(last_actions, step_outputs, state)


class _RecordingSuite:
  """A suite whose environments, of which one process is to be made, record their first episodes."""

  def __init__(self, suite, part, config):
    self._suite = suite
    self._videos = np.array_split(part.videos, part.num_environments)
    self._rate = _FRAME_RATE / config.num_action_repeats
    self._made = 0

  def make_environment(self, level, seed, is_test, config):
    """A constructor; each call is for the next environment of the process, and starts again with
    the first after the last.
    """
    videos = self._videos[self._made % len(self._videos)].tolist()
    self._made += 1
    make = self._suite.make_environment(level, seed, is_test, config)
    return (
      functools.partial(recording.RecordingEnvironment, make, videos, self._rate)
      if videos
      else make
    )
