"""A trained agent that acts for one environment outside of a run: `impala_tf.load_agent`."""

import numpy as np
import tensorflow as tf

from impala_tf import saved_config, structs
from impala_tf.agent import agents
from impala_tf.environments import suites
from impala_tf.training import checkpoints


class LoadedAgent:
  """The agent of a run, which remembers its episode.

  Attributes:
    suite: `suite.Suite` of its levels, which makes environments that fit it.
    config: the run's `config.Config`.
    frames: environment frames that it was trained for.
  """

  def __init__(self, logdir: str, greedy: bool = False):
    """Loads the newest checkpoint; arguments and errors are as for `impala_tf.load_agent`."""
    self.config = saved_config.load_with(logdir, {})
    self.suite = suites.find(self.config.level_name)
    agent = agents.for_suite(self.suite, self.config)
    self.frames = checkpoints.load_weights(logdir, agent).frames
    self._agent = agents.Greedy(agent) if greedy else agent
    self._step = tf.function(self._agent.step, autograph=False)
    self.reset()

  def reset(self) -> None:
    """Forgets the episode; the next observation is the first of another one."""
    self._state = self._agent.initial_state(1)
    self._last_action = 0

  def act(
    self,
    frame: np.ndarray,
    reward: float = 0.0,
    done: bool = False,
    instruction: bytes = b'',
    numbers: np.ndarray | tuple = (),
  ) -> int:
    """Chooses an action.

    Args:
      frame: observation as the suite's environments give it, [height, width, channels] or [n].
      reward: what the last action earned, unclipped.
      done: whether `frame` is the first of an episode; the agent's memory is cleared.
      instruction: of a level with language.
      numbers: of a level with numbers beside its images, float32 [n].
    """
    spec = self.suite.observation_spec(self.config)
    step_outputs = structs.StepOutput(
      reward=tf.constant([reward], tf.float32),
      done=tf.constant([done]),
      truncated=(),  # The agent does not look at it, nor at the next.
      info=structs.EpisodeInfo((), (), ()),
      observation=structs.Observation(
        tf.constant(frame)[tf.newaxis],
        tf.constant([instruction]) if spec.instruction else (),
        tf.constant(numbers, tf.float32)[tf.newaxis] if spec.numbers else (),
      ),
    )
    last_action = tf.constant([self._last_action], tf.int32)
    output, self._state = self._step(last_action, step_outputs, self._state)
    self._last_action = int(output.action[0])
    return self._last_action
