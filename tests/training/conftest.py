"""What tests of this room share."""

import logging

import pytest


@pytest.fixture
def warnings(caplog):
  """Gives a function that returns the warnings so far."""
  caplog.set_level(logging.WARNING)
  return lambda: [record.getMessage() for record in caplog.records if record.name == 'absl']
