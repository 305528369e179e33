"""Learners on logical processors, which a process must ask for before anything else: so in one of
their own.

    python -m tests.support.several_learners small 4 out.npz       # four learners of two unrolls
    python -m tests.support.several_learners training 2 folder     # a run in two starts

The first makes four updates of the smallest agent, the second stops a run at half its frames and
starts it again.

A further word, cluster, has the process be the learner of a cluster.
"""

import dataclasses
import signal
import sys

import numpy as np
import tensorflow as tf

from impala_tf.cluster import connection, roles
from impala_tf.learning import learner, multi_device
from impala_tf.training import loop
from tests.support import catch, small_learner

CLIP = 0.5  # which the gradients of the smallest agent exceed, those of a part of its batch too


def small_batches():
  """Four batches of eight unrolls."""
  return [small_learner.small_unroll(seed, columns=8, instructed=True) for seed in range(4)]


def _small(strategy):
  count = strategy.num_replicas_in_sync
  subject = small_learner.make_small(
    strategy=strategy,
    instructed=True,
    num_learners=count,
    batch_size=8 // count,
    clip_global_norm=CLIP,
  )
  return subject, small_batches(), subject.agent.trainable_variables, subject.optimizer.mean_squares


def _train_in_two_starts(count, logdir):
  settings = dataclasses.replace(
    catch.CONFIG, num_learners=count, total_environment_frames=160 * count * 6
  )

  class StopsHalfway(loop.Callback):
    def on_update(self, frames, metrics, episodes, save):
      if frames == settings.total_environment_frames // 2:
        signal.raise_signal(signal.SIGTERM)

  starts = [loop.train(catch.CatchSuite(), settings, logdir, [StopsHalfway()]) for _ in range(2)]
  print('exit codes', starts)


def main(kind, count, path, *place):
  """Writes 'metrics', 'variables' and 'slots' after each update, of each device; or makes a run,
  and prints.
  """
  here = tf.config.list_physical_devices('CPU')[0]
  tf.config.set_logical_device_configuration(here, [tf.config.LogicalDeviceConfiguration()] * count)
  if kind == 'training':
    _train_in_two_starts(count, path)
    return
  if place:
    address = f'127.0.0.1:{roles.free_port()}'
    connection.connect(roles.Role('learner', 0, address, address))
  strategy = multi_device.make_strategy(count)
  subject, batches, variables, slots = _small(strategy)
  written = {}
  for number, batch in enumerate(batches):
    written[f'metrics_{number}'] = small_learner.numbers(subject.update(batch))
    for name, group in (('variables', variables), ('slots', slots)):
      for i, variable in enumerate(group):
        copies = [copy.numpy() for copy in strategy.experimental_local_results(variable)]
        assert len(copies) == count
        assert all(np.array_equal(copy, copies[0]) for copy in copies)
        written[f'{name}_{number}_{i}'] = copies[0]
  broken = batches[0]._replace(
    step_outputs=batches[0].step_outputs._replace(reward=batches[0].step_outputs.reward + np.nan)
  )
  try:
    subject.update(broken)
    raise AssertionError('An update that is not finite went through.')
  except learner.NonFiniteLossError:
    unchanged = [written[f'variables_{len(batches) - 1}_{i}'] for i in range(len(variables))]
    assert all(np.array_equal(v.numpy(), u) for v, u in zip(variables, unchanged, strict=True))
    assert int(subject.updates) == len(batches)
  np.savez(path, **written)


if __name__ == '__main__':
  main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
