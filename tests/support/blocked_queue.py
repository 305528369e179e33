"""A learner that takes no unrolls, and an actor whose threads all wait for room in its queue while
weights are pulled.

python -m tests.support.blocked_queue learner 127.0.0.1:8470      # until it is killed
python -m tests.support.blocked_queue actor 127.0.0.1:8470        # prints the pulled versions
"""

import sys
import threading
import time

import tensorflow as tf

from impala_tf.acting import specs, weights
from impala_tf.agent import agents
from impala_tf.benchmark import parts
from impala_tf.cluster import connection, roles
from impala_tf.system import machine
from impala_tf.transport import unroll_queue
from tests.support import catch

THREADS, PULLS = 8, 20
_PLACE = {'device': roles.LEARNER_DEVICE, 'shared_name': connection.QUEUE, 'serialized': True}


def _learn(agent, queue):
  published = weights.PublishedWeights(agent, roles.LEARNER_DEVICE, connection.WEIGHTS)
  queue.size()
  version = 0
  while True:
    version += 1
    published.publish(tf.constant(version))
    time.sleep(0.01)


def _act(agent, queue):
  published = weights.PublishedWeights(
    agent, roles.LEARNER_DEVICE, connection.WEIGHTS, version=None
  )
  unrolls = parts.unrolls_to_send(catch.CatchSuite(), catch.CONFIG, agent)
  threads = [
    threading.Thread(target=queue.enqueue_many, args=(unrolls,), daemon=True)
    for _ in range(THREADS)
  ]
  for thread in threads:
    thread.start()
  while int(queue.size()) < 1:
    time.sleep(0.1)
  pull = tf.function(published.pull)
  versions = []
  while len(versions) < PULLS:
    try:
      version = int(pull()[1])
    except (
      tf.errors.FailedPreconditionError,
      tf.errors.NotFoundError,
    ):  # the learner has published nothing yet
      continue
    if version not in versions:
      versions.append(version)
  print(*versions, sum(thread.is_alive() for thread in threads), flush=True)


def main(job, address):
  """Plays one of the parts."""
  machine.configure_tensorflow(1)
  own = address if job == 'learner' else f'127.0.0.1:{roles.free_port()}'
  connection.connect(roles.Role(job, 0, address, own))
  agent = agents.for_suite(catch.CatchSuite(), catch.CONFIG)
  queue = unroll_queue.UnrollQueue(
    specs.Specs(catch.CatchSuite(), catch.CONFIG, agent).unroll, 1, **_PLACE
  )
  {'learner': _learn, 'actor': _act}[job](agent, queue)


if __name__ == '__main__':
  main(*sys.argv[1:])
