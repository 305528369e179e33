"""The file of a run's configuration, with the values of the tests of the configuration itself."""

import dataclasses
import json
import os

import pytest

from impala_tf import files, saved_config
from impala_tf.config import Config, ConfigurationError
from impala_tf.environments import suites
from tests.support.configurations import RESUMABLE, VALUES, another, make
from tests.support.processes import ROOT


class TestCheck:
  def test_the_first_run_writes_the_file(self, tmp_path):
    saved_config.check(str(tmp_path), make())
    assert not list(tmp_path.iterdir())
    saved_config.save(str(tmp_path), make())
    assert json.loads((tmp_path / 'config.json').read_text()) == VALUES
    assert saved_config.load(str(tmp_path), Config) == make()
    assert [path.name for path in tmp_path.iterdir()] == ['config.json']

  def test_no_file(self, tmp_path):
    assert saved_config.load(str(tmp_path), Config) is None

  def test_a_file_that_can_not_be_read_is_named(self, tmp_path):
    (tmp_path / 'config.json').mkdir()
    with pytest.raises(ConfigurationError, match=r'config\.json '):
      saved_config.load(str(tmp_path), Config)

  def test_refuses_another_configuration(self, tmp_path):
    saved_config.save(str(tmp_path), make())
    with pytest.raises(ConfigurationError) as error:
      saved_config.check(str(tmp_path), make(batch_size=16, clip_global_norm=None, num_actors=9))
    message = str(error.value)
    assert '  batch_size: 32 ' in message
    assert '  clip_global_norm: 40.0 ' in message
    assert 'num_actors' not in message
    assert str(tmp_path) in message
    assert '--logdir' in message
    assert saved_config.load(str(tmp_path), Config) == make()

  @pytest.mark.parametrize('name', RESUMABLE)
  def test_resumable_fields_may_differ(self, tmp_path, name):
    saved_config.save(str(tmp_path), make())
    saved_config.check(str(tmp_path), make(**{name: another(name)}))

  @pytest.mark.parametrize(
    'content', [b'{"level_name"', b'\xff\xfe', b'{}', b'[1]', b'', b'{"seed": {}}']
  )
  def test_damaged_file_is_named_and_kept(self, tmp_path, content):
    path = tmp_path / 'config.json'
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r'config\.json '):
      saved_config.check(str(tmp_path), make())
    assert path.read_bytes() == content

  def test_a_save_that_fails_leaves_the_file(self, tmp_path, monkeypatch):
    saved_config.save(str(tmp_path), make())

    def fail(*_, **__):
      raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(files.StorageError, match='disk full'):
      saved_config.save(str(tmp_path), make(seed=5))
    assert saved_config.load(str(tmp_path), Config) == make()


class TestLoadWith:
  def test_what_concerns_the_machine_may_be_another(self, tmp_path):
    saved_config.save(str(tmp_path), make())
    assert saved_config.load_with(str(tmp_path), {'num_actors': 9, 'seed': 1}, Config) == make(
      num_actors=9
    )
    assert saved_config.load(str(tmp_path), Config) == make()

  def test_what_was_learned_may_not(self, tmp_path):
    saved_config.save(str(tmp_path), make())
    with pytest.raises(ConfigurationError, match=r'batch_size: 32 .*16'):
      saved_config.load_with(str(tmp_path), {'num_actors': 9, 'batch_size': 16}, Config)

  def test_no_run(self, tmp_path):
    with pytest.raises(ConfigurationError, match=rf'{tmp_path}.*config\.json'):
      saved_config.load_with(str(tmp_path), {}, Config)


RESULTS = sorted((ROOT / 'results').glob('**/config.json'))


@pytest.mark.parametrize('path', RESULTS, ids=lambda path: path.parent.name)
def test_configurations_of_published_results_load(path):
  # They were written when all suites had their options in one configuration.
  config = saved_config.load(str(path.parent))
  old = json.loads(path.read_text())
  suite = suites.find(old['level_name'])
  assert type(config) is suite.config_class
  now = dataclasses.asdict(config)
  # The time-out had another meaning, see `Config.of_older_version`.
  kept = old.keys() & now.keys() - {'inference_timeout_ms'}
  assert {name: now[name] for name in kept} == {name: old[name] for name in kept}
  assert set(old) - set(now) <= suites.option_names() | {'inference_minimum_batch'}


def test_there_are_published_results():
  assert len(RESULTS) >= 5


def test_a_run_of_a_suite_that_is_not_installed_says_so(tmp_path):
  values = json.dumps(VALUES | {'level_name': 'nowhere.suite:level'})
  (tmp_path / 'config.json').write_text(values)
  with pytest.raises(ConfigurationError, match="No module named 'nowhere'") as error:
    saved_config.load(str(tmp_path))
  assert str(tmp_path) in str(error.value)


def test_a_run_of_another_suite_is_another_run(tmp_path):
  atari = suites.resolve('pong')[1]
  saved_config.save(str(tmp_path), atari)
  with pytest.raises(ConfigurationError, match=r'level_name: pong .*rooms_watermaze'):
    saved_config.check(str(tmp_path), suites.resolve('rooms_watermaze')[1])
  assert saved_config.load(str(tmp_path)) == atari
