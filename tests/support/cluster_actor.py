"""An actor's process of a cluster without a learner, and what stands for the link to it."""

import dataclasses

from impala_tf.cluster import actor, heartbeats, roles
from tests.support import catch


class Link:
  """Writes down on its `tape` what it is told."""

  address = '10.0.0.2:2'

  def __init__(self):
    self.tape = []

  def leave(self, refused=''):
    self.tape.append(refused)

  def abandon(self):
    self.tape.append('lost')

  def check_silence(self, seconds):
    """It is never too long."""


def make(task=0, suite=None, **changes):
  """Returns the actor of a task of a cluster whose learner is at 10.0.0.1:1; the other arguments
  are a suite and changed fields of the configuration.
  """
  settings = dataclasses.replace(catch.CONFIG, **changes)
  role = roles.Role('actor', task, '10.0.0.1:1', '10.0.0.2:2')
  return actor.ClusterActor(
    suite or catch.CatchSuite(), settings, role, heartbeats.LearnerHeartbeat('running', 1)
  )
