"""Checkpoints of a small stand-in for a learner, and damage to their files."""

import tensorflow as tf

from impala_tf.training.checkpoints import Checkpointer, RunState

DATA, INDEX = 'data-00000-of-00001', 'index'


class Agent(tf.Module):
  def __init__(self, features, value):
    super().__init__()
    self.weights = tf.Variable(tf.fill([2, features], value))
    self.layers = [tf.Variable(value + 1.0), tf.Variable([value + 2.0])]


class Learner(tf.Module):
  """As `learner.Learner` to a checkpoint: an agent, slots, counters, and attributes that are no
  variables.
  """

  def __init__(self, features=3, value=0.0):
    super().__init__()
    self.agent = Agent(features, value)
    self.optimizer = tf.Module()
    self.optimizer.mean_squares = [
      tf.Variable(tf.fill(v.shape, value + 5.0)) for v in self.agent.trainable_variables
    ]
    self.frames = tf.Variable(0, dtype=tf.int64, trainable=False)
    self.updates = tf.Variable(0, dtype=tf.int64, trainable=False)
    self._settings = {'discounting': 0.99, 'reward_clipping': 'abs_one'}


def values(*modules):
  return [v.numpy().tolist() for module in modules for v in module.variables]


def make(directory, value=0.0, features=3, seed=0):
  learner, run = Learner(features, value), RunState(seed)
  return learner, run, Checkpointer(str(directory), learner=learner, run=run)


def save_three(directory):
  """Checkpoints 1, 2, 3 of a run, at 100, 200, 300 frames."""
  learner, run, checkpointer = make(directory, value=7.0, seed=11)
  for i in range(1, 4):
    learner.frames.assign(100 * i)
    checkpointer.save()
  return learner, run


def truncate(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
