"""Trained agents that come with the project."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

import impala_tf
from impala_tf import saved_config
from impala_tf.agent import agents
from impala_tf.config import ConfigurationError
from impala_tf.environments import suites
from impala_tf.evaluation import pretrained
from impala_tf.training import checkpoints
from tests.support import catch, experiment, run_files

NAMES = pretrained.names()


def test_there_are_some_and_the_table_has_a_row_for_each():
  assert NAMES
  table = (pretrained.ROOT / 'README.md').read_text()
  assert re.findall(r'^\| `(\w+)` \|', table, re.MULTILINE) == NAMES


@pytest.mark.parametrize('name', NAMES)
def test_it_is_small_and_what_its_row_says(name):
  folder = pathlib.Path(pretrained.folder(name))
  size = sum(path.stat().st_size for path in folder.iterdir())
  assert size < pretrained.MAX_BYTES

  config = saved_config.load_with(str(folder), {})
  agent = agents.for_suite(suites.find(config.level_name), config)
  loaded = checkpoints.load_weights(str(folder), agent)
  table = (pretrained.ROOT / 'README.md').read_text()
  (row,) = re.findall(rf'^\| `{name}` \| (.*) \|$', table, re.MULTILINE)
  level, network, frames, _, _, commit, command = row.split(' | ')
  assert (level, network, frames) == (config.level_name, config.agent, f'{loaded.frames:_}')
  assert re.fullmatch('[0-9a-f]{7}', commit)
  assert f'--level_name={level} ' in command
  assert f'--seed={config.seed}' in command


def test_one_plays_better_than_at_random(capsys):
  arguments = ('--mode=test', '--pretrained=cartpole', '--test_num_episodes=4')
  assert experiment.main(*arguments) == 0
  mean = float(re.search(r'mean return ([\d.]+) ', capsys.readouterr().out)[1])
  assert mean > 150  # At random it is about 22.


@pytest.mark.parametrize(
  ('arguments', 'word'),
  [
    (['--mode=test', '--pretrained=ponk'], 'cartpole'),
    (['--pretrained=cartpole'], '--mode=test'),
    (['--mode=test', '--pretrained=cartpole', '--random_policy'], '--random_policy'),
    (['--mode=test', '--pretrained=cartpole', '--batch_size=64'], 'batch_size'),
  ],
)
def test_what_does_not_go_together_is_refused(arguments, word, capsys):
  assert experiment.main(*arguments) == 1
  assert word in capsys.readouterr().err


def test_the_agent_of_a_run_is_added_with_its_weights_alone(tmp_path, monkeypatch):
  monkeypatch.setattr(pretrained, 'ROOT', tmp_path / 'pretrained')
  with pytest.raises(ConfigurationError, match='clone'):
    pretrained.folder('mine')
  config = catch.SUITE.configure('tests.support.catch:catch', discounting=0.5)
  logdir = run_files.make_run(catch.SUITE, config, tmp_path / 'run', frames=1234)
  row = pretrained.add(logdir, 'mine')
  assert '`mine`' in row
  assert '1_234' in row
  assert '--seed=1 --discounting=0.5`' in row
  with pytest.raises(ConfigurationError, match='mine is taken'):
    pretrained.add(logdir, 'mine')

  folder = pretrained.folder('mine')
  ours, theirs = agents.for_suite(catch.SUITE, config), agents.for_suite(catch.SUITE, config)
  assert checkpoints.load_weights(folder, ours).frames == 1234
  checkpoints.load_weights(logdir, theirs)
  for a, b in zip(ours.trainable_variables, theirs.trainable_variables, strict=True):
    np.testing.assert_array_equal(a, b)
  keys = {name for name, _ in tf.train.list_variables(folder) if 'optimizer' in name}
  assert not keys
  assert impala_tf.load_agent(folder).frames == 1234


def test_an_agent_that_is_too_large_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(pretrained, 'ROOT', tmp_path / 'pretrained')
  monkeypatch.setattr(pretrained, 'MAX_BYTES', 100)
  config = catch.SUITE.configure('tests.support.catch:catch')
  logdir = run_files.make_run(catch.SUITE, config, tmp_path / 'run')
  with pytest.raises(ConfigurationError, match='100 are kept'):
    pretrained.add(logdir, 'mine')
  assert pretrained.names() == []
