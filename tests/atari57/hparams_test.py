"""The presets against Table G.1."""

import dataclasses

import pytest

from atari57 import hparams
from impala_tf.hparams import ConfigurationError


def test_an_expert_has_the_values_of_the_paper():
  expert = hparams.preset('MsPacman', 'deep')
  expected = {
    'level_name': 'ms_pacman',
    'agent': 'deep',
    'total_environment_frames': 200_000_000,
    'batch_size': 32,
    'unroll_length': 20,
    'num_action_repeats': 4,
    'entropy_cost': 0.01,
    'baseline_cost': 0.5,
    'discounting': 0.99,
    'reward_clipping': 'abs_one',
    'learning_rate': 0.0006,
    'decay': 0.99,
    'momentum': 0.0,
    'epsilon': 0.01,
    'clip_global_norm': 40.0,
    'width': 84,
    'height': 84,
    'frame_stack': 4,
    'max_noops': 30,
    'full_action_space': False,
  }
  assert {name: dataclasses.asdict(expert)[name] for name in expected} == expected


def test_unknown_names_are_refused():
  with pytest.raises(ConfigurationError, match='Did you mean breakout'):
    hparams.preset('braekout', 'shallow')
  with pytest.raises(ConfigurationError, match='agent'):
    hparams.preset('breakout', 'medium')
