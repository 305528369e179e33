"""Tests of the evaluation, with a trained agent's files, real processes and a stand-in for the engine."""

import csv
import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from dmlab30 import evaluate, hparams, levels, results, suite
from impala_tf import checkpoints, experiment, py_process, training
from impala_tf import hparams as hparams_lib
from impala_tf.hparams import ConfigurationError
from tests import deepmind_lab_stand_in as stand_in

ROOT = pathlib.Path(__file__).resolve().parents[2]


def make_run(logdir, level, frames=0, **changes):
  """The files of a training that ended at once, or after `frames`."""
  chosen = dataclasses.replace(hparams.preset(level, 'shallow'), level_cache_dir='', unroll_length=7, **changes)
  logdir.mkdir(parents=True, exist_ok=True)
  hparams_lib.save(str(logdir), chosen)
  tf.random.set_seed(len(str(logdir)))
  learner = training.make_learner(experiment.make_agent(suite.DMLabSuite(), chosen), chosen)
  learner.frames.assign(frames)
  checkpoints.Checkpointer(str(logdir), learner=learner, run=checkpoints.RunState(1)).save()
  return str(logdir)


def play(logdirs, output, **settings):
  return evaluate.evaluate(logdirs, str(output), **{'num_episodes': 3, **settings})


def test_plays_test_versions_and_writes_returns_with_their_protocol(modules, tmp_path):
  stand_in.install(modules, episode_steps=4)
  run = make_run(tmp_path / 'run', 'dmlab30', frames=800, dataset_path='dummy')
  only = ['rooms_collect_good_objects_train', 'language_execute_random_task', 'psychlab_continuous_recognition']
  found, exit_code = play([run], tmp_path / 'out', only=only, parallel_levels=2, seed=5)
  assert exit_code == 0
  names = {'rooms_collect_good_objects_test', 'language_execute_random_task', 'psychlab_continuous_recognition'}
  assert found.levels.keys() == names
  for result in found.levels.values():
    # The stand-in's n-th step gives n + a / 10: four steps an episode.
    for episode, total in enumerate(result.returns):
      least = sum(range(4 * episode + 1, 4 * episode + 5))
      assert least <= total <= least + 4 * 0.8 + 1e-4
    assert (result.run, result.trained_on, result.agent, result.frames) == (run, 'dmlab30', 'shallow', 800)
  stored = json.loads((tmp_path / 'out' / 'results.json').read_text())
  expected = {
    'episodes_per_level': 3,
    'seed': 5,
    'actions': 'sampled from the policy',
    'mixer_seed': 0x600D5EED,
    'environments_per_level': 1,
    'num_action_repeats': 4,
    'width': 96,
    'height': 72,
    'psychlab_images': 'plain colours',
    'renderer': 'software',
  }
  assert {name: stored['protocol'][name] for name in expected} == expected
  assert results.load(str(tmp_path / 'out')) == found
  with open(tmp_path / 'out' / 'results.csv', newline='') as file:
    rows = {row['level']: row for row in csv.DictReader(file)}
  assert rows.keys() == names
  for name, row in rows.items():
    returns = found.levels[name].returns
    assert float(row['mean_return']) == pytest.approx(np.mean(returns))
    assert float(row['standard_error']) == pytest.approx(np.std(returns, ddof=1) / np.sqrt(3))
    assert float(row['human_normalised_percent_paper_references']) == pytest.approx(
      levels.get(name).human_normalised(np.mean(returns))
    )
    assert {column: row[f'protocol_{column}'] for column in expected} == {k: str(v) for k, v in expected.items()}


def test_finished_levels_are_not_played_again_and_a_failure_costs_only_its_own(modules, tmp_path):
  run = make_run(tmp_path / 'run', 'dmlab30')
  only = ['rooms_watermaze', 'natlab_fixed_large_map']
  stand_in.install(modules, fail=['natlab_fixed_large_map'])
  with pytest.raises(py_process.ProcessError, match='The script failed'):
    play([run], tmp_path / 'out', only=only)
  kept = results.load(str(tmp_path / 'out'))
  assert list(kept.levels) == ['rooms_watermaze']
  stand_in.install(modules, fail=['rooms_watermaze'])
  found, _ = play([run], tmp_path / 'out', only=only)
  assert list(found.levels) == only
  assert found.levels['rooms_watermaze'] == kept.levels['rooms_watermaze']


def test_returns_follow_from_the_seed_whatever_else_is_played(modules, tmp_path):
  stand_in.install(modules)
  run = make_run(tmp_path / 'run', 'dmlab30')
  both, _ = play([run], tmp_path / 'a', only=['rooms_watermaze', 'natlab_fixed_large_map'], parallel_levels=2)
  alone, _ = play([run], tmp_path / 'b', only=['natlab_fixed_large_map'])
  other, _ = play([run], tmp_path / 'c', only=['natlab_fixed_large_map'], seed=2)
  name = 'natlab_fixed_large_map'
  assert both.levels[name].returns == alone.levels[name].returns
  assert other.levels[name].returns != alone.levels[name].returns
  assert both.levels['rooms_watermaze'].returns != alone.levels[name].returns


def test_experts_play_their_own_levels_into_one_evaluation(modules, tmp_path):
  stand_in.install(modules)
  runs = [
    make_run(tmp_path / name, name, frames=frames) for name, frames in (('rooms_watermaze', 100), ('seekavoid_arena_01', 200))
  ]
  found, _ = play(runs, tmp_path / 'out', parallel_levels=2)
  assert {name: (r.run, r.trained_on, r.frames) for name, r in found.levels.items()} == {
    'rooms_watermaze': (runs[0], 'rooms_watermaze', 100),
    'seekavoid_arena_01': (runs[1], 'seekavoid_arena_01', 200),
  }
  assert found.levels['rooms_watermaze'].weights != found.levels['seekavoid_arena_01'].weights
  assert 'lacks 29 of 30 levels: rooms_collect_good_objects_test' in evaluate.summary(found)


def test_other_protocols_and_other_weights_are_not_mixed(modules, tmp_path):
  stand_in.install(modules)
  run = make_run(tmp_path / 'run', 'rooms_watermaze', frames=100)
  play([run], tmp_path / 'out')
  before = (tmp_path / 'out' / 'results.json').read_text()
  with pytest.raises(ConfigurationError, match='episodes_per_level: 3 and 4'):
    play([run], tmp_path / 'out', num_episodes=4)
  with pytest.raises(ConfigurationError, match='seed: 1 and 2'):
    play([run], tmp_path / 'out', seed=2)
  learned_more = make_run(tmp_path / 'other run', 'rooms_watermaze', frames=100)
  with pytest.raises(ConfigurationError, match=r'rooms_watermaze in .* was played by another agent'):
    play([learned_more], tmp_path / 'out')
  assert (tmp_path / 'out' / 'results.json').read_text() == before


def test_what_can_not_be_played_is_refused_before_anything_starts(modules, tmp_path):
  run = make_run(tmp_path / 'run', 'dmlab30')
  with pytest.raises(ConfigurationError, match='not installed'):
    play([run], tmp_path / 'out')
  stand_in.install(modules)
  with pytest.raises(ConfigurationError, match='No images for psychlab_arbitrary_visuomotor_mapping and psychlab_continuous'):
    play([run], tmp_path / 'out')
  with pytest.raises(ConfigurationError, match='Did you mean rooms_watermaze'):
    play([run], tmp_path / 'out', only=['rooms_watermase'])
  with pytest.raises(ConfigurationError, match='No run was trained on seekavoid_arena_01'):
    play([run], tmp_path / 'out', only=['seekavoid_arena_01'])
  with pytest.raises(ConfigurationError, match='No run in'):
    play([str(tmp_path / 'nothing')], tmp_path / 'out')
  second = make_run(tmp_path / 'second', 'rooms_watermaze')
  with pytest.raises(ConfigurationError, match=r'rooms_watermaze was trained in .*run and in .*second'):
    play([run, second], tmp_path / 'out', only=['rooms_watermaze'])
  wide = make_run(tmp_path / 'wide', 'seekavoid_arena_01', width=100)
  with pytest.raises(ConfigurationError, match='width: 96 and 100'):
    play([second, wide], tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_damaged_results_are_refused(modules, tmp_path):
  stand_in.install(modules)
  run = make_run(tmp_path / 'run', 'rooms_watermaze')
  (tmp_path / 'out').mkdir()
  for text in ('', '[]', '{"protocol": {}}', '{"protocol": {}, "levels": {"a": {"x": 1}}}'):
    (tmp_path / 'out' / 'results.json').write_text(text)
    with pytest.raises(ConfigurationError, match=r"Can't read .*results.json"):
      play([run], tmp_path / 'out')


def test_summary_has_both_scores():
  result = lambda score: results.LevelResult('run', 'dmlab30', 'deep', 1, '0', [score])
  found = results.Evaluation({}, {level.test_name: result(level.paper_impala) for level in levels.all_levels()})
  assert '49.4%' in evaluate.summary(found)
  assert '50.1%' in evaluate.summary(found)


def test_command(modules, tmp_path):
  stand_in.install(modules)
  run = make_run(tmp_path / 'run', 'rooms_watermaze', frames=400)

  def command(*flags):
    return subprocess.run(
      [sys.executable, '-m', 'dmlab30.evaluate', *flags],
      cwd=ROOT,
      env={'PATH': '', 'PYTHONPATH': str(modules)},
      capture_output=True,
      text=True,
      timeout=600,
      check=False,
    )

  played = command(f'--logdir={run}', '--episodes=2', f'--level_cache_dir={tmp_path / "cache"}')
  assert played.returncode == 0, played.stderr
  assert 'rooms_watermaze: mean return' in played.stdout
  assert 'over 2 complete episodes' in played.stdout
  assert 'lacks 29 of 30 levels' in played.stdout
  assert len(results.load(f'{run}/evaluation').levels['rooms_watermaze'].returns) == 2
  assert list((tmp_path / 'cache').iterdir())
  refused = command(f'--logdir={run},{run}')
  assert refused.returncode == 1
  assert '--output is missing' in refused.stderr
  assert 'Traceback' not in refused.stderr
