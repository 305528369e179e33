"""The data that flow from environments through actors and the queue to the learner.

Time convention, used everywhere. An unroll has T+1 rows; its row 0 is row T of the same
environment's unroll before.

    row t of `agent_outputs`  was computed from row t-1 of `step_outputs`;
    row t of `step_outputs`   is what the action of row t led to: that action's reward and done,
                              and the observation after it.

A row is done for one of five reasons, and its observation belongs to what comes after:

    the episode ended (`finished`)     reward and episode information are those of the episode that
                                       ended, the observation is the first of the next one
    a life was lost (Atari, training)  the observation is the next frame of the same game
    a time limit had cut the episode   `truncated` and `finished`; reward 0, and the action was not
                                       taken. The row before has the episode's last reward and
                                       observation, and is not done, as the task did not end there
    it is the very first row           `truncated`; reward 0, action 0, no steps, an episode's first
                                       observation
    its process was restarted          the same, but for the action, which the lost process was sent

So `truncated` marks rows whose reward and end are not the task's, and the loss learns nothing from
them (`losses.compute_loss`). An episode that a time limit cuts is one row longer than its steps.

`agent_state` is the state before row 0, and the agent zeroes it before consuming a done row.

The shapes below are those of one environment at one step. Actors add a leading batch of
environments, unrolls a leading [T+1], the queue's consumer a [T+1, B].
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

NUM_CODES = 16  # Images of codes have numbers from 0 to below this, as those of MiniGrid.


@dataclasses.dataclass(frozen=True)
class ArraySpec:
  """Shape and type of an array that a process sends. The functions of `tree` take it as one value,
  while they look into the NamedTuples below.

  Attributes:
    shape: tuple of int or None.
    dtype: a NumPy dtype or scalar type; `np.bytes_` stands for a string.
  """

  shape: tuple
  dtype: Any


class Observation(NamedTuple):
  """An observation as the agent sees it.

  Attributes:
    frame: uint8 [height, width, channels], or float32 [n] where observations are not images.
    instruction: string scalar where the suite has language, the empty tuple otherwise.
    numbers: float32 [n] where numbers stand beside an image, the empty tuple otherwise.
  """

  frame: Any
  instruction: Any = ()
  numbers: Any = ()


class EpisodeInfo(NamedTuple):
  """Statistics of the whole episode (Atari: the whole game, all lives), counted up to and including
  this row.

  Attributes:
    episode_return: float32 scalar, sum of the rewards as the environment gave them, never clipped.
    episode_steps: int32 scalar, agent steps (multiply by the action repeats for frames).
    finished: bool scalar, whether the episode ended with this row. It implies `done`, but not the
      other way round: in Atari training the loss of a life is `done` and leaves the game
      unfinished.
  """

  episode_return: Any
  episode_steps: Any
  finished: Any


class StepOutput(NamedTuple):
  """An environment's answer to an action.

  Attributes:
    reward: float32 scalar, unclipped.
    done: bool scalar, whether the learner must cut bootstrapping and the agent its memory here.
    truncated: bool scalar, whether nothing is to be learned from this row's reward and end. It
      implies `done`.
    info: EpisodeInfo.
    observation: Observation.
  """

  reward: Any
  done: Any
  truncated: Any
  info: EpisodeInfo
  observation: Observation


class AgentOutput(NamedTuple):
  """The agent's answer to an observation.

  Attributes:
    action: int32 scalar.
    policy_logits: float32 [num_actions].
    baseline: float32 scalar, the estimate of the value. The learner computes its own.
  """

  action: Any
  policy_logits: Any
  baseline: Any


class Unroll(NamedTuple):
  """T steps of one environment, as actors send them to the learner; under one policy unless
  inference is shared.

  Attributes:
    level: int32 scalar, index into the run's list of levels.
    policy_version: int32 scalar, the number of learner updates behind the weights that acted at the
      start.
    agent_state: the agent's state before row 0; a nest of [...] tensors, the empty tuple without
      memory.
    step_outputs: StepOutput of [T+1, ...].
    agent_outputs: AgentOutput of [T+1, ...].
  """

  level: Any
  policy_version: Any
  agent_state: Any
  step_outputs: StepOutput
  agent_outputs: AgentOutput


def step_output_spec(observation: Observation) -> StepOutput:
  """Describes a StepOutput of one environment by ArraySpecs, given those of its observations."""

  def scalar(dtype):
    return ArraySpec((), dtype)

  return StepOutput(
    reward=scalar(np.float32),
    done=scalar(np.bool_),
    truncated=scalar(np.bool_),
    info=EpisodeInfo(
      episode_return=scalar(np.float32), episode_steps=scalar(np.int32), finished=scalar(np.bool_)
    ),
    observation=observation,
  )
