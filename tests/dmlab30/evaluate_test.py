"""Evaluation on DMLab-30: test versions, protocol and scores, and the command's own flags. What all
suites have in common is in tests/evaluation.
"""

import csv
import dataclasses

import pytest
from absl import flags

from dmlab30 import evaluate, levels, suite
from impala_tf.config import ConfigurationError
from impala_tf.evaluation import command, results
from impala_tf.evaluation import evaluate as evaluation
from tests.support import deepmind_lab_stand_in as stand_in
from tests.support import evaluations, own_flags, run_files


def make_run(logdir, **changes):
  config = suite.SUITE.configure('dmlab30')
  config = dataclasses.replace(config, level_cache_dir='', unroll_length=7, **changes)
  return run_files.make_run(suite.SUITE, config, logdir)


def play(run, output, **settings):
  settings = evaluation.EvaluationSettings(**{'num_episodes': 3, **settings})
  return evaluation.evaluate_runs(suite.SUITE, [run], str(output), settings)


def test_plays_test_versions_with_the_protocol_in_the_results(modules, tmp_path):
  stand_in.install(modules, episode_steps=4)
  run = make_run(tmp_path / 'run')
  names = ['rooms_collect_good_objects_test', 'psychlab_continuous_recognition']
  found, exit_code = play(
    run,
    tmp_path / 'out',
    levels=['rooms_collect_good_objects_train', 'psychlab_continuous_recognition'],
    processes=2,
    # Settings of the machine may be others than in training.
    changes={'dataset_path': 'dummy', 'level_cache_dir': str(tmp_path / 'cache')},
  )
  assert exit_code == 0
  assert sorted(found.levels) == sorted(names)
  assert {level for _, level, _ in stand_in.journal(modules)} == set(names)
  assert list((tmp_path / 'cache').iterdir())
  for result in found.levels.values():
    # The stand-in's n-th step gives n + a / 10: four steps an episode.
    for episode, total in enumerate(result.returns):
      least = sum(range(4 * episode + 1, 4 * episode + 5))
      assert least <= total <= least + 4 * 0.8 + 1e-4
    assert result.episode_frames == [16] * 3
  expected = {
    'levels': 'test versions, held-out objects allowed',
    'mixer_seed': 0x600D5EED,
    'num_action_repeats': 4,
    'width': 96,
    'height': 72,
    'psychlab_images': 'plain colours',
    'renderer': 'software',
    'score': 'mean over episodes, human-normalised, capped at 100, mean over levels',
  }
  assert {name: found.protocol[name] for name in expected} == expected
  assert 'lacks 28 of 30 levels' in suite.SUITE.summary(found.returns())


def test_only_the_levels_to_play_must_have_their_images(modules, tmp_path):
  run = make_run(tmp_path / 'run')
  with pytest.raises(ConfigurationError, match='google-deepmind/lab'):
    play(run, tmp_path / 'out', levels=['rooms_watermaze'])
  stand_in.install(modules)
  with pytest.raises(
    ConfigurationError,
    match=r'psychlab_arbitrary_visuomotor_mapping .*psychlab_continuous',
  ):
    play(run, tmp_path / 'out')
  with pytest.raises(ConfigurationError, match=' rooms_watermaze'):
    play(run, tmp_path / 'out', levels=['rooms_watermase'])
  assert not (tmp_path / 'out').exists()
  found, _ = play(run, tmp_path / 'out', levels=['rooms_watermaze'], num_episodes=1)
  # Such experts are reported together with others that were trained with the images.
  with_images = dataclasses.replace(suite.SINGLE_LEVEL, dataset_path='images')
  assert {name: found.protocol[name] for name in suite.SUITE.protocol(with_images)} == (
    suite.SUITE.protocol(with_images)
  )


def made_up(level, score):
  return results.Evaluation({'seed': 1}, {level: evaluations.result(level, [score])})


def test_the_table_has_scores_by_both_pairings(tmp_path):
  made_up('lasertag_one_opponent_small', 12.65).save(str(tmp_path), suite.SUITE.score_columns())
  with open(tmp_path / 'results.csv', newline='') as file:
    (row,) = csv.DictReader(file)
  assert float(row['human_normalised_percent_code_references']) == pytest.approx(100)
  assert float(row['human_normalised_percent_paper_references']) == pytest.approx(
    100 * (12.65 + 0.083) / (18.6 + 0.083), abs=0.5
  )


def test_summary_has_both_scores():
  result = lambda score: evaluations.result('dmlab30', [score])
  found = results.Evaluation(
    {}, {level.test_name: result(level.paper_impala) for level in levels.all_levels()}
  )
  assert (
    "49.4% (lasertag's references as in the paper; 50.1% as in the authors' code)"
    in suite.SUITE.summary(found.returns())
  )


def test_flags_of_its_own(monkeypatch):
  calls = []
  monkeypatch.setattr(command, 'run', lambda *args, **options: calls.append((args, options)))

  def run(*given):
    values = own_flags.parse(monkeypatch, evaluate.define_flags, '--logdir=run', *given)
    assert (values.episodes, values.envs_per_process) == (500, 1)
    return evaluate.main(['evaluate'])

  run()
  run('--dataset_path=images', '--level_cache_max_gigabytes=2.5', '--renderer=hardware')
  given = {'dataset_path': 'images', 'level_cache_max_gigabytes': 2.5, 'renderer': 'hardware'}
  assert calls == [((suite.SUITE,), {'changes': changes}) for changes in ({}, given)]
  with pytest.raises(flags.Error, match='level_cache_max_gigabytes'):
    run('--level_cache_max_gigabytes=much')
