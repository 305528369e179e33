"""Evaluations of a suite: what is played, what is kept, and what is refused. Real processes."""

import csv
import dataclasses
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from impala_tf import errors, files, saved_config
from impala_tf.acting import weights
from impala_tf.config import ConfigurationError
from impala_tf.environments import py_process
from impala_tf.evaluation import evaluate, results
from impala_tf.system import locks, machine
from impala_tf.training import checkpoints
from tests.support import dice, run_files


def make_run(logdir, level, frames=0, **changes):
  config = dataclasses.replace(dice.CONFIG, level_name=level, **changes)
  return run_files.make_run(dice.DiceSuite(logdir.parent), config, logdir, frames)


def play(suite, logdirs, output, **settings):
  settings = evaluate.EvaluationSettings(**{'num_episodes': 3, **settings})
  return evaluate.evaluate_runs(suite, logdirs, str(output), settings)


def play_randomly(suite, output, **settings):
  settings = evaluate.EvaluationSettings(**{'num_episodes': 3, 'levels': ['one'], **settings})
  return evaluate.evaluate_random_policy(suite, str(output), settings)


def rows_of(output):
  with open(output / 'results.csv', newline='') as file:
    return {row['level']: row for row in csv.DictReader(file)}


@pytest.fixture(name='published')
def _published(monkeypatch):
  """The agents whose weights were published."""
  original, agents = weights.PublishedWeights, []
  monkeypatch.setattr(
    weights, 'PublishedWeights', lambda agent: agents.append(agent) or original(agent)
  )
  return agents


def test_an_agent_plays_its_levels_with_the_protocol_in_the_results(tmp_path, published, capsys):
  suite = dice.DiceSuite(tmp_path)
  run = make_run(tmp_path / 'run', 'dice', frames=800)
  found, exit_code = play(
    suite, [run], tmp_path / 'out', levels=['ONE', 'two'], processes=2, seed=5
  )
  assert exit_code == 0
  assert len(published) == 1  # One for all levels: TensorFlow keeps each as long as the process.
  assert found.levels.keys() == {'one_test', 'two_test'}
  assert {level for level, _, _ in suite.made()} == {'one', 'two'}
  for result in found.levels.values():
    origin = (result.run, result.trained_on, result.agent, result.frames, result.training_seed)
    assert origin == (run, 'dice', 'shallow', 800, 1)
    assert os.path.exists(result.checkpoint + '.index')
    assert result.episode_frames == [8] * 3
    assert result.environments == 1
    assert all(0 <= total <= 8.1 for total in result.returns)
    assert len(result.weights) == 8

  protocol = {
    'episodes_per_level': 3,
    'episodes_counted': 'complete ones; each environment plays a share fixed beforehand',
    'actions': 'sampled from the policy',
    'seed': 5,
    'num_action_repeats': 2,
    'score': 'mean return',
    'width': 5,
    'precision': 'float32',
  }
  assert json.loads((tmp_path / 'out' / 'results.json').read_text())['protocol'] == protocol
  assert results.load(str(tmp_path / 'out')) == found

  for name, row in rows_of(tmp_path / 'out').items():
    returns = found.levels[name].returns
    assert float(row['mean_return']) == pytest.approx(np.mean(returns))
    assert float(row['standard_error']) == pytest.approx(np.std(returns, ddof=1) / np.sqrt(3))
    assert float(row['standard_deviation']) == pytest.approx(np.std(returns))
    assert (float(row['lowest']), float(row['highest'])) == (min(returns), max(returns))
    assert (row['episodes'], row['mean_episode_frames']) == ('3', '8.0')
    assert row['pips'] == f'{name}: {round(10 * np.mean(returns))}'
    assert (row['checkpoint'], row['frames']) == (found.levels[name].checkpoint, '800')
    assert {name: row[f'protocol_{name}'] for name in protocol} == {
      name: str(value) for name, value in protocol.items()
    }
  printed = capsys.readouterr().out
  mean = found.means()['two_test']
  assert f'two_test: mean return {mean:.2f} over 3 complete episodes, {mean:.0f} pips.' in printed
  assert 'Finished levels: 2.' in printed


def test_finished_levels_are_not_played_again_and_a_failure_costs_only_its_own(tmp_path):
  run = make_run(tmp_path / 'run', 'dice')
  levels = ['one', 'two']
  with pytest.raises(py_process.ProcessError, match='the dice of two are lost'):
    play(dice.DiceSuite(tmp_path, fails=['two']), [run], tmp_path / 'out', levels=levels)
  kept = results.load(str(tmp_path / 'out'))
  assert list(kept.levels) == ['one_test']
  found, _ = play(dice.DiceSuite(tmp_path, fails=['one']), [run], tmp_path / 'out', levels=levels)
  assert list(found.levels) == ['one_test', 'two_test']
  assert found.levels['one_test'] == kept.levels['one_test']


@pytest.mark.parametrize('random', [False, True])
def test_returns_follow_from_the_seed_whatever_else_is_played(tmp_path, random):
  suite = dice.DiceSuite(tmp_path, length=40)
  run = None if random else make_run(tmp_path / 'run', 'dice')

  def returns(folder, levels, **settings):
    how = {'levels': levels, 'envs_per_process': 2, **settings}
    found, _ = (
      play_randomly(suite, tmp_path / folder, **how)
      if random
      else play(suite, [run], tmp_path / folder, **how)
    )
    return {name: result.returns for name, result in found.levels.items()}

  both = returns('both', ['one', 'two'], processes=2)
  # The number of processes for one level is that of an evaluation that is interrupted later.
  alone = returns('alone', ['two'])
  assert alone['two_test'] == both['two_test']
  # Rounded, a return is the sum of the actions alone.
  actions = [
    [round(total) for total in totals]
    for totals in (*both.values(), *returns('other', ['two'], seed=2).values())
  ]
  assert actions[0] != actions[1] != actions[2] != actions[0]


def test_a_level_is_played_the_same_when_the_evaluation_was_interrupted(tmp_path):
  suite = dice.DiceSuite(tmp_path)
  settings = {'levels': ['one', 'two'], 'processes': 4, 'num_episodes': 8}
  whole, _ = play_randomly(suite, tmp_path, **settings)
  stored = json.loads((tmp_path / 'results.json').read_text())
  del stored['levels']['two_test']
  (tmp_path / 'results.json').write_text(json.dumps(stored))
  resumed, _ = play_randomly(suite, tmp_path, **settings)
  assert resumed.levels == whole.levels
  assert whole.levels['two_test'].environments == 2


def test_the_random_policy_needs_no_run(tmp_path):
  found, _ = play_randomly(dice.DiceSuite(tmp_path), tmp_path / 'out', greedy=True)
  result = found.levels['one_test']
  origin = (result.run, result.checkpoint, result.trained_on, result.agent, result.frames)
  assert origin == ('', '', '', 'random', 0)
  assert found.protocol['actions'] == 'all equally often, without an agent'
  assert 'precision' not in found.protocol


def test_runs_of_a_folder_play_their_own_levels_into_one_evaluation(tmp_path):
  suite = dice.DiceSuite(tmp_path)
  runs = [
    make_run(tmp_path / 'experts' / name, name, frames=frames)
    for name, frames in (('one', 100), ('three', 200))
  ]
  (tmp_path / 'experts' / 'notes').mkdir()
  (tmp_path / 'experts' / 'notes.txt').write_text('no run')
  found, _ = play(suite, [str(tmp_path / 'experts')], tmp_path / 'out', processes=2)
  assert {name: (r.run, r.trained_on, r.frames) for name, r in found.levels.items()} == {
    'one_test': (runs[0], 'one', 100),
    'three_test': (runs[1], 'three', 200),
  }
  assert found.levels['one_test'].weights != found.levels['three_test'].weights
  again, _ = play(suite, [*runs, runs[1]], tmp_path / 'again', levels=['three'])
  assert again.levels == {'three_test': found.levels['three_test']}


@pytest.mark.parametrize('damaged', ['config.json', 'ckpt-1.index'])
def test_damage_to_one_run_of_many_costs_that_run_only(tmp_path, damaged, caplog):
  suite = dice.DiceSuite(tmp_path)
  runs = [make_run(tmp_path / name, name) for name in ('one', 'three')]
  (tmp_path / 'one' / damaged).write_text('{"level_name": "one"')
  found, exit_code = play(suite, runs, tmp_path / 'out', processes=2)
  assert exit_code == 1
  assert found.levels.keys() == {'three_test'}
  assert str(tmp_path / 'one' / damaged.removesuffix('.index')) in caplog.text
  with pytest.raises(errors.UserError, match=str(tmp_path / 'one')):
    play(suite, runs, tmp_path / 'again', levels=['one'])


@pytest.mark.parametrize(('envs_per_process', 'made'), [(2, 2), (8, 3)])
def test_episodes_are_shared_among_the_environments_of_a_level(tmp_path, envs_per_process, made):
  suite = dice.DiceSuite(tmp_path)
  found, _ = play_randomly(suite, tmp_path / 'out', envs_per_process=envs_per_process)
  assert len(found.levels['one_test'].returns) == 3
  assert found.levels['one_test'].environments == made == len(suite.made())
  assert len({process for _, _, process in suite.made()}) == 1
  assert len({seed for _, seed, _ in suite.made()}) == made


def test_a_level_is_divided_among_processes(tmp_path):
  suite = dice.DiceSuite(tmp_path)
  settings = {'processes': 2, 'num_episodes': 5, 'envs_per_process': 2}
  divided, _ = play_randomly(suite, tmp_path / 'divided', **settings)
  assert len({process for _, _, process in suite.made()}) == 2
  assert len({seed for _, seed, _ in suite.made()}) == 4
  result = divided.levels['one_test']
  assert (len(result.returns), len(set(result.returns)), result.environments) == (5, 5, 4)
  whole, _ = play_randomly(suite, tmp_path / 'whole', processes_per_level=1, **settings)
  assert whole.levels['one_test'].environments == 2
  # The first process has the same seeds, and played three of the five.
  assert set(result.returns[:3]) <= set(whole.levels['one_test'].returns[:4])


def test_the_suites_name_stands_for_all_of_its_levels(tmp_path):
  suite = dice.DiceSuite(tmp_path)
  found, _ = play_randomly(suite, tmp_path / 'out', levels=(), processes=3, num_episodes=1)
  assert sorted(found.levels) == ['one_test', 'three_test', 'two_test']
  run = make_run(tmp_path / 'run', 'dice')
  found, _ = play(suite, [run], tmp_path / 'run_out', levels=['dice'], processes=3, num_episodes=1)
  assert len(found.levels) == 3


def test_runs_are_played_in_their_precision(tmp_path, published):
  suite = dice.DiceSuite(tmp_path)
  runs = [
    make_run(tmp_path / name, name, precision=precision)
    for name, precision in (('one', 'bfloat16'), ('two', 'float32'))
  ]
  with pytest.raises(ConfigurationError, match='precision: '):
    play(suite, runs, tmp_path / 'both')
  found, _ = play(suite, runs[:1], tmp_path / 'out', num_episodes=1)
  assert found.protocol['precision'] == 'bfloat16'
  (agent,) = published
  expected = tf.bfloat16 if machine.has_bfloat16() else None
  assert getattr(agent.torso, 'compute_dtype', None) == expected


def test_greedy_agents_take_the_action_of_the_highest_probability(tmp_path):
  suite = dice.DiceSuite(tmp_path, length=30)
  run = make_run(tmp_path / 'run', 'one')
  sampled, _ = play(suite, [run], tmp_path / 'sampled')
  greedy, _ = play(suite, [run], tmp_path / 'greedy', greedy=True)
  assert greedy.protocol['actions'] == 'of the highest probability'
  # The observations of all episodes are the same.
  assert len({round(total) for total in greedy.levels['one_test'].returns}) == 1
  assert len({round(total) for total in sampled.levels['one_test'].returns}) > 1


def test_some_settings_of_the_training_may_be_others(tmp_path):
  suite = dice.DiceSuite(tmp_path)
  run = make_run(tmp_path / 'run', 'one')
  settings = {'changes': {'num_actors': 7}, 'test_changes': {'width': 9}, 'num_episodes': 1}
  found, _ = play(suite, [run], tmp_path / 'out', **settings)
  assert found.protocol['width'] == 9
  play_randomly(suite, tmp_path / 'random', **settings)
  assert {(config.num_actors, config.width) for config in suite.configs} == {(7, 9)}
  with pytest.raises(ConfigurationError, match='width: 5'):
    play(suite, [run], tmp_path / 'other', changes={'width': 6})


def test_what_does_not_fit_the_results_is_refused(tmp_path):
  suite = dice.DiceSuite(tmp_path)
  run = make_run(tmp_path / 'run', 'one', frames=100)
  play(suite, [run], tmp_path / 'out')
  before = (tmp_path / 'out' / 'results.json').read_text()
  for message, settings in (
    ('episodes_per_level: ', {'num_episodes': 4}),
    ('seed: ', {'seed': 2}),
    ('actions: ', {'greedy': True}),
    ('width: ', {'test_changes': {'width': 9}}),
  ):
    with pytest.raises(ConfigurationError, match=message):
      play(suite, [run], tmp_path / 'out', **settings)
  with pytest.raises(ConfigurationError, match='actions: '):
    play_randomly(suite, tmp_path / 'out')
  other_weights = make_run(tmp_path / 'other run', 'one', frames=100)
  same_weights = make_run(tmp_path / 'ran', 'one', frames=200)
  for other in (other_weights, same_weights):
    with pytest.raises(ConfigurationError, match='one_test'):
      play(suite, [other], tmp_path / 'out')
  assert (tmp_path / 'out' / 'results.json').read_text() == before


def test_what_can_not_be_played_is_refused_before_anything_starts(tmp_path):
  suite = dice.DiceSuite(tmp_path, missing=['three'])
  run = make_run(tmp_path / 'run', 'dice')
  second = make_run(tmp_path / 'second', 'one')
  wide = make_run(tmp_path / 'wide', 'two', width=6)
  foreign = make_run(tmp_path / 'foreign', 'elsewhere')
  for message, logdirs, levels in (
    ('nothing', [str(tmp_path / 'nothing')], ()),
    ('No dice for three', [run], ()),
    ('three', [run], ['thre']),
    ('two', [second], ['two']),
    ('one .*run.*second', [run, second], ['one']),
    ('width: ', [second, wide], ()),
    ("'elsewhere'", [second, foreign], ()),
  ):
    with pytest.raises(ConfigurationError, match=message):
      play(suite, logdirs, tmp_path / 'out', levels=levels)
  with pytest.raises(ConfigurationError, match='4 of 3 '):
    play(suite, [run], tmp_path / 'out', levels=['one'], record_video=4)
  assert not (tmp_path / 'out').exists()
  assert suite.made() == []


@pytest.mark.parametrize(
  ('agent', 'message'),
  [
    ('shallow', 'No checkpoint in .*Train first'),
    ('deep', r'(?s)of another agent.*not in the checkpoint'),
  ],
)
def test_a_run_without_its_checkpoint_is_refused(tmp_path, agent, message):
  run = make_run(tmp_path / 'run', 'one')
  if agent == 'shallow':
    for path in (tmp_path / 'run').glob('*ckpt*'):
      path.unlink()
    (tmp_path / 'run' / 'checkpoint').unlink()
  saved_config.save(
    run, dataclasses.replace(saved_config.load(run, dice.CONFIG.__class__), agent=agent)
  )
  with pytest.raises(checkpoints.CheckpointError, match=message):
    play(dice.DiceSuite(tmp_path), [run], tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_results_that_can_not_be_written_or_read_are_noticed_before_anything_is_played(tmp_path):
  suite = dice.DiceSuite(tmp_path)
  (tmp_path / 'out' / 'results.csv').mkdir(parents=True)  # in the way
  with pytest.raises(files.StorageError, match=r'results\.csv'):
    play_randomly(suite, tmp_path / 'out')
  (tmp_path / 'out' / 'results.json').write_text('')
  with pytest.raises(ConfigurationError, match=r'results\.json'):
    play_randomly(suite, tmp_path / 'out')
  with (
    locks.held(str(tmp_path), evaluate.LOCK_NAME),
    pytest.raises(ConfigurationError, match=str(tmp_path)),
  ):
    play_randomly(suite, tmp_path)
  assert suite.made() == []
