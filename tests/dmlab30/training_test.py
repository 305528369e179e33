"""Whole trainings on DeepMind Lab's levels: what reaches the learner, value by value, and what
dying processes cost.

Real processes, queue and learner; only the engine is a stand-in, which plays recordings of the real
one and a script.
"""

import collections
import dataclasses
import itertools
import pathlib

import numpy as np
import pytest
import tree

from dmlab30 import levels, suite
from impala_tf.acting import group
from impala_tf.agent import agents
from impala_tf.learning import learner
from impala_tf.system import scratch
from impala_tf.training import checkpoints, loop
from tests.support import deepmind_lab_stand_in as stand_in
from tests.support.processes import ROOT
from tests.support.run_files import read_episodes, read_scalars

TAPES = ROOT / 'tests' / 'golden' / 'dmlab_tapes'


def settings(level, agent, **changes):
  quick = {
    'level_cache_dir': '',
    'num_actors': 1,
    'batch_size': 2,
    'unroll_length': 20,
    'checkpoint_interval': 1e6,
    'summary_interval': 1e6,
  }
  return dataclasses.replace(suite.SUITE.configure(level, agent=agent), **{**quick, **changes})


class TwoLevels(suite.DMLabSuite):
  """A suite of two levels, so that each of two actors is known by its level."""

  NAMES = ('rooms_watermaze', 'language_execute_random_task')

  def levels(self, config):
    return self.NAMES


class Consumed:
  """What the learner has consumed, as arrays, and its agent."""

  def __init__(self, monkeypatch):
    self.agent = None
    self._unrolls = collections.defaultdict(list)
    update = learner.Learner.update

    def note_and_update(learner_, batch):
      self.agent = learner_.agent
      arrays = tree.map_structure(np.asarray, batch)
      for column, level in enumerate(arrays.level):
        # Rows come first, but for what belongs to the whole unroll.
        rows = tree.map_structure(
          lambda x, b=column: x[:, b], (arrays.step_outputs, arrays.agent_outputs)
        )
        state = tree.map_structure(lambda x, b=column: x[b], arrays.agent_state)
        self._unrolls[int(level)].append((*rows, state))
      return update(learner_, batch)

    monkeypatch.setattr(learner.Learner, 'update', note_and_update)

  def levels(self):
    return sorted(self._unrolls)

  def unrolls(self, level):
    """(step outputs, agent outputs, state before row 0) of a level that one environment plays, in
    order.
    """
    return self._unrolls[level]

  def stream(self, level):
    """Step and agent outputs of all steps, and the very first row; checks that no row is missing
    between unrolls.
    """
    unrolls = [(steps, outputs) for steps, outputs, _ in self._unrolls[level]]
    for before, after in itertools.pairwise(unrolls):
      tree.map_structure(lambda a, b: np.testing.assert_array_equal(a[-1], b[0]), before, after)
    steps, outputs = tree.map_structure(
      lambda *parts: np.concatenate([part[1:] for part in parts]), *unrolls
    )
    return steps, outputs, tree.map_structure(lambda x: x[0], unrolls[0][0])


@pytest.fixture(name='consumed')
def _consumed(monkeypatch):
  return Consumed(monkeypatch)


def assert_is_first(row, frame=0, instruction=b''):
  """The row before the first action."""
  assert row.done
  assert (row.reward, row.info.episode_return, row.info.episode_steps, row.info.finished) == (
    0,
    0,
    0,
    False,
  )
  assert (row.observation.frame == frame).all()
  assert row.observation.instruction == instruction


def assert_is_recording(level, steps, first):
  """All of a stream is what the real engine gave; returns the number of steps."""
  with np.load(TAPES / f'{level}.npz') as arrays:
    tape = dict(arrays)
  assert_is_first(first)  # a recording begins after its first action
  rows = np.arange(len(steps.reward)) % len(tape['rewards'])
  finished = ~tape['running'][rows]
  np.testing.assert_array_equal(steps.observation.frame, tape['frames'][rows])
  assert steps.observation.instruction.tolist() == tape['instructions'][rows].tolist()
  np.testing.assert_array_equal(steps.reward, tape['rewards'][rows].astype(np.float32))
  np.testing.assert_array_equal(steps.done, finished)
  np.testing.assert_array_equal(steps.info.finished, finished)
  total = count = 0
  for t, row in enumerate(rows):
    total, count = total + tape['rewards'][row], count + 1
    assert (steps.info.episode_return[t], steps.info.episode_steps[t]) == (total, count)
    if finished[t]:
      total = count = 0
  return len(rows)


def script(level, n):
  """Frame and instruction of the stand-in's script after n steps."""
  language = level.startswith('language')
  return n % 256, [f'word{i % 3} go'.encode() if language else b'' for i in n]


def assert_is_script(level, steps, outputs, n, episode_steps):
  """A stream is the stand-in's script from step n[0] to n[-1], with the rewards of the actions that
  the learner sees.
  """
  fill, instructions = script(level, n)
  rewards = n + outputs.action / 10
  np.testing.assert_array_equal(steps.reward, rewards.astype(np.float32))
  assert (steps.observation.frame == fill[:, np.newaxis, np.newaxis, np.newaxis]).all()
  assert steps.observation.instruction.tolist() == instructions
  np.testing.assert_array_equal(steps.done, n % episode_steps == 0)
  np.testing.assert_array_equal(steps.info.finished, steps.done)
  np.testing.assert_array_equal(steps.info.episode_steps, (n - 1) % episode_steps + 1)
  starts = (n - 1) // episode_steps * episode_steps
  returns = [rewards[max(0, start - n[0] + 1) : t + 1].sum() for t, start in enumerate(starts)]
  np.testing.assert_allclose(steps.info.episode_return, returns, rtol=1e-6)


@pytest.mark.parametrize(('agent', 'instruction_type'), [('deep', 'bytes'), ('shallow', 'str')])
def test_a_recording_reaches_the_learner_value_by_value(
  install, consumed, tmp_path, agent, instruction_type
):
  install(tapes=TAPES, instruction_type=instruction_type)
  level = 'language_select_located_object'
  chosen = settings(level, agent, total_environment_frames=4 * 2 * 20 * 4)
  assert loop.train(suite.DMLabSuite(), chosen, str(tmp_path / 'run')) == 0
  steps, _, first = consumed.stream(0)
  assert consumed.levels() == [0]
  assert assert_is_recording(level, steps, first) == 160
  assert len(set(steps.observation.instruction)) == 3
  episodes = read_episodes(tmp_path / 'run')
  # Its only end is at step 60, with a reward of -3 before the end of the recording; it begins again
  # after step 100.
  assert [(row['level'], int(row['episode_frames'])) for row in episodes] == [
    (level, 4 * 60),
    (level, 4 * 100),
  ]
  assert [float(row['episode_return']) for row in episodes] == steps.info.episode_return[
    steps.info.finished
  ].tolist()
  assert set(steps.reward) == {0.0, -3.0}


def test_thirty_actors_play_the_thirty_levels(install, consumed, modules, tmp_path, capsys):
  install(tapes=TAPES)
  chosen = settings(
    'dmlab30',
    'shallow',
    num_actors=30,
    batch_size=15,
    total_environment_frames=6 * 30 * 20 * 4,
    dataset_path='dummy',
    level_cache_dir=str(tmp_path / 'cache'),
  )
  assert loop.train(suite.DMLabSuite(), chosen, str(tmp_path / 'run')) == 0

  names = [level.name for level in levels.all_levels()]
  made = [(pid, level) for pid, level, seed in stand_in.journal(modules) if seed is None]
  assert sorted(level for _, level in made) == sorted(names)
  assert len({pid for pid, _ in made}) == 30
  assert consumed.levels() == list(range(30))
  taped = {path.stem for path in TAPES.glob('*.npz')}
  for index, level in enumerate(names):
    steps, outputs, first = consumed.stream(index)
    if level in taped:
      assert assert_is_recording(level, steps, first) >= 60  # past the end of an episode
    else:
      fill, (instruction,) = script(level, np.zeros(1, int))
      assert_is_first(first, fill[0], instruction)
      assert_is_script(level, steps, outputs, np.arange(1, len(steps.reward) + 1), 5)

  found = read_scalars(tmp_path / 'run')
  episodes = read_episodes(tmp_path / 'run')
  assert {row['level'] for row in episodes} == set(names)
  assert {
    tag.removesuffix('/episode_return') for tag in found if tag.endswith('/episode_return')
  } == set(names)
  # The first score is of all the episodes until then.
  (frames, capped), *_ = found['dmlab30/training_cap_100']
  returns = {}
  for row in episodes:
    if int(row['frames']) <= frames:
      returns.setdefault(row['level'], []).append(float(row['episode_return']))
  assert capped == pytest.approx(levels.mean_score(returns, cap=100), rel=1e-5)
  assert found['dmlab30/training_no_cap'][0] == (
    frames,
    pytest.approx(levels.mean_score(returns), rel=1e-5),
  )
  last = [found[f'dmlab30/{name}'][-1][1] for name in ('training_cap_100', 'training_no_cap')]
  assert (
    ', training_cap_100 {:.2f}, training_no_cap {:.2f}, '.format(*last)
    in capsys.readouterr().out.splitlines()[-2]
  )

  counted = {
    name: found[f'level_cache/{name}']
    for name in ('hits', 'misses', 'damaged', 'evicted', 'write_errors')
  }
  totals = {name: value for name, ((_, value),) in counted.items()}
  assert totals['misses'] >= 30
  assert totals['hits'] > 0  # one of three maps in each episode, so that most are there already
  assert totals['damaged'] == totals['evicted'] == totals['write_errors'] == 0
  assert {path.name.rsplit('_', 2)[0] for path in (tmp_path / 'cache').iterdir()} == set(names)


def test_a_killed_process_costs_its_episode_only(install, consumed, modules, tmp_path, capsys):
  # In its fourth episode, which is the fourth row of the third unroll.
  died, episode_steps = 23, 7
  install(
    episode_steps=episode_steps,
    kill={'rooms_watermaze': [died]},
    # Else it might fill all batches while the dead process is restarted.
    wait={'language_execute_random_task': (30, 'rooms_watermaze')},
  )
  dmlab = TwoLevels()
  # Weights that hardly move, so that what the actors computed can be computed again.
  chosen = settings(
    'rooms_watermaze',
    'shallow',
    num_actors=2,
    unroll_length=10,
    total_environment_frames=12 * 20 * 4,
    learning_rate=1e-30,
  )
  assert loop.train(dmlab, chosen, str(tmp_path / 'run')) == 0

  steps, outputs, first = consumed.stream(0)
  part = lambda start, end: tree.map_structure(lambda x: x[start:end], (steps, outputs))
  assert_is_first(first)
  assert_is_script('rooms_watermaze', *part(0, died - 1), np.arange(1, died), episode_steps)
  # The call of the twenty-third step is answered by the new process: the first row of another
  # episode.
  assert_is_first(tree.map_structure(lambda x: x[died - 1], steps))
  rest = len(steps.reward) - died
  assert rest >= 2 * episode_steps
  assert_is_script('rooms_watermaze', *part(died, None), np.arange(1, rest + 1), episode_steps)
  # The other process takes no notice.
  other_steps, other_outputs, _ = consumed.stream(1)
  n = np.arange(1, len(other_steps.reward) + 1)
  assert_is_script('language_execute_random_task', other_steps, other_outputs, n, episode_steps)

  # Other seeds, in another process.
  seeds = collections.defaultdict(list)
  for pid, level, seed in stand_in.journal(modules):
    if level == 'rooms_watermaze' and seed is not None:
      seeds[pid].append(seed)
  assert len(seeds) == 2
  before, after = seeds.values()
  assert len(before) == 4
  assert not set(before) & set(after)
  # The other level waited for it in its fifth episode.
  _, restarted = seeds
  begun = [(pid, level) for pid, level, seed in stand_in.journal(modules) if seed is not None]
  earlier = begun[: begun.index((restarted, 'rooms_watermaze'))]
  assert [level for _, level in earlier].count('language_execute_random_task') <= 5

  assert_memory_is_fresh(consumed, died)
  ended = [row for row in read_episodes(tmp_path / 'run') if row['level'] == 'rooms_watermaze']
  assert {int(row['episode_frames']) for row in ended} == {4 * episode_steps}
  assert len(ended) == (died - 1) // episode_steps + rest // episode_steps
  assert read_scalars(tmp_path / 'run')['environments/restarts'] == [
    (chosen.total_environment_frames, 1.0)
  ]
  assert ', restarts 1, ' in capsys.readouterr().out.splitlines()[-2]
  # Nor are its files left.
  assert not list(pathlib.Path(scratch.folder()).glob('environment_*'))


def assert_memory_is_fresh(consumed, died):
  """From the row of the death on, the agent acted as one that has seen nothing before; with its old
  memory it would not.
  """
  agent = consumed.agent
  row = lambda nest, t: tree.map_structure(lambda x: x[t : t + 1], nest)
  position, fresh, old = 0, None, agent.initial_state(1)
  computed = []
  for steps, outputs, state in consumed.unrolls(0):
    if fresh is not None:
      tree.map_structure(lambda a, b: np.testing.assert_allclose(a[0], b, atol=1e-5), fresh, state)
    for t in range(len(steps.reward) - 1):
      if position == died:
        fresh = agent.initial_state(1)
        stale, _ = agent.step(
          outputs.action[t : t + 1], row(steps, t)._replace(done=np.array([False])), old
        )
        assert np.abs(stale.policy_logits[0] - outputs.policy_logits[t + 1]).max() > 1e-4
      arguments = (outputs.action[t : t + 1], row(steps, t))
      if fresh is None:
        _, old = agent.step(*arguments, old)
      else:
        answer, fresh = agent.step(*arguments, fresh)
        computed.append((answer.policy_logits[0], outputs.policy_logits[t + 1]))
      position += 1
  for ours, theirs in computed:
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
  assert len(computed) > 20


@pytest.mark.parametrize(
  ('failure', 'message'),
  [
    ({'kill': {'rooms_watermaze': [9] * 9}}, 'was killed by SIGKILL during step'),
    ({'fail': ['rooms_watermaze']}, 'The script failed'),
  ],
)
def test_a_process_that_keeps_dying_ends_the_run_with_its_last_error(
  install, modules, tmp_path, failure, message
):
  install(**failure)
  chosen = settings(
    'rooms_watermaze', 'shallow', unroll_length=4, batch_size=1, total_environment_frames=10**6
  )
  with pytest.raises(group.ActorError) as raised:
    loop.train(suite.DMLabSuite(), chosen, str(tmp_path / 'run'))
  error = str(raised.value)
  assert message in error
  assert 'rooms_watermaze was restarted 3 times' in error
  pids = [pid for pid, _, seed in stand_in.journal(modules) if seed is None]
  assert len(set(pids)) == 4
  assert f'process {pids[-1]}' in error.lower()  # the last one's
  assert (
    checkpoints.load_weights(
      str(tmp_path / 'run'), agents.for_suite(suite.DMLabSuite(), chosen)
    ).frames
    > 0
  )
