"""Defaults of commands that have the paper's sizes."""

import pytest

from impala_tf.paper import __main__ as paper
from impala_tf.pbt import __main__ as pbt
from impala_tf.sweeps import __main__ as sweeps
from tests.support import own_flags


@pytest.mark.parametrize(
  ('command', 'defaults'),
  [
    # 24 samples of hyper-parameters, none of which ends early, and 24 members of a population.
    (sweeps, {'num_trials': 24, 'prune': False, 'sweep_seed': 1, 'parallel': 1}),
    (pbt, {'population': 24, 'member': None, 'time_slice': None}),
    (paper, {'trials': 24, 'scale': 1.0, 'episodes': None, 'time_slice': None}),
  ],
)
def test_the_papers_sizes_are_the_defaults(monkeypatch, command, defaults):
  values = own_flags.parse(monkeypatch, command.define_flags, '--logdir=here')
  assert {name: values[name].value for name in defaults} == defaults
