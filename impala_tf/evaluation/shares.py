"""Agents that are evaluated, and shares of the episodes that they play."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from impala_tf.config import Config

if TYPE_CHECKING:
  from impala_tf.acting import weights
  from impala_tf.agent import agents


class EvaluatedRun(NamedTuple):
  """A trained agent; or the random policy, which has a configuration alone.

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

  run, level: which agent plays what.
  seed: of environments and actions; equal seeds give equal episodes.
  num_episodes, num_environments: how many episodes, and how many environments play them at once.
  videos: files for the first of the episodes.
  """

  run: EvaluatedRun
  level: str
  seed: Sequence[int]
  num_episodes: int
  num_environments: int
  videos: Sequence[str] = ()
