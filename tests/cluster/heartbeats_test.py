"""What the learner knows of its actors, made out from their heartbeats."""

import dataclasses
import json

import pytest
import tensorflow as tf

from impala_tf.cluster import connection, heartbeats
from impala_tf.cluster.heartbeats import LOST_SECONDS, ActorHeartbeat, Membership
from tests.support.clock import Clock


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
  assert 'No actor has connected yet' in membership.describe()
  membership.update(
    {0: ActorHeartbeat(1, levels=[0, 2], unrolls=7), 1: ActorHeartbeat(1, levels=[2], unrolls=5)}
  )
  assert membership.describe() == '2 actors are connected and have sent 12 unrolls.'
  clock.now += LOST_SECONDS + 1
  membership.update(
    {
      0: ActorHeartbeat(1, levels=[0, 2], unrolls=7),
      1: ActorHeartbeat(2, left=True, refused='agent'),
    }
  )
  clock.now += 12
  described = membership.describe()
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
    '{"statistics": {"hits": 1e308}}',
    '{"statistics": {"hits": NaN}}',
    f'{{"statistics": {{"hits": 1{400 * "0"}}}}}',
    f'{{"unrolls": 1{5000 * "0"}}}',
    '{"unrolls": -1}',
    f'{{"beat": 1{20 * "0"}}}',
    '{"levels": [0.5]}',
    '{"levels": {"0": 1}}',
    100_000 * '[',
    f'{{"levels": {100_000 * "["}{100_000 * "]"}}}',
    f'{{"refused": "{1_000_000 * "x"}"}}',
    b'\xff{}',
  ],
)
def test_what_is_not_a_heartbeat_is_refused(text):
  with pytest.raises(ValueError):  # noqa: PT011
    heartbeats._parse(ActorHeartbeat, text)


def test_board_gives_what_is_sound_and_names_each_fault_once(monkeypatch):
  texts = {-1: '{"state": "running"}', 0: '{"levels": [1]}', 3: '{"levels": [2]}', 4: '['}
  board = heartbeats.Heartbeats()
  monkeypatch.setattr(
    board,
    '_all',
    lambda: (tf.constant(list(texts), tf.int64), tf.constant(list(texts.values()), tf.string)),
  )
  sound, faults = board.read(num_levels=2)
  assert sound == {0: ActorHeartbeat(levels=[1])}
  assert set(faults) == {3, 4}
  assert 'levels' in faults[3]
  assert board.read(num_levels=2) == (sound, {})
  texts[3] = '{"levels": [-1]}'
  assert set(board.read(num_levels=2)[1]) == {3}


def test_heartbeats_arrive_as_they_were():
  learner = heartbeats.LearnerHeartbeat('running', 2, 5, {'seed': '1'})
  text = json.dumps(dataclasses.asdict(learner))
  assert heartbeats._parse(heartbeats.LearnerHeartbeat, text) == learner
  heartbeat = ActorHeartbeat(4, [1, 2], 6, 8, 1, {'hits': 3.0}, {'queue': 0.25}, False, '')
  text = json.dumps(dataclasses.asdict(heartbeat))
  assert heartbeats._parse(ActorHeartbeat, text) == heartbeat


def test_fields_of_signatures_that_differ_are_named():
  ours = {'agent': 'deep', 'unroll': 'a', 'seed': '1'}
  assert connection.differing(dict(ours), ours) == []
  assert connection.differing({'agent': 'shallow', 'seed': '1', 'more': 'x'}, ours) == [
    'agent',
    'unroll',
    'more',
  ]
