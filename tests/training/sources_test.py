"""The sources of batches: how long a learner waits, and what the paper's baselines give it."""

import contextlib
import dataclasses
import functools
import logging as standard_logging
import threading
import types

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import config
from impala_tf.acting import group, weights
from impala_tf.environments import suites
from impala_tf.learning import losses
from impala_tf.system import timing
from impala_tf.training import loop, sources
from tests.support import catch, frail, updates

OF_ONE_ACTOR = {'batch_size': 4, 'envs_per_actor': 4}
BASELINES = {
  'a2c_sync_step': {'architecture': 'a2c_sync_step'},
  'a2c_sync_trajectories': {'architecture': 'a2c_sync_trajectories'},
  'a2c_dynamic_batching': {
    'architecture': 'a2c_sync_trajectories',
    'inference': 'shared',
    'inference_timeout_ms': 2.0,
  },
  'a3c': {'architecture': 'a3c', **OF_ONE_ACTOR},
}
by_baseline = pytest.mark.parametrize('baseline', list(BASELINES))


def settings_of(baseline, **given):
  return dataclasses.replace(catch.CONFIG, **BASELINES[baseline] | given)


def updates_of(suite, settings, count, look=lambda batch: None):
  """The episodes and metrics of the first updates from a source; `look` sees each batch."""
  learner = loop.make_learner(suite, settings)
  original = learner.update
  learner.update = lambda batch: (look(batch), original(batch))[1]
  with updates.source_of(suite, settings, learner) as source:
    return list(updates.updates(source, learner, count))


class Clock:
  """Time that moves when told."""

  now = 1000.0

  def __call__(self):
    return self.now


class Scripted(sources.Source):
  """Gives batches, or None where there is none, from a list; at each of them `seconds` pass."""

  def __init__(self, script, clock=None, seconds=0.0, error=None):
    self._script, self._clock, self._seconds = list(script), clock, seconds
    self._learner = types.SimpleNamespace(frames=160)
    self.polls = 0
    self.actors = types.SimpleNamespace(
      error=error, poll=self._poll, describe_wait=lambda: 'They sleep.'
    )

  def _poll(self):
    self.polls += 1

  def _get(self, timeout):
    if self._clock:
      self._clock.now += self._seconds
    return self._script.pop(0)


def test_a_batch_is_waited_for_and_actors_are_looked_at_meanwhile():
  source = Scripted([None, None, 'batch'])
  assert source.next_batch() == 'batch'
  assert source.polls == 3


def test_waiting_ends_when_it_is_to_stop():
  assert Scripted([]).next_batch(stop=True) is None


def test_a_failed_actor_ends_the_waiting_with_what_was_wrong():
  source = Scripted(['batch', None], error=KeyError('no ball'))
  assert source.next_batch() == 'batch'
  with pytest.raises(group.ActorError, match="at frame 160: 'no ball'"):
    source.next_batch()


def test_a_learner_that_waits_says_so_once_a_minute(monkeypatch, caplog):
  clock = Clock()
  monkeypatch.setattr(sources, 'time', types.SimpleNamespace(monotonic=clock))
  caplog.set_level(standard_logging.WARNING)
  source = Scripted([*[None] * 7, 'batch', *[None] * 13, 'batch'], clock, seconds=10.0)
  source.next_batch()
  source.next_batch()
  said = [record.getMessage() for record in caplog.records]
  assert said == [
    f'The learner has waited {seconds} s for a batch. They sleep.' for seconds in (60, 60, 120)
  ]


def test_time_of_an_unroll_is_that_of_environments_and_of_inference():
  clock = Clock()
  timer = timing.StageTimer(clock)
  shares = group.stage_shares(timer)
  assert shares() == {}
  for stage, seconds in (('unroll', 8.0), ('environment', 3.0), ('enqueue', 2.0)):
    with timer(stage):
      clock.now += seconds
  assert shares() == pytest.approx({'environment': 0.3, 'inference': 0.5, 'queue': 0.2})


def test_gradients_of_a3c_teach_what_a_random_policy_does_not_know():
  # The other baselines give the learner the same batches as IMPALA does, see the next test.
  suite, settings = catch.CatchSuite(), settings_of('a3c', learning_rate=0.006)
  learner = loop.make_learner(suite, settings)
  # It ends once 300 balls in a row were caught by more than four of five; a random policy misses
  # most.
  returns = []
  with updates.source_of(suite, settings, learner) as source:
    for episodes, _ in updates.updates(source, learner, 750):
      returns += [episode.episode_return for episode in episodes]
      if len(returns) >= 300 and np.mean(returns[-300:]) > 0.6:
        break
  assert np.mean(returns[:300]) < -0.2
  assert np.mean(returns[-300:]) > 0.6


@pytest.mark.parametrize('baseline', [name for name in BASELINES if name != 'a3c'])
def test_batches_are_what_the_newest_policy_played(baseline):
  # What makes a batch one to learn from: at each row the agent, with the weights before the update,
  # would have chosen as was played, and that led to the next row.
  suite, settings = catch.CatchSuite(), settings_of(baseline, learning_rate=0.05)
  learner = loop.make_learner(suite, settings)
  original, differences = learner.update, []

  def update(batch):
    outputs, _ = learner.agent.unroll(
      batch.agent_outputs.action, batch.step_outputs, batch.agent_state
    )
    acted = batch.agent_outputs
    differences.append(np.abs(outputs.policy_logits[:-1] - acted.policy_logits[1:]).max())
    differences.append(np.abs(outputs.baseline[:-1] - acted.baseline[1:]).max())
    return original(batch)

  learner.update = update
  with updates.source_of(suite, settings, learner) as source:
    lags = [int(metrics.lag_max) for _, metrics in updates.updates(source, learner, 5)]
  assert lags == [0] * 5
  assert max(differences) < 1e-4


@by_baseline
def test_counters_and_nothing_left_running(baseline):
  before = set(threading.enumerate())
  settings = settings_of(baseline)
  results = updates_of(catch.CatchSuite(), settings, 10)
  frames = settings.batch_size * 20
  assert [int(metrics.updates) for _, metrics in results] == list(range(1, 11))
  assert [int(metrics.frames) for _, metrics in results] == [frames * k for k in range(1, 11)]
  # Episodes have seven steps; those of a batch ended in it.
  episodes = [episode for played, _ in results for episode in played]
  assert {episode.episode_steps for episode in episodes} == {7}
  assert frames * 10 // 7 - 8 <= len(episodes) <= frames * 10 // 7
  left = [
    t.name
    for t in set(threading.enumerate()) - before
    if t.name.startswith(('actor', 'lock-step', 'dynamic'))
  ]
  assert left == []


@pytest.mark.parametrize('baseline', ['a2c_sync_step', 'a2c_sync_trajectories'])
def test_synchronous_batches_are_the_next_unroll_of_each_environment(baseline):
  batches = []
  settings = settings_of(baseline, learning_rate=0.0)
  results = updates_of(
    catch.CatchSuite(),
    settings,
    6,
    lambda batch: batches.append(tf.nest.map_structure(np.asarray, batch)),
  )
  for (_, update), before, batch in zip(results[1:], batches, batches[1:], strict=False):
    assert int(update.lag_max) == 0
    np.testing.assert_array_equal(
      batch.step_outputs.observation.frame[0], before.step_outputs.observation.frame[-1]
    )
    np.testing.assert_array_equal(
      batch.step_outputs.info.episode_steps[0], before.step_outputs.info.episode_steps[-1]
    )
    np.testing.assert_array_equal(batch.agent_outputs.action[0], before.agent_outputs.action[-1])
  # Eight environments with balls of their own.
  assert (
    len(
      {
        batch.step_outputs.observation.frame[:, b].tobytes()
        for batch in batches[:1]
        for b in range(8)
      }
    )
    > 4
  )


class Dim(catch.Catch):
  """Catch in grey."""

  def _observation(self):
    observation = super()._observation()
    return observation._replace(frame=observation.frame // 2)


class TwoLevels(catch.CatchSuite):
  """Catch under two names, one of which looks different."""

  def levels(self, config):
    return ('left', 'right')

  def make_environment(self, level, seed, is_test, config):
    return functools.partial({'left': catch.Catch, 'right': Dim}[level], seed)


@pytest.mark.parametrize('baseline', ['a2c_sync_step', 'a2c_sync_trajectories'])
def test_synchronous_unrolls_name_their_levels(baseline):
  levels, brightness = [], []

  def look(batch):
    levels.append(batch.level.numpy().tolist())
    brightness.append(batch.step_outputs.observation.frame.numpy().max((0, 2, 3, 4)).tolist())

  updates_of(TwoLevels(), settings_of(baseline), 2, look)
  assert levels == [[0, 1] * 4] * 2
  assert brightness == [[255, 127] * 4] * 2


def test_synchronous_batches_may_have_replayed_unrolls_whose_episodes_count_but_once():
  sizes = []
  settings = settings_of('a2c_sync_trajectories', batch_size=16, replay_fraction=0.5)
  results = updates_of(
    catch.CatchSuite(), settings, 10, lambda batch: sizes.append(int(batch.level.shape[0]))
  )
  assert set(sizes) == {16}
  frames = 8 * 20
  assert [int(metrics.frames) for _, metrics in results] == [frames * k for k in range(1, 11)]
  assert frames * 10 // 7 - 8 <= sum(len(played) for played, _ in results) <= frames * 10 // 7


@pytest.mark.parametrize('baseline', ['a2c_sync_step', 'a2c_sync_trajectories'])
def test_stacks_of_frames_go_through_the_replay_of_synchronous_batches(baseline):
  given = {'num_actors': 2, 'envs_per_actor': 2, 'batch_size': 8, 'unroll_length': 4}
  suite, settings = suites.resolve('pong', replay_fraction=0.5, **BASELINES[baseline], **given)
  shapes = []
  updates_of(
    suite,
    suite.with_sizes(settings),
    2,
    lambda b: shapes.append(b.step_outputs.observation.frame.shape),
  )
  assert shapes == [[5, 8, 84, 84, 4]] * 2


def test_a3c_learns_from_its_own_copy_and_finds_the_weights_moved_on(monkeypatch):
  ratios, pulls = [], []
  original = losses.compute_loss

  def compute_loss(*args, **kwargs):
    loss = original(*args, **kwargs)
    tf.numpy_function(
      lambda log_rhos: ratios.append(np.abs(log_rhos).max()), [loss.vtrace_returns.log_rhos], []
    )
    return loss

  monkeypatch.setattr(losses, 'compute_loss', compute_loss)
  pull = weights.PublishedWeights.pull
  monkeypatch.setattr(
    weights.PublishedWeights, 'pull', lambda self: (pulls.append(0), pull(self))[1]
  )
  settings = settings_of('a3c', num_actors=3, learning_rate=0.05)
  results = updates_of(catch.CatchSuite(), settings, 40)
  # Each actor is on-policy by its own copy, though the weights changed under it.
  assert len(ratios) >= 40
  assert max(ratios) < 1e-4
  lags = [(int(update.lag_min), int(update.lag_max)) for _, update in results]
  assert all(low == high for low, high in lags)
  # Between two gradients of one actor are those of the others, which it may or may not have known
  # of.
  assert max(high for _, high in lags) >= 1
  assert max(high for _, high in lags) < 20


def test_an_a3c_actor_is_freed_only_when_the_weights_are_published():
  source = updates.source_of(catch.CatchSuite(), settings_of('a3c'))
  freed = []
  source.weights = types.SimpleNamespace(
    publish=lambda version: freed.append((int(version), source._applied.is_set()))
  )
  source.publish(tf.constant(7, tf.int64))
  assert freed == [(7, False)]
  assert source._applied.is_set()


def test_an_a3c_actor_waits_for_its_own_gradient():
  results = updates_of(catch.CatchSuite(), settings_of('a3c', num_actors=1), 10)
  assert {int(update.lag_max) for _, update in results} == {0}


@by_baseline
def test_an_actor_that_fails_ends_the_run_with_a_checkpoint(tmp_path, baseline):
  settings = settings_of(baseline, total_environment_frames=10**9)
  with pytest.raises(
    group.ActorError,
    match=r'(?s)at frame [\d_]+: .*the ball is stuck.*restarted 3 times in a row',
  ):
    loop.train(frail.FrailSuite(tmp_path, 'raise', 150), settings, str(tmp_path / 'run'))
  assert list((tmp_path / 'run').glob('ckpt-*.index'))


@by_baseline
def test_a_stop_is_heard_while_an_environment_hangs(tmp_path, baseline):
  suite = frail.FrailSuite(tmp_path, 'stuck', 30)
  polls = []

  class Stop:
    def __bool__(self):
      return len(polls) > 1

  settings = settings_of(baseline, learning_rate=0.0)
  with updates.source_of(suite, settings) as source:
    poll = source.actors.poll
    source.actors.poll = lambda: (polls.append(0), poll())
    while source.next_batch(Stop()) is not None:
      polls.clear()
      source.publish(tf.constant(1, tf.int32))
  assert len(polls) == 2


@pytest.mark.parametrize('baseline', ['a2c_sync_step', 'a2c_sync_trajectories'])
def test_batches_of_fewer_unrolls_than_levels_are_refused_with_what_helps(baseline):
  class ManyLevels(catch.CatchSuite):
    def levels(self, config):
      return tuple(map(str, range(9)))

  settings = settings_of(baseline)
  assert settings.fresh_per_batch == 8
  with pytest.raises(config.ConfigurationError, match=r'9 levels.* 8 .*--batch_size'):
    loop.SOURCES[settings.architecture].check(ManyLevels(), settings)


@pytest.mark.parametrize(
  ('baseline', 'given', 'message'),
  [
    (
      'a2c_sync_step',
      {'envs_per_actor': 5},
      '10.*8.*--num_actors',
    ),
    ('a2c_sync_trajectories', {'replay_fraction': 0.5}, '8.*4.*--num_actors'),
    ('a2c_sync_step', {'inference': 'shared'}, '--inference'),
    ('a3c', {'inference': 'shared'}, '--inference'),
    ('a3c', {'batch_size': 8}, 'batch_size=8.*envs_per_actor=4'),
    ('a3c', {'replay_fraction': 0.5}, '--replay_fraction'),
    ('a3c', {'policy_lag': 1}, '--policy_lag'),
    ('a3c', {'num_learners': 2}, 'num_learners=2.*architecture=a3c'),
  ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(
  tmp_path, baseline, given, message
):
  with pytest.raises(config.ConfigurationError, match=message):
    loop.train(catch.CatchSuite(), settings_of(baseline, **given), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_the_first_episode_is_a_part_of_the_time_of_unrolls():
  source = updates.source_of(catch.CatchSuite(), settings_of('a2c_sync_trajectories'))
  stages = []

  class Unroller:
    def initial(self, index):
      stages.append(source.actors.timer.inside)

    def unroll(self, index, carry):
      return carry, 'unrolls'

  class Timer:
    inside = None

    @contextlib.contextmanager
    def __call__(self, stage):
      self.inside = stage
      yield
      self.inside = None

  source.actors.timer, source.actors.unroller = Timer(), Unroller()
  assert source._play(0) == 'unrolls'
  assert stages == ['unroll']


@pytest.mark.parametrize(('environments', 'warned'), [((1, 4), True), ((2, 4), False)])
def test_fewer_environments_than_a_batch_are_warned_of(caplog, environments, warned):
  num_actors, envs_per_actor = environments
  group.check(
    catch.CatchSuite(),
    dataclasses.replace(catch.CONFIG, num_actors=num_actors, envs_per_actor=envs_per_actor),
  )
  assert [
    'A batch of 8 new unrolls will hold several in a row' in r.getMessage() for r in caplog.records
  ] == [True] * warned


def test_what_a3c_can_not_trace_leaves_no_process_behind(monkeypatch):
  def fail(*arguments):
    raise ValueError('A loss of somebody.')

  learner = loop.make_learner(catch.CatchSuite(), settings_of('a3c'))
  monkeypatch.setattr(learner, 'loss_and_gradients', fail)
  source = updates.source_of(catch.CatchSuite(), settings_of('a3c'), learner)
  with pytest.raises(ValueError, match='A loss of somebody'):
    source.__enter__()
  assert [process.pid for process in source.actors.environments] == [None] * len(
    source.actors.environments
  )
