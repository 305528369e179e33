"""Runs that differ in their seeds alone."""

from impala_tf.sweeps import seeds, worker
from tests.support import catch


def test_the_runs_have_the_options_that_are_not_the_presets_and_a_seed_each(monkeypatch):
  calls = []
  monkeypatch.setattr(worker, 'run', lambda *args, **known: calls.append((args, known)) or 143)
  config = catch.SUITE.configure('tests.support.catch:catch', seed=4, batch_size=6)
  assert seeds.train(catch.SUITE, config, 3, 'there', parallel=2) == 143
  (((logdir, sweep), known),) = calls
  assert (logdir, known) == ('there', {'parallel': 2})
  assert sweep.given == {'level_name': config.level_name, 'batch_size': 6}
  assert sweep.samples() == [{'seed': 4}, {'seed': 5}, {'seed': 6}]
