"""Numbers of a run at a service."""

import shutil
import sys
import types

import pytest

from impala_tf.config import ConfigurationError
from impala_tf.training import tracking
from tests.support.configurations import make


class Service(types.ModuleType):
  """A stand-in for the package `wandb`, which notes calls."""

  def __init__(self):
    super().__init__('wandb')
    self.calls = []

  def init(self, **given):
    self.calls.append(('init', given))
    return self

  def define_metric(self, name, step_metric=None):
    self.calls.append(('metric', name, step_metric))

  def log(self, numbers):
    self.calls.append(('log', numbers))

  def finish(self):
    self.calls.append(('finish',))


@pytest.fixture
def service(monkeypatch):
  service = Service()
  monkeypatch.setitem(sys.modules, 'wandb', service)
  return service


def test_numbers_are_over_frames_and_a_resumed_run_is_the_same(service, tmp_path):
  config = make(track='wandb')
  folder = tmp_path / 'pong'
  folder.mkdir()
  for _ in range(2):
    tracker = tracking.start(config, f'{folder}/')
    tracker.write(640, {'learner/loss': 2, 'return': None})
    tracker.close()
  half = len(service.calls) // 2
  first, second = service.calls[:half], service.calls[half:]
  assert first == second
  (_, given), *others = first
  assert given['name'] == 'pong'
  assert given['resume'] == 'allow'
  assert given['config']['batch_size'] == config.batch_size
  assert others == [
    ('metric', 'frames', None),
    ('metric', '*', 'frames'),
    ('log', {'frames': 640, 'learner/loss': 2.0}),
    ('finish',),
  ]
  assert given['dir'] == str(folder)


def test_a_folder_that_is_made_anew_is_another_run(service, tmp_path):
  folder = tmp_path / 'pong'
  ids = set()
  for _ in range(2):
    folder.mkdir()
    tracking.start(make(track='wandb'), str(folder))
    ids.add(service.calls[-3][1]['id'])
    shutil.rmtree(folder)
  assert len(ids) == 2


def test_without_a_service_nothing_is_sent(service, tmp_path):
  config = make(track='none')
  tracking.check(config)
  tracker = tracking.start(config, str(tmp_path))
  tracker.write(640, {'learner/loss': 2})
  tracker.close()
  assert service.calls == []


def test_a_service_that_is_not_installed_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'wandb', None)
  with pytest.raises(ConfigurationError, match='pip install wandb'):
    tracking.check(make(track='wandb'))
