"""The smallest agent with a memory."""

import tensorflow as tf

from impala_tf.agent import agents


class LinearAgent(agents.Agent):
  """An agent whose state is the sum of the rewards it has consumed since the last done."""

  def __init__(self):
    super().__init__(
      9, torso=lambda frames: tf.reshape(tf.cast(frames, tf.float32), [tf.shape(frames)[0], 4])
    )

  def initial_state(self, batch_size):
    return tf.zeros([batch_size])

  def step(self, last_actions, step_outputs, state):
    output, _ = super().step(last_actions, step_outputs, ())
    return output, tf.where(step_outputs.done, 0.0, state) + step_outputs.reward
