"""What the learner knows of its actors, made out from their notices."""

import dataclasses
import json

import pytest

from impala_tf.agent import agents
from impala_tf.cluster import connection, sockets
from impala_tf.cluster.cluster_learner import LOST_SECONDS, ClusterPipeline, Membership
from impala_tf.cluster.connection import ActorHeartbeat
from tests.support import catch


class Clock:
  now = 100.0

  def __call__(self):
    return self.now


def test_an_actor_is_present_as_long_as_its_notice_changes():
  clock = Clock()
  crowd = Membership(clock)
  assert crowd.update({}) == ([], [])
  assert crowd.update({3: ActorHeartbeat(1), 1: ActorHeartbeat(1)}) == ([1, 3], [])
  clock.now += LOST_SECONDS - 1
  assert crowd.update({3: ActorHeartbeat(2), 1: ActorHeartbeat(1)}) == ([], [])
  clock.now += 2
  assert crowd.update({3: ActorHeartbeat(2), 1: ActorHeartbeat(1)}) == ([], [1])
  assert set(crowd.present) == {3}
  # It is back, and the other one takes leave.
  assert crowd.update({3: ActorHeartbeat(3, left=True), 1: ActorHeartbeat(2)}) == ([1], [3])


def test_reason_for_waiting():
  clock = Clock()
  crowd = Membership(clock)
  assert 'No actor has connected yet' in crowd.describe(['a'])
  crowd.update(
    {0: ActorHeartbeat(1, levels=[0, 2], unrolls=7), 1: ActorHeartbeat(1, levels=[2], unrolls=5)}
  )
  described = crowd.describe(['a', 'b', 'c'])
  assert described.startswith(
    '2 actors are connected and have sent 12 unrolls. Levels that nobody plays: b. Start more actors'
  )
  assert crowd.idle(['a']) == ''
  assert 'Levels that nobody plays: b, d, e, f, g, h and 1 more. ' in crowd.idle(list('abcdefghi'))
  clock.now += LOST_SECONDS + 1
  crowd.update(
    {
      0: ActorHeartbeat(1, levels=[0, 2], unrolls=7),
      1: ActorHeartbeat(2, left=True, refused='agent'),
    }
  )
  clock.now += 12
  described = crowd.describe(['a'])
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
def test_notices_that_are_none_are_passed_over(text):
  assert connection._parsed(ActorHeartbeat, text) is None


def test_notices_arrive_as_they_were():
  learner = connection.LearnerHeartbeat('running', 2, 5, {'seed': '1'})
  assert (
    connection._parsed(connection.LearnerHeartbeat, json.dumps(dataclasses.asdict(learner)))
    == learner
  )
  notice = ActorHeartbeat(4, [1, 2], 8, 1, {'hits': 3.0}, {'queue': 0.25}, False, '')
  assert connection._parsed(ActorHeartbeat, json.dumps(dataclasses.asdict(notice))) == notice


def test_terms_that_differ_are_named():
  ours = {'agent': 'deep', 'unroll': 'a', 'seed': '1'}
  assert connection.differing_terms(dict(ours), ours) == []
  assert connection.differing_terms({'agent': 'shallow', 'seed': '1', 'more': 'x'}, ours) == [
    'agent',
    'unroll',
    'more',
  ]


def test_numbers_of_the_actors_that_are_there_come_together():
  suite = catch.CatchSuite()
  clock = Clock()
  learning = ClusterPipeline(
    suite, catch.CONFIG, agents.for_suite(suite, catch.CONFIG), [1, 1], clock=clock
  )
  shares = learning.actor_shares()
  assert (learning.connected, learning.restarts, learning.statistics(), shares()) == (0, 0, {}, {})
  learning._crowd.update(
    {9: ActorHeartbeat(1, restarts=100, statistics={'hits': 100.0}, shares={'queue': 1.0})}
  )
  clock.now += LOST_SECONDS
  learning._crowd.update(
    {
      0: ActorHeartbeat(
        1, restarts=2, statistics={'hits': 1.0}, shares={'queue': 0.25, 'inference': 0.75}
      ),
      1: ActorHeartbeat(
        1, restarts=1, statistics={'hits': 2.5}, shares={'queue': 0.75, 'inference': 0.25}
      ),
      2: ActorHeartbeat(1),  # It has not told yet what it does with its time.
    }
  )
  assert (learning.connected, learning.restarts, learning.statistics()) == (3, 3, {'hits': 3.5})
  assert shares() == {'queue': 0.5, 'inference': 0.5}


def test_connections_opened_since_expect_answers_too(monkeypatch):
  suite, calls = catch.CatchSuite(), []
  learning = ClusterPipeline(suite, catch.CONFIG, agents.for_suite(suite, catch.CONFIG), [1, 1])
  monkeypatch.setattr(sockets, 'set_keepalive', lambda: calls.append('expect'))
  monkeypatch.setattr(learning._heartbeat_board, 'read', dict)
  learning._look()
  assert calls == ['expect']
