"""N learners of batches of B are one learner of a batch of N*B."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from impala_tf.agent import agents
from impala_tf.config import ConfigurationError
from impala_tf.learning import multi_device
from impala_tf.training import checkpoints
from tests.support import catch, several_learners, small_learner
from tests.support.processes import ROOT


def run(kind, count, folder, *place):
  path = folder / 'out.npz'
  command = [
    sys.executable,
    '-m',
    'tests.support.several_learners',
    kind,
    str(count),
    str(path),
    *place,
  ]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
  assert done.returncode == 0, done.stderr
  with np.load(path) as arrays:
    return dict(arrays)


@pytest.mark.parametrize('place', [(), ('cluster',)])
def test_four_learners_do_what_one_with_all_their_batches_does(tmp_path, place):
  several = run('small', 4, tmp_path, *place)
  one = small_learner.make_small(
    instructed=True, batch_size=8, clip_global_norm=several_learners.CLIP
  )
  for number, batch in enumerate(several_learners.small_batches()):
    metrics = small_learner.numbers(one.update(batch))
    assert metrics[5] > several_learners.CLIP  # the norm of the gradient: it was clipped
    np.testing.assert_allclose(several[f'metrics_{number}'], metrics, rtol=1e-4, atol=1e-6)
    for name, group in (
      ('variables', one.agent.trainable_variables),
      ('slots', one.optimizer.mean_squares),
    ):
      for i, variable in enumerate(group):
        np.testing.assert_allclose(several[f'{name}_{number}_{i}'], variable, rtol=1e-4, atol=1e-6)


def test_a_run_is_stopped_and_goes_on_and_any_agent_can_read_it(tmp_path):
  command = [sys.executable, '-m', 'tests.support.several_learners', 'training', '2', str(tmp_path)]
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
  assert f'exit codes [{128 + signal.SIGTERM}, 0]' in done.stdout, done.stderr
  assert 'Resuming from frame 960, update 3.' in done.stdout
  agent = agents.for_suite(catch.CatchSuite(), catch.CONFIG)
  before = [v.numpy() for v in agent.trainable_variables]
  assert checkpoints.load_weights(str(tmp_path), agent).frames == 1920
  assert all((v.numpy() != b).any() for v, b in zip(agent.trainable_variables, before, strict=True))


def test_each_learner_needs_a_device():
  with pytest.raises(ConfigurationError, match=r'num_learners=64 .*1'):
    multi_device.make_strategy(64)
