"""A peer of a learner that sends what no actor would: heartbeats that are none, and unrolls that
would end the training.

    python -m tests.support.bad_peer ADDRESS TASK LEVEL
"""

import sys

import numpy as np
import tensorflow as tf
import tree

from impala_tf.acting import specs
from impala_tf.agent import agents
from impala_tf.cluster import connection, heartbeats, roles
from impala_tf.environments import suites
from impala_tf.transport import unroll_queue

HEARTBEATS = (
  '',
  100_000 * '[',
  '{"levels": [999]}',
  '{"levels": [-1]}',
  '{"levels": 7}',
  '{"statistics": {"hits": 1e308, "misses": 1e308}}',
  '{"statistics": {"hits": NaN}}',
  f'{{"unrolls": 1{300 * "0"}}}',
)


def unrolls_to_send(spec):
  """Unrolls of which one alone is sound: for levels, actions and numbers that are not."""
  sound = tree.map_structure(
    lambda leaf: np.zeros([1, *leaf.shape], leaf.dtype.as_numpy_dtype), spec
  )
  yield sound
  for level in (999, -1):
    yield sound._replace(level=np.full([1], level, np.int32))
  outputs = sound.agent_outputs
  for action in (77, -1):
    yield sound._replace(agent_outputs=outputs._replace(action=outputs.action + action))
  yield sound._replace(agent_outputs=outputs._replace(policy_logits=outputs.policy_logits + np.nan))
  steps = sound.step_outputs
  yield sound._replace(step_outputs=steps._replace(reward=steps.reward + np.float32(np.inf)))


def main(address: str, task: str, level: str) -> None:
  """Sends all of it, and prints 'sent'."""
  role = roles.Role('actor', int(task), address, f'127.0.0.1:{roles.free_port()}')
  connection.Connection(role, give_up_after=120.0).connect(stop=False)
  board = heartbeats.Heartbeats()
  for i, text in enumerate(HEARTBEATS):
    board._exchange(tf.constant(int(task) + i, tf.int64), tf.constant(text))

  suite, config = suites.resolve(level_name=level)
  agent = agents.for_suite(suite, config)
  spec = specs.Specs(suite, config, agent).unroll
  place = {'device': roles.LEARNER_DEVICE, 'shared_name': connection.QUEUE, 'serialized': True}
  queue = unroll_queue.UnrollQueue(spec, config.queue_capacity, sender=int(task), **place)
  for unrolls in unrolls_to_send(spec):
    queue.enqueue_many(tree.map_structure(tf.constant, unrolls))
  print('sent', flush=True)


if __name__ == '__main__':
  main(*sys.argv[1:])
