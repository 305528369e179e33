"""Flags of the configuration, through a parser of their own."""

import dataclasses

import pytest
from absl import flags

from impala_tf.cli import config_flags
from impala_tf.config import Config, ConfigurationError, options
from impala_tf.environments import suites
from impala_tf.environments.suite import Suite
from tests.support import own_flags


@pytest.fixture
def parse(monkeypatch):
  values = own_flags.parse(monkeypatch, config_flags.define)
  return lambda *arguments: (values(['program', *arguments]), config_flags.given())[1]


def test_every_field_has_a_flag_and_none_is_given(parse):
  assert parse() == {}
  assert {*Config.field_names(), *suites.option_names()} == set(flags.FLAGS)


def test_arguments_are_what_was_given(parse):
  values = {
    'level_name': 'pong',
    'batch_size': 3,
    'learning_rate': 1.2345678901234567e-05,
    'clip_global_norm': None,
    'full_action_space': True,
    'level_cache_dir': '',
    'reward_clipping': 'abs_one',
  }
  assert parse(*config_flags.arguments(values)) == values
  assert parse('--clip_global_norm=12.5')['clip_global_norm'] == 12.5


def test_a_value_of_no_kind_is_refused(parse):
  with pytest.raises(ConfigurationError, match='--clip_global_norm=often '):
    parse('--clip_global_norm=often')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReachConfig(Config):
  """Has an option of a name that commands use."""

  task: str = options.option('what to reach', default='top')
  force: float = options.option('of the arm', default=1.0, runtime=True)


class ReachSuite(Suite):
  """Of an arm that reaches."""

  name = 'reach'
  config_class = ReachConfig


def test_an_option_that_has_the_name_of_a_flag_is_said_and_left_alone(parse, capsys):
  flags.DEFINE_integer('task', None, 'number of the actor')
  config_flags.define_options_of(ReachSuite())
  assert 'task of reach' in capsys.readouterr().err
  assert parse('--task=3', '--force=2') == {'force': 2.0}
