"""The presets against Table G.1."""

import dataclasses

import pytest

from atari57 import suite
from impala_tf.config import ConfigurationError


def test_an_expert_has_the_values_of_the_paper():
  expert = suite.SUITE.configure('MsPacman', agent='deep')
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


def test_one_agent_for_all_games_differs_in_little():
  expert, multi_task = (
    dataclasses.asdict(suite.SUITE.configure(name, agent='deep')) for name in ('pong', 'atari57')
  )
  sizes = ('num_actors', 'envs_per_actor', 'processes_per_actor')
  different = {name: value for name, value in multi_task.items() if value != expert[name]}
  assert {name: value for name, value in different.items() if name not in sizes} == {
    'level_name': 'atari57',
    'total_environment_frames': 11_400_000_000,
    'full_action_space': True,
  }


@pytest.mark.parametrize(
  ('level_name', 'count'), [('Pong+MsPacman', 2), ('pong+breakout+boxing+freeway+qbert', 5)]
)
def test_one_agent_for_some_games_has_as_much_of_each(level_name, count):
  some = suite.SUITE.configure(level_name, agent='deep')
  assert some.level_name == level_name.replace('Pong', 'pong').replace('MsPacman', 'ms_pacman')
  assert some.total_environment_frames == count * 200_000_000
  assert some.full_action_space
  assert some.num_actors * some.envs_per_actor % count == 0


def test_presets_by_name():
  assert list(suite.SUITE.presets) == [
    'atari_expert_shallow',
    'atari_expert_deep',
    'atari_multitask_shallow',
    'atari_multitask_deep',
  ]
  for name, values in suite.SUITE.presets.items():
    level_name = 'atari57' if 'multitask' in name else 'pong'
    assert suite.SUITE.with_sizes(values) == suite.SUITE.configure(
      level_name, agent=name.rsplit('_', 1)[1]
    )


def test_unknown_names_are_refused():
  with pytest.raises(ConfigurationError, match=' breakout'):
    suite.SUITE.configure('braekout', agent='shallow')
  with pytest.raises(ConfigurationError, match=' breakout'):
    suite.SUITE.configure('pong+braekout', agent='shallow')
  with pytest.raises(ConfigurationError, match='pong'):
    suite.SUITE.configure('pong+Pong', agent='shallow')
  with pytest.raises(ConfigurationError, match='agent'):
    suite.SUITE.configure('breakout', agent='medium')
