"""The numbers of environments that follow from cores, levels and policy lag, and the levels of
batches then.
"""

import collections
import dataclasses
import random

import pytest

from impala_tf.acting import group
from impala_tf.config import sizes
from impala_tf.environments import suites
from impala_tf.system import machine
from tests.support import catch

CORES = (2, 16, 64, 192)
FOUR = 'pong+breakout+boxing+freeway'
LEVELS = (
  'pong',
  'atari57',
  FOUR,
  'rooms_watermaze',
  'dmlab30',
  'gymnasium:CartPole-v1',
  f'{__name__}:catch',
)


class OutsideSuite(catch.CatchSuite):
  """A suite of somebody's own, which says nothing of actors."""

  def preset(self, level):
    return dataclasses.replace(
      super().preset(level), num_actors=0, envs_per_actor=0, processes_per_actor=0
    )


SUITE = OutsideSuite()


@pytest.fixture(params=CORES)
def cores(request, monkeypatch):
  monkeypatch.setattr(machine, 'cores', lambda: request.param)
  return request.param


@pytest.mark.parametrize('level_name', LEVELS)
@pytest.mark.parametrize(
  'given',
  [
    {},
    {'num_learners': 8},
    {'batch_size': 16},
    {'replay_fraction': 0.5},
    {'batch_size': 32, 'queue_capacity': 33},
  ],
)
def test_the_lag_is_the_papers_whatever_the_machine_and_the_number_of_learners(
  cores, level_name, given, warnings
):
  suite, config = suites.resolve(level_name, **given)
  environments = config.num_actors * config.envs_per_actor
  # By the law, and not by the function that the program asks.
  unrolls = config.batch_size * config.num_learners - config.replayed_per_batch
  lag = (environments + config.queue_capacity - 1) / unrolls + 1
  assert 1 <= lag <= 8
  assert config.expected_lag == pytest.approx(lag)
  assert environments % len(suite.levels(config)) == 0
  group.check(suite, config)
  assert not any('lag' in warning for warning in warnings())


def test_more_cores_have_more_environments_up_to_the_lag_and_then_more_processes(cores):
  chosen = sizes.choose(cores, 1, 32)
  processes = chosen.num_actors * chosen.processes_per_actor
  assert chosen[:2] == ((4, 16) if cores == 2 else (13, 16))
  # One environment a process is the end of it.
  assert processes >= min(1.5 * cores, 208)
  assert sizes.choose(cores, 30, 32, usual_envs_per_actor=1).processes_per_actor == 1


def blocks_of(level_name, processes):
  """The levels of the unrolls that each actor of a cluster sends at once, and the batch size."""
  suite, config = suites.resolve(level_name)
  number = len(suite.levels(config))
  dealt = [
    group.deal(number, config.num_actors, config.envs_per_actor, task * config.num_actors)
    for task in range(processes)
  ]
  return [block for blocks in dealt for block in blocks], config.batch_size


@pytest.mark.parametrize('processes', [1, 3])
@pytest.mark.parametrize(('level_name', 'least'), [('atari57', 32), (FOUR, 4), ('dmlab30', 1)])
def test_a_batch_has_as_many_levels_as_it_can(cores, level_name, least, processes):
  blocks, batch_size = blocks_of(level_name, processes)
  assert all(len(set(block)) == min(len(block), {FOUR: 4}.get(level_name, 57)) for block in blocks)
  environments = collections.Counter(level for block in blocks for level in block)
  assert len(set(environments.values())) == 1
  # Whichever actor is ready first.
  queue = [level for block in random.Random(1).choices(blocks, k=200) for level in block]
  batches = [queue[i : i + batch_size] for i in range(0, len(queue) - batch_size, batch_size)]
  assert all(len(set(batch)) >= least for batch in batches)
  if level_name == FOUR:
    assert all(batch.count(level) == 8 for batch in batches for level in range(4))


def test_what_is_given_is_kept_and_the_rest_follows():
  choose = sizes.choose
  assert choose(64, 1, 32, envs_per_actor=64)[:2] == (3, 64)
  assert choose(64, 1, 32, num_actors=100)[:2] == (100, 2)
  assert choose(64, 1, 32, num_actors=4)[:2] == (4, 16)
  assert choose(64, 1, 32, num_actors=500)[:2] == (500, 1)
  assert choose(64, 57, 32, num_actors=8)[:2] == (8, 26)
  assert choose(64, 57, 32, num_actors=2)[:2] == (2, 57)
  assert choose(64, 57, 1, num_actors=5)[:2] == (5, 12)
  # All levels have as many.
  assert choose(64, 4, 32, num_actors=15)[:2] == (15, 12)
  assert choose(64, 4, 1)[:2] == (1, 4)
  # Each has one, and the lag is what it is then.
  assert choose(2, 57, 8)[:2] == (1, 57)
  assert choose(64, 1, 32, num_actors=2, envs_per_actor=8, processes_per_actor=3) == (2, 8, 3)


def test_processes_that_share_environments_play_all_levels():
  assert sizes.shared_out(sizes.Sizes(1, 57, 4), 4, 57) == (1, 15, 1)
  assert sizes.shared_out(sizes.Sizes(3, 57, 4), 4, 57) == (1, 42, 3)
  # In equal shares, where they have several environments of each.
  assert sizes.shared_out(sizes.Sizes(13, 16, 2), 20, 4) == (1, 8, 1)
  # The largest of 44 processes would have two of 57 environments, and so has that of 29.
  assert sizes.shared_out(sizes.Sizes(3, 57, 29), 2, 57) == (1, 57, 29)


@pytest.mark.parametrize(
  ('architecture', 'given', 'expected'),
  [
    ('a2c_sync_step', {}, (2, 16)),
    ('a2c_sync_trajectories', {'num_actors': 8}, (8, 4)),
    ('a2c_sync_trajectories', {'envs_per_actor': 1}, (32, 1)),
    ('a3c', {'batch_size': 1}, (6, 1)),
    ('a3c', {'batch_size': 1, 'num_actors': 32}, (32, 1)),
  ],
)
def test_the_papers_baselines_have_as_many_as_their_batches_ask_for(
  monkeypatch, warnings, architecture, given, expected
):
  monkeypatch.setattr(machine, 'cores', lambda: 64)
  suite, config = suites.resolve('pong', architecture=architecture, **given)
  assert (config.num_actors, config.envs_per_actor) == expected
  group.check(suite, config)
  # Theirs is not that of a queue.
  assert not any('lag' in warning for warning in warnings())


@pytest.mark.parametrize(
  ('changes', 'lag', 'remedy'),
  [
    ({'num_actors': 8, 'envs_per_actor': 64}, '65', 'at most 52 environments'),
    ({'num_actors': 4, 'envs_per_actor': 8, 'queue_capacity': 80}, '15', '--batch_size'),
    ({'num_actors': 4, 'envs_per_actor': 8}, None, None),
  ],
)
def test_a_longer_lag_is_warned_of_with_its_remedy(warnings, changes, lag, remedy):
  group.check(catch.CatchSuite(), dataclasses.replace(catch.CONFIG, **changes))
  messages = [warning for warning in warnings() if 'policy lag' in warning]
  assert len(messages) == (lag is not None)
  for message in messages:
    assert f'about {lag} updates' in message
    assert remedy in message


def test_the_law():
  assert sizes.expected_lag(64, 32) == 3
  assert sizes.expected_lag(64, 32, queued=33) == 4
  for unrolls in (1, 2, 8, 32, 256):
    most = sizes.most_environments(unrolls)
    assert (
      sizes.expected_lag(most, unrolls) <= sizes.MOST_LAG < sizes.expected_lag(most + 1, unrolls)
    )
