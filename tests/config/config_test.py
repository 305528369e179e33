"""Configurations: values and their limits, text, and what differs between two."""

import dataclasses
import json
import sys
import types

import pytest

from impala_tf import config as config_lib
from impala_tf.config import Config, ConfigurationError, StackedImageConfig, options
from impala_tf.learning import losses
from tests.support.configurations import DEFAULTS, NAMES, OPTIONAL, RESUMABLE, VALUES, another, make


class TestValues:
  def test_keeps_what_it_was_given(self):
    assert dataclasses.asdict(make()) == VALUES
    assert tuple(VALUES) == NAMES

  def test_defaults(self):
    required = {n: v for n, v in VALUES.items() if n not in (*RESUMABLE, *OPTIONAL)}
    assert dataclasses.asdict(Config(**required)) == required | DEFAULTS
    assert Config(**required).frame_stack == 1

  def test_is_frozen(self):
    with pytest.raises(dataclasses.FrozenInstanceError):
      make().seed = 2

  @pytest.mark.parametrize('name', [n for n in VALUES if n not in (*RESUMABLE, *OPTIONAL)])
  def test_what_defines_a_run_has_no_default(self, name):
    values = {n: v for n, v in VALUES.items() if n != name}
    with pytest.raises(TypeError, match=name):
      Config(**values)

  @pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
      ('level_name', ' ', 'must not be empty'),
      ('agent', 'depe', r'must be one of shallow, deep \(did you mean deep\?\)'),
      ('total_environment_frames', 0, 'at least 1'),
      ('batch_size', 0, 'at least 1'),
      ('batch_size', 2**31, 'at most 2147483647'),
      ('unroll_length', -3, 'at least 1'),
      ('num_action_repeats', 0, 'at least 1'),
      ('seed', -1, 'at least 0'),
      ('seed', 2**31, f'at most {2**31 - 1}'),
      ('entropy_cost', -0.1, 'at least 0'),
      ('baseline_cost', -0.1, 'at least 0'),
      ('discounting', -0.1, 'at least 0'),
      ('discounting', 1.01, 'at most 1'),
      ('reward_clipping', 'abs_on', r'did you mean abs_one\?'),
      ('learning_rate', -1e-9, 'at least 0'),
      ('learning_rate', float('nan'), 'finite'),
      ('decay', -0.1, 'at least 0'),
      ('decay', 1.1, 'at most 1'),
      ('momentum', -0.1, 'at least 0'),
      ('inference_timeout_ms', 10_001.0, 'at most 10'),
      ('momentum', 1.0, 'below 1'),
      ('epsilon', 0.0, 'above 0'),
      ('clip_global_norm', 0.0, 'above 0'),
      ('clip_global_norm', float('inf'), 'finite'),
      (
        'correction',
        'v_trace',
        r'must be one of vtrace, one_step_is, epsilon, none \(did you mean vtrace\?\)',
      ),
      ('clip_rho_threshold', 0.0, 'above 0'),
      ('clip_c_threshold', -1.0, 'above 0'),
      ('clip_pg_rho_threshold', 0.0, 'above 0'),
      ('lambda_', 1.1, 'at most 1'),
      ('q_estimate', 'value', 'must be one of target, baseline'),
      ('architecture', 'a2c', r'must be one of impala, a2c_sync_step'),
      ('policy_lag', -1, 'at least 0'),
      ('replay_fraction', 1.0, 'below 1'),
      ('replay_capacity', 0, 'at least 1'),
      ('num_actors', -1, 'at least 0'),
      ('envs_per_actor', -1, 'at least 0'),
      ('queue_capacity', 0, 'at least 1'),
      ('checkpoint_interval', 0.0, 'above 0'),
      ('summary_interval', 0.0, 'above 0'),
    ],
  )
  def test_refuses_with_value_reason_and_remedy(self, name, value, reason):
    with pytest.raises(ConfigurationError, match=reason) as error:
      make(**{name: value})
    assert str(error.value).startswith(f'{name}={value!r} (')
    assert str(error.value).endswith(f'Change --{name}.')

  @pytest.mark.parametrize(
    'changes',
    [
      {
        'discounting': 0.0,
        'decay': 0.0,
        'entropy_cost': 0.0,
        'learning_rate': 0.0,
        'seed': 0,
      },
      {
        'discounting': 1.0,
        'decay': 1.0,
        'clip_global_norm': None,
        'seed': 2**31 - 1,
        'batch_size': 1,
      },
    ],
  )
  def test_takes_the_ends_of_ranges(self, changes):
    assert dataclasses.asdict(make(**changes)) == {**VALUES, **changes}

  @pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
      ('batch_size', 2.5, 'of type float, but .* must be of type int'),
      ('total_environment_frames', 2e8, 'write 200000000'),
      ('batch_size', True, 'of type bool'),
      ('replay_beside', 1, 'must be of type bool'),
      ('level_name', None, 'must be of type str'),
      ('learning_rate', '0.1', 'must be of type float'),
      ('clip_global_norm', '40', 'must be of type float or none'),
    ],
  )
  def test_refuses_other_types(self, name, value, message):
    with pytest.raises(ConfigurationError, match=message):
      make(**{name: value})

  def test_whole_numbers_become_floats(self):
    value = make(clip_global_norm=40).clip_global_norm
    assert value == 40.0
    assert isinstance(value, float)

  def test_reward_clippings_are_those_of_the_losses(self):
    field = next(field for field in dataclasses.fields(Config) if field.name == 'reward_clipping')
    assert set(field.metadata['choices']) == set(losses.REWARD_TRANSFORMS)

  def test_every_field_has_help(self):
    assert all(field.metadata['help'] for field in dataclasses.fields(Config))


class TestText:
  def test_shows_what_is_other_than_in_a_preset(self):
    preset = make()
    assert preset.changes_from(preset) == ''
    config = make(clip_global_norm=None, batch_size=1600)
    assert config.changes_from(preset).splitlines() == [
      f'  batch_size        1_600 (preset: {preset.batch_size})',
      f'  clip_global_norm  none (preset: {preset.clip_global_norm})',
    ]

  @pytest.mark.parametrize('changes', [{}, {'clip_global_norm': None, 'replay_beside': False}])
  def test_json_and_back(self, changes):
    config = make(**changes)
    assert Config.from_values(json.loads(config.to_json())) == config
    assert json.loads(config.to_json()) == {**VALUES, **changes}

  def test_a_field_that_an_older_version_did_not_have_takes_its_default(self):
    lacking = ('queue_capacity', 'learning_rate_decay')
    values = {name: value for name, value in VALUES.items() if name not in lacking}
    assert Config.from_values(values) == make(queue_capacity=1)

  def test_fields_that_mean_nothing_here_are_ignored_if_they_are_known(self):
    values = {**VALUES, 'max_noops': 30}
    assert Config.from_values(values, ignored={'max_noops'}) == make()
    with pytest.raises(ConfigurationError, match='max_noops'):
      Config.from_values(values, ignored={'renderer'})

  def test_the_minimum_batch_of_older_versions_is_dropped_with_its_timeout(self):
    older = {**VALUES, 'inference_minimum_batch': 2, 'inference_timeout_ms': 100.0}
    assert Config.from_values(older) == make(inference_timeout_ms=0.0)

  def test_unknown_field(self):
    values = {**VALUES, 'batchsize': 3}
    with pytest.raises(ConfigurationError, match=r'batchsize .*batch_size'):
      Config.from_values(values)

  def test_missing_field(self):
    values = {name: value for name, value in VALUES.items() if name not in ('seed', 'decay')}
    with pytest.raises(ConfigurationError, match='seed, decay'):
      Config.from_values(values)

  def test_values_are_checked(self):
    with pytest.raises(ConfigurationError, match='batch_size=0'):
      Config.from_values({**VALUES, 'batch_size': 0})


class TestDifferences:
  def test_none(self):
    assert config_lib.differences(make(), make()) == []

  @pytest.mark.parametrize('name', NAMES)
  def test_each_field(self, name):
    new = make(**{name: another(name)})
    expected = [] if name in RESUMABLE else [(name, VALUES[name], another(name))]
    assert config_lib.differences(make(), new) == expected


@pytest.mark.parametrize(
  ('batch_size', 'learners', 'fraction', 'beside', 'expected'),
  [
    (32, 1, 0.0, False, (32, 0)),
    (32, 1, 0.5, False, (16, 16)),
    (32, 1, 0.5, True, (32, 32)),
    (32, 1, 0.25, False, (24, 8)),
    (24, 1, 0.25, True, (24, 8)),
    (8, 3, 0.0, False, (24, 0)),
    (8, 3, 0.5, False, (12, 12)),
    (8, 3, 0.5, True, (24, 24)),
    (4, 8, 0.2, True, (32, 8)),
  ],
)
def test_both_readings_of_half_of_each_batch(batch_size, learners, fraction, beside, expected):
  config = make(
    batch_size=batch_size, num_learners=learners, replay_fraction=fraction, replay_beside=beside
  )
  assert (config.fresh_per_batch, config.replayed_per_batch) == expected
  assert config.batch_total == sum(expected)
  # T = 20 steps of four frames each, of new unrolls alone.
  assert config.frames_per_update == expected[0] * 80


@pytest.mark.parametrize(('size', 'fraction'), [(1, 0.5), (2, 0.9), (8, 0.01)])
def test_shares_that_come_to_nothing_or_all_are_refused(size, fraction):
  with pytest.raises(ConfigurationError, match=f'replay_fraction={fraction} of batch_size={size} '):
    make(batch_size=size, num_learners=1, replay_fraction=fraction, replay_beside=False)


def test_what_several_learners_can_not_share_is_refused():
  with pytest.raises(ConfigurationError, match=r'46.* num_learners=8 '):
    make(batch_size=4, num_learners=8, replay_fraction=0.3, replay_beside=True)


@pytest.mark.parametrize(
  ('name', 'value'),
  [('frame_stack', 0), ('repeat_action_probability', -0.1), ('repeat_action_probability', 1.0)],
)
def test_stacks_and_sticky_actions_have_limits(name, value):
  images = {'width': 84, 'height': 84, 'frame_stack': 4}
  assert StackedImageConfig(**VALUES, **images).repeat_action_probability == 0
  with pytest.raises(ConfigurationError, match=name):
    StackedImageConfig(**VALUES, **images | {name: value})
  del images['frame_stack']
  with pytest.raises(TypeError, match='frame_stack'):
    StackedImageConfig(**VALUES, **images)


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('extra_loss', 'fsum'),
    ('extra_loss', 'math:fsum,math:prod'),
    ('extra_loss', 'math:'),
    ('correction', 'math:no_such_function'),
    ('callbacks', 'math:fsum,prod'),
    ('callbacks', 'math:fsum,'),
  ],
)
def test_a_reference_that_leads_nowhere_is_refused_at_once(field, value):
  with pytest.raises(ConfigurationError, match=field):
    dataclasses.replace(make(), **{field: value})


def test_types_may_be_written_as_texts():
  values = {'dataclasses': dataclasses, 'Config': Config, 'option': options.option}
  module = types.ModuleType('with_texts')
  vars(module).update(values)
  sys.modules['with_texts'] = module
  try:
    exec(
      'from __future__ import annotations\n'
      '@dataclasses.dataclass(frozen=True, kw_only=True)\n'
      'class Bandit(Config):\n'
      "  num_arms: int = option('number of arms', default=10, minimum=2)\n"
      "  spread: float | None = option('of the means', default=None)\n",
      vars(module),
    )
  finally:
    del sys.modules['with_texts']
  fields = {field.name: field for field in dataclasses.fields(module.Bandit)}
  assert options.parse(fields['num_arms'], '4') == 4
  assert options.parse(fields['spread'], '2') == 2.0
  assert options.parse(fields['spread'], 'none') is None
  assert options.parse(fields['batch_size'], '4') == 4
