"""What the learner knows of its actors, made out from their heartbeats."""

import dataclasses
import json

import pytest

from impala_tf.cluster import connection, heartbeats
from impala_tf.cluster.heartbeats import LOST_SECONDS, ActorHeartbeat, Membership


class Clock:
  now = 100.0

  def __call__(self):
    return self.now


def test_an_actor_is_present_as_long_as_its_heartbeat_changes():
  clock = Clock()
  membership = Membership(clock)
  assert membership.update({}) == ([], [])
  assert membership.update({3: ActorHeartbeat(1), 1: ActorHeartbeat(1)}) == ([1, 3], [])
  clock.now += LOST_SECONDS - 1
  assert membership.update({3: ActorHeartbeat(2), 1: ActorHeartbeat(1)}) == ([], [])
  clock.now += 2
  assert membership.update({3: ActorHeartbeat(2), 1: ActorHeartbeat(1)}) == ([], [1])
  assert set(membership.present) == {3}
  # It is back, and the other one takes leave.
  assert membership.update({3: ActorHeartbeat(3, left=True), 1: ActorHeartbeat(2)}) == ([1], [3])


def test_reason_for_waiting():
  clock = Clock()
  membership = Membership(clock)
  assert 'No actor has connected yet' in membership.describe(['a'])
  membership.update(
    {0: ActorHeartbeat(1, levels=[0, 2], unrolls=7), 1: ActorHeartbeat(1, levels=[2], unrolls=5)}
  )
  described = membership.describe(['a', 'b', 'c'])
  assert described.startswith(
    '2 actors are connected and have sent 12 unrolls. Levels that nobody plays: b. Start more '
    'actors'
  )
  assert membership.idle(['a']) == ''
  assert 'Levels that nobody plays: b, d, e, f, g, h and 1 more. ' in membership.idle(
    list('abcdefghi')
  )
  clock.now += LOST_SECONDS + 1
  membership.update(
    {
      0: ActorHeartbeat(1, levels=[0, 2], unrolls=7),
      1: ActorHeartbeat(2, left=True, refused='agent'),
    }
  )
  clock.now += 12
  described = membership.describe(['a'])
  assert (
    'No actor is connected; of the 2 that were, 1 was the last to be heard of, 12 s ago.'
    in described
  )
  assert 'Refused for other settings: 1 (agent).' in described


@pytest.mark.parametrize(
  'text',
  [
    '',
    'nonsense',
    '[]',
    '{"beat": "1"}',
    '{"unknown": 1}',
    '{"shares": {"queue": "much"}}',
    '{"levels": ["pong"]}',
    '{"statistics": {"hits": null}}',
  ],
)
def test_what_is_not_a_heartbeat_is_passed_over(text):
  assert heartbeats._parsed(ActorHeartbeat, text) is None


def test_heartbeats_arrive_as_they_were():
  learner = heartbeats.LearnerHeartbeat('running', 2, 5, {'seed': '1'})
  assert (
    heartbeats._parsed(heartbeats.LearnerHeartbeat, json.dumps(dataclasses.asdict(learner)))
    == learner
  )
  heartbeat = ActorHeartbeat(4, [1, 2], 8, 1, {'hits': 3.0}, {'queue': 0.25}, False, '')
  assert heartbeats._parsed(ActorHeartbeat, json.dumps(dataclasses.asdict(heartbeat))) == heartbeat


def test_fields_of_signatures_that_differ_are_named():
  ours = {'agent': 'deep', 'unroll': 'a', 'seed': '1'}
  assert connection.differing(dict(ours), ours) == []
  assert connection.differing({'agent': 'shallow', 'seed': '1', 'more': 'x'}, ours) == [
    'agent',
    'unroll',
    'more',
  ]
