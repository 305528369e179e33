"""Plays several levels at once: the episodes of each are divided among processes."""

import concurrent.futures
import dataclasses
import os
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import tqdm

from impala_tf import files, saved_config
from impala_tf.evaluation.results import RANDOM, LevelResult
from impala_tf.evaluation.shares import EvaluatedRun, Share
from impala_tf.system import signals
from impala_tf.training.episodes import Episode

if TYPE_CHECKING:
  from impala_tf.evaluation.play import Player


# Names that the paper's tables have for `Config.architecture`.
_METHODS = {
  'impala': 'IMPALA',
  'a2c_sync_step': 'Batched A2C',
  'a2c_sync_trajectories': 'Batched A2C',
  'a3c': 'A3C',
}


@dataclasses.dataclass
class Job:
  """A level that is yet to be played.

  Attributes:
    run: the agent that plays it.
    name: of the level in the results.
    shares: its episodes, divided among processes.
    episodes: those of the shares that were played, by the share's index.
  """

  run: EvaluatedRun
  name: str
  shares: list[Share]
  episodes: dict[int, list[Episode]] = dataclasses.field(default_factory=dict)

  def result(self) -> LevelResult:
    """Returns the level's result once all shares were played."""
    run = self.run
    episodes = [episode for index in sorted(self.episodes) for episode in self.episodes[index]]
    repeats = run.config.num_action_repeats
    return LevelResult(
      run=run.logdir,
      checkpoint=run.checkpoint,
      trained_on=run.config.level_name if run.agent else '',
      agent=run.config.agent if run.agent else RANDOM,
      frames=run.frames,
      weights=run.checksum,
      training_seed=run.config.seed,
      environments=sum(share.num_environments for share in self.shares),
      returns=[episode.episode_return for episode in episodes],
      episode_frames=[episode.episode_steps * repeats for episode in episodes],
      method=_METHODS[run.config.architecture] if run.agent else '',
      is_of_population=bool(run.agent) and _is_member(run.logdir),
      num_learners=run.config.num_learners if run.agent else 1,
    )


def _is_member(logdir):
  return files.exists(os.path.join(logdir, saved_config.HISTORY_NAME))


def divide(
  run: EvaluatedRun,
  level: str,
  num_shares: int,
  *,
  num_episodes: int,
  envs_per_process: int,
  seed: int,
  videos: Sequence[str] = (),
) -> list[Share]:
  """Divides a level's episodes among processes, and the videos of its first ones likewise.

  Args:
    run, level: which agent plays what.
    num_shares: how many processes; no more are taken than there are episodes.
    num_episodes: in all shares together.
    envs_per_process: environments of each process, at most.
    seed: of the evaluation.
    videos: files to record.
  """
  num_shares = min(num_shares, num_episodes)
  episodes = np.array_split(np.arange(num_episodes), num_shares)
  recorded = np.array_split(videos, num_shares)
  return [
    Share(
      run,
      level,
      # The seed does not depend on the other levels, nor on their order.
      seed=[seed, zlib.crc32(level.encode()), index],
      num_episodes=len(episodes[index]),
      num_environments=min(envs_per_process, len(episodes[index])),
      videos=recorded[index].tolist(),
    )
    for index in range(num_shares)
  ]


def play_all(
  player: 'Player', jobs: Sequence[Job], processes: int, keep: Callable[[Job], str]
) -> int:
  """Plays all jobs, `processes` shares at once, and closes the player.

  Args:
    player: plays the shares.
    jobs: the levels.
    processes: how many shares are played at once.
    keep: called with each job that is finished; returns a line to print.

  Returns:
    The exit code: 0, or that of the signal that ended it early.

  Raises:
    ProcessError: if a share can't be played; jobs that had been finished by then were kept.
  """
  total = sum(share.num_episodes for job in jobs for share in job.shares)
  with (
    signals.Stop() as stop,
    concurrent.futures.ThreadPoolExecutor(processes) as pool,
    tqdm.tqdm(total=total, unit='episode', disable=None) as bar,
    player,  # The first to leave: it ends the shares that the pool would wait for.
  ):
    pending = {
      pool.submit(player.play, share): (job, index)
      for job in jobs
      for index, share in enumerate(job.shares)
    }

    while pending and not stop:
      done, _ = concurrent.futures.wait(
        pending, timeout=0.5, return_when=concurrent.futures.FIRST_COMPLETED
      )
      bar.update(player.episodes - bar.n)

      # Finished ones come first, so that the error of one share does not cost another.
      for future in sorted(done, key=lambda future: future.exception() is not None):
        job, index = pending.pop(future)
        job.episodes[index] = future.result()
        if len(job.episodes) == len(job.shares):
          line = keep(job)
          with bar.external_write_mode():
            print(line, flush=True)

  return stop.exit_code
