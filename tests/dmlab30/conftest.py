"""What tests of this suite share: the stand-in for DeepMind Lab."""

import functools
import sys

import pytest

from tests.support import deepmind_lab_stand_in as stand_in


@pytest.fixture(name='modules')
def _modules(tmp_path, monkeypatch):
  """An empty folder from which modules are imported, in this process and those of environments."""
  folder = tmp_path / 'modules'
  folder.mkdir()
  monkeypatch.syspath_prepend(folder)
  yield folder
  sys.modules.pop('deepmind_lab', None)


@pytest.fixture(name='install')
def _install(modules):
  """Installs the stand-in with the given settings."""
  return functools.partial(stand_in.install, modules)
