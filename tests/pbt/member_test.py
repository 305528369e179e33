"""Members of a population, in this process: what they publish, copy and change, and what they do
when others fail them.
"""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import config, files
from impala_tf.pbt import folder, lineage, member, rules
from impala_tf.pbt.population import Population
from impala_tf.pbt.rules import Rules
from impala_tf.training import checkpoint_files, checkpoints, loop
from impala_tf.training.episodes import Episode
from tests.support import catch
from tests.support.run_files import write_episodes

SETTINGS = dataclasses.replace(
  catch.CONFIG, learning_rate_decay='none', learning_rate=0.001, entropy_cost=0.01, epsilon=0.1
)
RULES = Rules(burn_in_frames=1000, episodes=4, threshold=5.0, probability=1.0, factor=1.2)
POPULATION = Population(
  population=3, given={'level_name': 'catch', 'num_actors': 2}, space={}, rules=RULES
)


class Run:
  """A member with a learner of its own, fed by hand in place of a pipeline."""

  def __init__(self, population, number, settings=SETTINGS, **changes):
    self.folder = folder.member_folder(str(population), number)
    files.prepare_folder(self.folder)
    settings = dataclasses.replace(settings, seed=100 + number, **changes)
    tf.random.set_seed(number)
    self.learner = loop.make_learner(catch.CatchSuite(), settings)
    self.member = member.Member(catch.CatchSuite(), settings, self.folder)
    self.checkpointer = checkpoints.Checkpointer(
      self.folder, learner=self.learner, **self.member.bind(self.learner)
    )
    self.checkpointer.restore_latest()
    self.member.start(int(self.learner.frames))
    self.saves = 0

  def save(self):
    self.saves += 1
    self.checkpointer.save()

  def play(self, frames, *returns):
    self.learner.frames.assign(frames)
    self.member.on_update(frames, None, [Episode(0, r, 7) for r in returns], self.save)

  def evaluated(self, frames, mean):
    """Goes through an evaluation with the given mean return."""
    self.play(frames, *[mean] * RULES.episodes)
    return lineage.read(self.folder)[-1]

  def values(self):
    return {name: float(v) for name, v in self.learner.tunable.variables().items()}

  def weights(self):
    return [
      v.numpy()
      for v in (*self.learner.agent.trainable_variables, *self.learner.optimizer.variables)
    ]


@pytest.fixture
def population(tmp_path):
  folder.define(str(tmp_path), POPULATION)
  return tmp_path


def equal(a, b):
  return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def published(run):
  with open(run.folder + '/' + folder.MEMBER_FILE) as file:
    return json.load(file)


def test_an_evaluation_after_burn_in_and_enough_returns(population):
  run = Run(population, 0)
  run.play(1000, *[1.0] * 10)  # In the burn-in.
  run.play(1160, -1.0, -1.0, 1.0)
  assert run.saves == 0
  assert len(lineage.read(run.folder)) == 1
  before = run.values()
  run.play(1320, 1.0)
  event = lineage.read(run.folder)[-1]
  assert (event.evaluation, event.frames, event.fitness) == (
    1,
    1320,
    50.0,
  )  # Half of the four balls since the burn-in.
  assert (event.opponent, event.copied_from) == (None, None)
  # With probability 1 each of the four changed, by 1.2 or 1 / 1.2.
  assert event.changed == ['learning_rate', 'entropy_cost', 'epsilon', 'clip_global_norm']
  assert event.hyper_parameters == run.values()
  for name, value in run.values().items():
    assert min(abs(value / before[name] - 1.2), abs(value / before[name] - 1 / 1.2)) < 1e-5
  assert run.saves == 1
  assert published(run) == {
    'member': 'member_000',
    'frames': 1320,
    'evaluation': 1,
    'fitness': 50.0,
    'hyper_parameters': run.values(),
  }
  run.play(1480, 1.0, 1.0, 1.0)
  assert run.saves == 1  # Counted anew.


def test_choices_differ_by_member_and_evaluation_and_are_made_again_after_a_loss(
  tmp_path, monkeypatch
):
  def alone(name, number):
    folder.define(str(tmp_path / name), POPULATION)
    return Run(tmp_path / name, number)

  def grown(run, frames):
    before = run.values()
    run.evaluated(frames, 0.0)
    return tuple(after > before[name] for name, after in run.values().items())

  one, two = (
    [grown(run, 2000 + 160 * count) for count in range(5)]
    for run in (alone('one', 0), alone('two', 1))
  )
  assert len(set(one)) > 1
  assert one != two

  with monkeypatch.context() as lost:
    lost.setattr(Run, 'save', lambda run: None)
    assert grown(alone('lost', 0), 2000) == one[0]
  assert grown(alone('lost', 0), 2000) == one[0]


def test_who_is_clearly_worse_copies_everything_but_the_counters(population):
  good, bad = Run(population, 0), Run(population, 1, learning_rate=0.1, entropy_cost=0.5)
  good.learner.optimizer.mean_squares[0].assign_add(
    tf.ones_like(good.learner.optimizer.mean_squares[0])
  )
  good.learner.updates.assign(77)
  good.evaluated(2000, 1.0)
  assert not equal(good.weights(), bad.weights())
  bad.learner.updates.assign(5)
  event = bad.evaluated(1500, -1.0)
  assert (event.fitness, event.opponent, event.opponent_fitness) == (0.0, 'member_000', 100.0)
  assert event.copied_from == lineage.Source('member_000', 2000, 1)
  assert equal(good.weights(), bad.weights())
  # The good one's values, changed once more.
  for name, value in bad.values().items():
    assert (
      min(abs(value / good.values()[name] - 1.2), abs(value / good.values()[name] - 1 / 1.2)) < 1e-5
    )
  assert (int(bad.learner.frames), int(bad.learner.updates)) == (1500, 5)
  assert published(bad)['fitness'] == 0.0
  again = Run(population, 1, learning_rate=0.1, entropy_cost=0.5)
  assert equal(again.weights(), bad.weights())
  assert again.values() == bad.values()


def test_who_is_as_good_copies_nothing(population):
  one, two = Run(population, 0), Run(population, 1)
  one.evaluated(2000, 0.09)  # 54.5 %, and the other has 50 %: within the threshold.
  before = two.weights()
  event = two.evaluated(2000, 0.0)
  assert (event.opponent, event.copied_from) == ('member_000', None)
  assert equal(two.weights(), before)
  assert len(event.changed) == 4


@pytest.mark.parametrize(
  'damage', ['no checkpoint', 'torn checkpoint', 'torn file', 'other agent', 'nothing published']
)
def test_others_that_fail_harm_nobody(population, damage):
  good, bad = Run(population, 0), Run(population, 1)
  good.evaluated(2000, 1.0)
  theirs = population / 'member_000'
  if damage == 'no checkpoint':
    for path in (*theirs.glob('ckpt*'), theirs / 'checkpoint'):
      path.unlink()
  elif damage == 'torn checkpoint':
    for path in theirs.glob('ckpt*.data*'):
      path.write_bytes(path.read_bytes()[:100])
  elif damage == 'torn file':
    (theirs / folder.MEMBER_FILE).write_text('{"fitness": 10')
  elif damage == 'nothing published':
    (theirs / folder.MEMBER_FILE).unlink()
  else:
    settings = dataclasses.replace(SETTINGS, level_name='catch_with_memory')
    other = loop.make_learner(catch.CatchSuite(), settings)
    checkpoints.Checkpointer(str(theirs), learner=other).save()
  before = bad.weights()
  event = bad.evaluated(2000, -1.0)
  assert event.copied_from is None
  assert event.opponent == (None if damage in ('torn file', 'nothing published') else 'member_000')
  assert equal(bad.weights(), before)
  assert len(event.changed) == 4
  assert published(bad)['fitness'] == 0.0


def test_a_checkpoint_that_goes_while_it_is_read_is_replaced_by_an_older_one(
  population, monkeypatch
):
  good, bad = Run(population, 0), Run(population, 1)
  good.evaluated(2000, 1.0)
  older = good.weights()
  good.learner.agent.trainable_variables[0].assign_add(
    tf.ones_like(good.learner.agent.trainable_variables[0])
  )
  good.save()
  original = checkpoint_files._read

  def read(path):
    if path.endswith('ckpt-2'):
      for file in (population / 'member_000').glob('ckpt-2*'):
        file.unlink()
    return original(path)

  monkeypatch.setattr(checkpoint_files, '_read', read)
  assert bad.evaluated(2000, -1.0).copied_from.member == 'member_000'
  assert equal(bad.weights(), older)


@pytest.mark.parametrize('lost', [False, True])
def test_the_fitness_of_an_agent_that_was_lost_is_withdrawn(population, lost):
  run = Run(population, 0)
  run.evaluated(2000, 1.0)
  run.evaluated(3000, 1.0)
  if lost:
    for path in (population / 'member_000').glob('ckpt-2.data*'):
      path.write_bytes(path.read_bytes()[:100])
  Run(population, 0)
  assert folder.read_fitnesses(str(population)) == ({} if lost else {'member_000': 100.0})


def test_a_resume_goes_on_with_hyper_parameters_and_collected_returns(population):
  run = Run(population, 0)
  run.evaluated(1200, 0.0)
  values = run.values()
  run.play(1360, 1.0, 1.0)
  run.save()
  write_episodes(
    run.folder,
    # What was before the evaluation is not read again.
    [(1000, 'catch', 'damaged'), (1200, 'catch', -1.0), (1360, 'catch', 1.0), (1360, 'catch', 1.0)],
  )
  again = Run(population, 0)
  assert again.values() == values
  assert len(lineage.read(again.folder)) == 2
  again.play(1520, -1.0, -1.0)
  assert lineage.read(again.folder)[-1].fitness == 50.0


def test_a_resume_before_the_first_evaluation_leaves_out_the_burn_in(population):
  run = Run(population, 0)
  run.play(1160, 1.0)
  run.save()
  write_episodes(run.folder, [(500, 'catch', -1.0), (1000, 'catch', -1.0), (1160, 'catch', 1.0)])
  again = Run(population, 0)
  again.play(1320, 1.0, 1.0)
  assert [event.evaluation for event in lineage.read(again.folder)] == [0]
  again.play(1480, 1.0)
  assert lineage.read(again.folder)[-1].fitness == 100.0


MOMENTS = {
  'while copying': (checkpoints._Match, 'assign'),
  'after copying': (rules, 'explore'),
  'before saving': (Run, 'save'),
  'before publishing': (files, 'write_json'),
}


@pytest.mark.parametrize('moment', MOMENTS)
def test_a_member_killed_in_the_middle_of_a_copy_harms_nobody(population, monkeypatch, moment):
  good, bad = Run(population, 0), Run(population, 1)
  good.evaluated(2000, 1.0)
  bad.evaluated(1500, 0.96)  # Not copied: its own agent, at 98 %.
  own, values = bad.weights(), bad.values()

  # What SIGKILL leaves is what is on the disk at that moment.
  left = population.with_name(f'{population.name}_left')
  place, name = MOMENTS[moment]
  original = getattr(place, name)

  def snapshot(*args, **kwargs):
    shutil.copytree(population, left)
    return original(*args, **kwargs)

  monkeypatch.setattr(place, name, snapshot)
  bad.evaluated(1600, -1.0)
  monkeypatch.undo()

  for path in (population / 'member_000').iterdir():
    assert (left / 'member_000' / path.name).read_bytes() == path.read_bytes()
  third = Run(left, 2)
  assert third.evaluated(2500, 0.9).opponent in ('member_000', 'member_001')
  back = Run(left, 1)
  copied = moment == 'before publishing'  # The checkpoint was whole.
  assert equal(back.weights(), good.weights() if copied else own)
  assert [e.evaluation for e in lineage.read(back.folder)] == ([0, 1, 2] if copied else [0, 1])
  assert (back.values() == values) != copied
  assert lineage.read(back.folder)[-1].hyper_parameters == back.values()
  assert back.evaluated(1700, -1.0).copied_from.member in ('member_000', 'member_002')


def test_a_decaying_learning_rate_is_refused(population):
  with pytest.raises(config.ConfigurationError, match='learning_rate_decay=none'):
    Run(population, 0, learning_rate_decay='linear')


def test_a_run_outside_a_population_is_refused(tmp_path):
  with pytest.raises(config.ConfigurationError, match=r'population\.json'):
    Run(tmp_path, 0)


def test_another_population_is_refused_but_other_machines_are_not(population):
  faster = {'level_name': 'catch', 'num_actors': 9}
  folder.define(str(population), dataclasses.replace(POPULATION, given=faster))
  later = dataclasses.replace(RULES, burn_in_frames=7)
  with pytest.raises(config.ConfigurationError, match=r'(?s)rules: .*burn_in_frames.*1000.* now'):
    folder.define(str(population), dataclasses.replace(POPULATION, rules=later))


@pytest.mark.parametrize('text', ['{', '[]', '{"population": 3}', '{"rules": {"mercy": 1}}'])
def test_a_file_that_defines_no_population_is_refused(tmp_path, text):
  (tmp_path / folder.POPULATION_FILE).write_text(text)
  with pytest.raises(config.ConfigurationError, match=folder.POPULATION_FILE):
    folder.read_population(str(tmp_path))
