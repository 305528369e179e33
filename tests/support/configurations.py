"""Configurations of no suite in particular, each value another one than the default."""

import dataclasses

from impala_tf.config import Config

VALUES = {
  'level_name': 'my_level',
  'agent': 'shallow',
  'total_environment_frames': 200_000_000,
  'batch_size': 32,
  'unroll_length': 20,
  'num_action_repeats': 4,
  'seed': 1,
  'entropy_cost': 0.01,
  'baseline_cost': 0.5,
  'discounting': 0.99,
  'reward_clipping': 'abs_one',
  'reward_scale': 0.1,
  'learning_rate': 0.0006,
  'decay': 0.99,
  'momentum': 0.0,
  'epsilon': 0.01,
  'clip_global_norm': 40.0,
  'learning_rate_decay': 'linear',
  'correction': 'one_step_is',
  'extra_loss': 'math:fsum',
  'clip_rho_threshold': 2.0,
  'clip_c_threshold': 1.5,
  'clip_pg_rho_threshold': 3.0,
  'lambda_': 0.9,
  'q_estimate': 'baseline',
  'architecture': 'a2c_sync_step',
  'policy_lag': 3,
  'replay_fraction': 0.5,
  'replay_capacity': 500,
  'replay_beside': True,
  'callbacks': 'math:fsum,math:prod',
  'precision': 'bfloat16',
  'num_learners': 2,
  'jit_compile': True,
  'num_actors': 3,
  'envs_per_actor': 5,
  'processes_per_actor': 2,
  'queue_capacity': 7,
  'checkpoint_interval': 60.0,
  'summary_interval': 5.0,
  'track': 'wandb',
  'inference': 'shared',
  'inference_maximum_batch': 64,
  'inference_timeout_ms': 20.0,
  'hang_warning': 30.0,
  'hang_timeout': 90.0,
}


RESUMABLE = (
  'jit_compile',
  'num_actors',
  'envs_per_actor',
  'processes_per_actor',
  'queue_capacity',
  'checkpoint_interval',
  'summary_interval',
  'track',
  'inference',
  'inference_maximum_batch',
  'inference_timeout_ms',
  'hang_warning',
  'hang_timeout',
)


OPTIONAL = (
  'reward_scale',
  'learning_rate_decay',
  'correction',
  'extra_loss',
  'clip_rho_threshold',
  'clip_c_threshold',
  'clip_pg_rho_threshold',
  'lambda_',
  'q_estimate',
  'architecture',
  'policy_lag',
  'replay_fraction',
  'replay_capacity',
  'replay_beside',
  'callbacks',
  'precision',
  'num_learners',
)


NAMES = tuple(field.name for field in dataclasses.fields(Config))


def make(**changes):
  return Config(**{**VALUES, **changes})


def another(name):
  """A valid value of field `name` that is not that of VALUES."""
  special = {
    'level_name': 'breakout',
    'agent': 'deep',
    'reward_clipping': 'soft_asymmetric',
    'clip_global_norm': None,
    'learning_rate_decay': 'none',
    'correction': 'none',
    'extra_loss': '',
    'callbacks': '',
    'clip_rho_threshold': None,
    'q_estimate': 'target',
    'architecture': 'a3c',
    'replay_beside': False,
    'precision': 'float32',
    'jit_compile': False,
    'inference': 'own',
    'track': 'none',
  }
  if name in special:
    return special[name]
  value = VALUES[name]
  return value + 1 if isinstance(value, int) else value / 3 + 0.25


# The defaults are the paper's; what the machine decides is 0.
DEFAULTS = {
  'reward_scale': 1.0,
  'learning_rate_decay': 'linear',
  'correction': 'vtrace',
  'extra_loss': '',
  'clip_rho_threshold': 1.0,
  'clip_c_threshold': 1.0,
  'clip_pg_rho_threshold': 1.0,
  'lambda_': 1.0,
  'q_estimate': 'target',
  'architecture': 'impala',
  'policy_lag': 0,
  'replay_fraction': 0.0,
  'replay_capacity': 10_000,
  'replay_beside': False,
  'precision': 'float32',
  'num_learners': 1,
  'jit_compile': False,
  'num_actors': 0,
  'envs_per_actor': 0,
  'processes_per_actor': 0,
  'queue_capacity': 1,
  'checkpoint_interval': 300.0,
  'summary_interval': 30.0,
  'track': 'none',
  'callbacks': '',
  'inference': 'auto',
  'inference_maximum_batch': 1024,
  'inference_timeout_ms': 0.0,
  'hang_warning': 120.0,
  'hang_timeout': 600.0,
}
