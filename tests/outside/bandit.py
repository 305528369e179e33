"""A suite with an option of its own, a torso and a loss term, outside of the project."""

import dataclasses
import functools

import numpy as np

from impala_tf import structs
from impala_tf.config import Config, option
from impala_tf.environments.base import Environment, Transition
from impala_tf.environments.suite import Suite


@dataclasses.dataclass(frozen=True, kw_only=True)
class BanditConfig(Config):
  num_arms: int = option('number of arms, of which the last one pays', default=3, minimum=2)


class Bandit(Environment):
  observation_spec = structs.Observation(structs.ArraySpec((1,), np.float32))

  def __init__(self, num_arms):
    self.num_actions = num_arms

  def reset(self):
    return structs.Observation(np.zeros(1, np.float32))

  def step(self, action):
    return Transition(self.reset(), float(action == self.num_actions - 1), True, True)


class BanditSuite(Suite):
  name, config_class = 'bandit', BanditConfig

  def known_levels(self):
    return ['easy']

  def preset(self, level):
    task = {'level_name': level, 'agent': 'shallow', 'total_environment_frames': 4_000}
    shape = {'batch_size': 4, 'unroll_length': 5, 'num_action_repeats': 1, 'seed': 1}
    loss = {'entropy_cost': 0.01, 'baseline_cost': 0.5, 'discounting': 0.9, 'momentum': 0.0}
    rest = {'learning_rate': 0.01, 'decay': 0.99, 'epsilon': 0.01, 'reward_clipping': 'abs_one'}
    return BanditConfig(**task, **shape, **loss, **rest, clip_global_norm=40.0)

  def make_environment(self, level, seed, is_test, config):
    return functools.partial(Bandit, config.num_arms)


def make_torso():
  import sonnet as snt

  return snt.nets.MLP([8], activate_final=True, name='my_torso')


def more_baseline(learner_outputs, unroll, loss, config):
  return 0.1 * loss.baseline


SUITE = BanditSuite()
