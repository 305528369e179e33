"""Agents that are evaluated, and shares of the episodes that they play."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from impala_tf.config import Config, ConfigurationError

if TYPE_CHECKING:
  from impala_tf.acting import weights
  from impala_tf.agent import agents


class EvaluatedRun(NamedTuple):
  """A trained agent; or the random policy, which has a configuration alone.

  Attributes:
    logdir: folder of the training.
    config: `Config` to play with.
    agent, published: the agent, and its weights as `weights.PublishedWeights`.
    checkpoint, frames: the checkpoint's path, and the frames that the agent was trained for.
    checksum: of the weights, in hexadecimal digits.
  """

  logdir: str
  config: Config
  agent: 'agents.Agent | None' = None
  published: 'weights.PublishedWeights | None' = None
  checkpoint: str = ''
  frames: int = 0
  checksum: str = ''


class Share(NamedTuple):
  """Episodes of a level that are played by one process.

  Attributes:
    run, level: which agent plays what.
    seed: of environments and actions; equal seeds give equal episodes.
    num_episodes, num_environments: how many episodes, and how many environments play them at once.
    videos: files for the first of the episodes.
    is_shown: whether a window shows them.
  """

  run: EvaluatedRun
  level: str
  seed: Sequence[int]
  num_episodes: int
  num_environments: int
  videos: Sequence[str] = ()
  is_shown: bool = False


def check_videos(record_video: int, num_episodes: int, flag: str) -> None:
  """Raises ConfigurationError if more episodes are to be recorded than played; `flag` says how
  many are played.
  """
  if record_video > num_episodes:
    raise ConfigurationError(
      f'{record_video} of {num_episodes} episodes can not be recorded. Change --record_video or '
      f'{flag}.'
    )


class View(NamedTuple):
  """The pictures that a test makes.

  Attributes:
    folder: where films go.
    record_video: of how many episodes of each level there is one.
    is_shown: whether a window shows all of them, one after the other.
  """

  folder: str = ''
  record_video: int = 0
  is_shown: bool = False

  def videos(self, level: str) -> list[str]:
    """Returns the files of a level's films."""
    stem = os.path.join(self.folder, level.replace('/', '_'))
    return [f'{stem}_{number}.mp4' for number in range(1, self.record_video + 1)]
