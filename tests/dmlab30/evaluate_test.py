"""Tests of the evaluation, with a trained agent's files, real processes and a stand-in for the
engine.
"""

import concurrent.futures
import csv
import dataclasses
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

from dmlab30 import evaluate, levels, suite
from impala_tf import machine, saved_config
from impala_tf.config import ConfigurationError
from impala_tf.environments import py_process
from impala_tf.evaluation import evaluate as evaluation
from impala_tf.evaluation import play as play_lib
from impala_tf.evaluation import results, schedule
from impala_tf.training import checkpoints
from tests.support import deepmind_lab_stand_in as stand_in
from tests.support import run_files

ROOT = pathlib.Path(__file__).parents[2]


def make_run(logdir, level, frames=0, **changes):
  """The files of a training."""
  chosen = dataclasses.replace(
    suite.SUITE.configure(level, agent='shallow'), level_cache_dir='', unroll_length=7, **changes
  )
  return run_files.make_run(suite.DMLabSuite(), chosen, logdir, frames)


def play(logdirs, output, **settings):
  settings = evaluation.EvaluationSettings(**{'num_episodes': 3, **settings})
  return evaluation.evaluate_runs(suite.SUITE, logdirs, str(output), settings)


def test_plays_test_versions_and_writes_returns_with_their_protocol(modules, tmp_path):
  stand_in.install(modules, episode_steps=4)
  run = make_run(tmp_path / 'run', 'dmlab30', frames=800, dataset_path='dummy')
  only = [
    'rooms_collect_good_objects_train',
    'language_execute_random_task',
    'psychlab_continuous_recognition',
  ]
  found, exit_code = play([run], tmp_path / 'out', levels=only, processes=2, seed=5)
  assert exit_code == 0
  names = {
    'rooms_collect_good_objects_test',
    'language_execute_random_task',
    'psychlab_continuous_recognition',
  }
  assert found.levels.keys() == names
  assert {level for _, level, _ in stand_in.journal(modules)} == names
  for result in found.levels.values():
    # The stand-in's n-th step gives n + a / 10: four steps an episode.
    for episode, total in enumerate(result.returns):
      least = sum(range(4 * episode + 1, 4 * episode + 5))
      assert least <= total <= least + 4 * 0.8 + 1e-4
    assert (result.run, result.trained_on, result.agent, result.frames) == (
      run,
      'dmlab30',
      'shallow',
      800,
    )
    assert result.episode_frames == [16] * 3
    assert result.environments == 1
    assert os.path.exists(result.checkpoint + '.index')
  stored = json.loads((tmp_path / 'out' / 'results.json').read_text())
  expected = {
    'episodes_per_level': 3,
    'seed': 5,
    'actions': 'sampled from the policy',
    'mixer_seed': 0x600D5EED,
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
    assert float(row['standard_deviation']) == pytest.approx(np.std(returns))
    assert (float(row['lowest']), float(row['highest'])) == (min(returns), max(returns))
    assert float(row['human_normalised_percent_paper_references']) == pytest.approx(
      levels.get(name).human_normalised(np.mean(returns))
    )
    assert {column: row[f'protocol_{column}'] for column in expected} == {
      k: str(v) for k, v in expected.items()
    }


def test_finished_levels_are_not_played_again_and_a_failure_costs_only_its_own(modules, tmp_path):
  run = make_run(tmp_path / 'run', 'dmlab30')
  only = ['rooms_watermaze', 'natlab_fixed_large_map']
  stand_in.install(modules, fail=['natlab_fixed_large_map'])
  with pytest.raises(py_process.ProcessError, match='The script failed'):
    play([run], tmp_path / 'out', levels=only)
  kept = results.load(str(tmp_path / 'out'))
  assert list(kept.levels) == ['rooms_watermaze']
  stand_in.install(modules, fail=['rooms_watermaze'])
  found, _ = play([run], tmp_path / 'out', levels=only)
  assert list(found.levels) == only
  assert found.levels['rooms_watermaze'] == kept.levels['rooms_watermaze']


def test_returns_follow_from_the_seed_whatever_else_is_played(modules, tmp_path):
  stand_in.install(
    modules, episode_steps=100
  )  # so that either is in the middle of playing when the other starts
  run = make_run(tmp_path / 'run', 'dmlab30')
  names = ['rooms_watermaze', 'natlab_fixed_large_map']
  both, _ = play([run], tmp_path / 'both', levels=names, processes=2)
  for name in names:
    alone, _ = play([run], tmp_path / name, levels=[name])
    assert both.levels[name].returns == alone.levels[name].returns
  other, _ = play([run], tmp_path / 'other', levels=[name], seed=2)
  assert other.levels[name].returns != alone.levels[name].returns
  assert both.levels['rooms_watermaze'].returns != alone.levels[name].returns


def test_experts_play_their_own_levels_into_one_evaluation(modules, tmp_path):
  stand_in.install(modules)
  runs = [
    make_run(tmp_path / name, name, frames=frames)
    for name, frames in (('rooms_watermaze', 100), ('seekavoid_arena_01', 200))
  ]
  found, _ = play(runs, tmp_path / 'out', processes=2)
  assert {name: (r.run, r.trained_on, r.frames) for name, r in found.levels.items()} == {
    'rooms_watermaze': (runs[0], 'rooms_watermaze', 100),
    'seekavoid_arena_01': (runs[1], 'seekavoid_arena_01', 200),
  }
  assert found.levels['rooms_watermaze'].weights != found.levels['seekavoid_arena_01'].weights
  assert 'lacks 29 of 30 levels: rooms_collect_good_objects_test' in suite.SUITE.summary(
    found.returns()
  )


def test_other_protocols_and_other_weights_are_not_mixed(modules, tmp_path):
  stand_in.install(modules)
  run = make_run(tmp_path / 'run', 'rooms_watermaze', frames=100)
  play([run], tmp_path / 'out')
  before = (tmp_path / 'out' / 'results.json').read_text()
  with pytest.raises(ConfigurationError, match='episodes_per_level: 3 and 4'):
    play([run], tmp_path / 'out', num_episodes=4)
  with pytest.raises(ConfigurationError, match='seed: 1 and 2'):
    play([run], tmp_path / 'out', seed=2)
  other_weights = make_run(tmp_path / 'other run', 'rooms_watermaze', frames=100)
  same_weights = make_run(tmp_path / 'ran', 'rooms_watermaze', frames=200)
  for other in (other_weights, same_weights):
    with pytest.raises(
      ConfigurationError, match=r'rooms_watermaze in .* was played by another agent'
    ):
      play([other], tmp_path / 'out')
  assert (tmp_path / 'out' / 'results.json').read_text() == before


def test_what_can_not_be_played_is_refused_before_anything_starts(modules, tmp_path):
  run = make_run(tmp_path / 'run', 'dmlab30')
  with pytest.raises(ConfigurationError, match='not installed'):
    play([run], tmp_path / 'out')
  stand_in.install(modules)
  with pytest.raises(
    ConfigurationError,
    match='images for psychlab_arbitrary_visuomotor_mapping and psychlab_continuous',
  ):
    play([run], tmp_path / 'out')
  with pytest.raises(ConfigurationError, match='Did you mean rooms_watermaze'):
    play([run], tmp_path / 'out', levels=['rooms_watermase'])
  with pytest.raises(ConfigurationError, match='No run was trained on seekavoid_arena_01'):
    play([run], tmp_path / 'out', levels=['seekavoid_arena_01'])
  with pytest.raises(ConfigurationError, match='No run in'):
    play([str(tmp_path / 'nothing')], tmp_path / 'out')
  second = make_run(tmp_path / 'second', 'rooms_watermaze')
  with pytest.raises(
    ConfigurationError, match=r'rooms_watermaze was trained in .*run and in .*second'
  ):
    play([run, second], tmp_path / 'out', levels=['rooms_watermaze'])
  wide = make_run(tmp_path / 'wide', 'seekavoid_arena_01', width=100)
  with pytest.raises(ConfigurationError, match='width: 96 and 100'):
    play([second, wide], tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_settings_of_the_machine_may_be_others_than_in_training(modules, tmp_path):
  stand_in.install(modules)
  run = make_run(tmp_path / 'run', 'psychlab_continuous_recognition')
  changes = {'dataset_path': 'dummy', 'level_cache_dir': str(tmp_path / 'cache')}
  found, _ = play([run], tmp_path / 'out', num_episodes=1, changes=changes)
  assert found.protocol['psychlab_images'] == 'plain colours'
  assert list((tmp_path / 'cache').iterdir())


@pytest.mark.parametrize(('envs_per_process', 'made'), [(1, 1), (2, 2), (8, 3)])
def test_episodes_are_shared_among_the_environments_of_a_level(
  modules, tmp_path, envs_per_process, made
):
  stand_in.install(modules)
  run = make_run(tmp_path / 'run', 'rooms_watermaze')
  found, _ = play([run], tmp_path / 'out', envs_per_process=envs_per_process)
  assert len(found.levels['rooms_watermaze'].returns) == 3
  assert found.levels['rooms_watermaze'].environments == made
  rows = stand_in.journal(modules)
  assert len([seed for _, _, seed in rows if seed is None]) == made
  assert len({pid for pid, _, _ in rows}) == 1


@pytest.mark.parametrize('processes', [1, 2])
def test_several_levels_are_played_at_once(modules, tmp_path, processes):
  only = ['rooms_watermaze', 'natlab_fixed_large_map']
  stand_in.install(modules, compile_seconds=0.4)  # in each reset, as there is no cache
  run = make_run(tmp_path / 'run', 'dmlab30')
  play([run], tmp_path / 'out', levels=only, processes=processes)
  resets = [level for _, level, seed in stand_in.journal(modules) if seed is not None]
  assert set(resets) == set(only)
  changes = sum(a != b for a, b in itertools.pairwise(resets))
  assert (changes > 1) == (processes > 1)


def test_a_failure_ends_what_is_still_played(modules, tmp_path):
  stand_in.install(modules, fail=['natlab_fixed_large_map'], episode_steps=10**9)
  run = make_run(tmp_path / 'run', 'dmlab30')
  with pytest.raises(py_process.ProcessError, match='The script failed'):
    play([run], tmp_path / 'out', levels=['rooms_watermaze', 'natlab_fixed_large_map'], processes=2)
  assert results.load(str(tmp_path / 'out')).levels == {}


def test_a_signal_ends_it_and_keeps_what_is_finished(modules, tmp_path):
  stand_in.install(modules)
  run = make_run(tmp_path / 'run', 'dmlab30')
  finished, _ = play([run], tmp_path / 'out', levels=['rooms_watermaze'])
  stand_in.install(modules, episode_steps=10**9)

  def interrupt():
    while not stand_in.journal(modules):
      time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

  thread = threading.Thread(target=interrupt, daemon=True)
  thread.start()
  found, exit_code = play(
    [run], tmp_path / 'out', levels=['rooms_watermaze', 'natlab_fixed_large_map']
  )
  assert exit_code == 128 + signal.SIGINT
  assert found == finished == results.load(str(tmp_path / 'out'))
  thread.join()


def test_all_levels_that_are_finished_are_kept_before_an_error_is_raised(monkeypatch):
  wait, taken = concurrent.futures.wait, []
  monkeypatch.setattr(concurrent.futures, 'wait', lambda pending, **unused: wait(pending))

  class Player:
    episodes = 0

    def play(self, share):
      if share.num_episodes == 1:
        raise py_process.ProcessError('no maze')
      return [1.0]

    def __enter__(self):
      return self

    def __exit__(self, *exception):
      taken.append('closed')

  run = play_lib.EvaluatedRun('', None)
  jobs = [schedule.Job(run, str(n), [play_lib.Share(run, 'maze', [1], n, 1)]) for n in (1, 2, 3)]
  with pytest.raises(py_process.ProcessError, match='no maze'):
    schedule.play_all(Player(), jobs, 3, lambda job: taken.append(job.name))
  assert taken in (['2', '3', 'closed'], ['3', '2', 'closed'])


def test_nothing_starts_after_the_end(modules, tmp_path):
  stand_in.install(modules)
  run = make_run(tmp_path / 'run', 'rooms_watermaze')
  dmlab = suite.DMLabSuite()
  loaded = play_lib.load_run(dmlab, run, saved_config.load_with(run, {}))
  part = play_lib.Share(loaded, 'rooms_watermaze', [1], 1, 1)
  with play_lib.Player(dmlab) as player:
    pass
  with pytest.raises(py_process.ProcessClosed):
    player.play(part)
  assert stand_in.journal(modules) == []


def test_an_output_that_can_not_be_written_is_noticed_before_anything_is_played(modules, tmp_path):
  stand_in.install(modules)
  run = make_run(tmp_path / 'run', 'rooms_watermaze')
  (tmp_path / 'out' / 'results.csv').mkdir(parents=True)  # in the way
  with pytest.raises(OSError, match=r'results\.csv'):
    play([run], tmp_path / 'out')
  assert stand_in.journal(modules) == []


def made_up(level, score):
  result = results.LevelResult('run', 'run/ckpt-1', level, 'deep', 1, '0', 1, 1, [score], [4])
  return results.Evaluation({'seed': 1}, {level: result})


def test_the_table_has_scores_by_both_pairings(tmp_path):
  made_up('lasertag_one_opponent_small', 12.65).save(str(tmp_path), suite.SUITE.score_columns())
  with open(tmp_path / 'results.csv', newline='') as file:
    (row,) = csv.DictReader(file)
  assert float(row['human_normalised_percent_code_references']) == pytest.approx(100)
  assert float(row['human_normalised_percent_paper_references']) == pytest.approx(
    100 * (12.65 + 0.083) / (18.6 + 0.083), abs=0.5
  )
  assert row['standard_error'] == ''


def test_results_are_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
  before = made_up('rooms_watermaze', 1.0)
  before.save(str(tmp_path), suite.SUITE.score_columns())

  def fail(values, file, **unused):
    file.write('{"levels"')
    raise OSError('disk full')

  with monkeypatch.context() as patched:
    patched.setattr(json, 'dump', fail)
    with pytest.raises(OSError, match='disk full'):
      made_up('rooms_watermaze', 2.0).save(str(tmp_path), suite.SUITE.score_columns())
  assert results.load(str(tmp_path)) == before
  assert sorted(path.name for path in tmp_path.iterdir()) == ['results.csv', 'results.json']


def test_damaged_results_are_refused(modules, tmp_path):
  stand_in.install(modules)
  run = make_run(tmp_path / 'run', 'rooms_watermaze')
  (tmp_path / 'out').mkdir()
  without_episodes = dataclasses.asdict(made_up('a', 1.0))
  without_episodes['levels']['a'] |= {'returns': [], 'episode_frames': []}
  for text in (
    '',
    '[]',
    '{"protocol": {}}',
    '{"protocol": {}, "levels": {"a": {"x": 1}}}',
    json.dumps(without_episodes),
  ):
    (tmp_path / 'out' / 'results.json').write_text(text)
    with pytest.raises(ConfigurationError, match=r"Can't read .*results.json"):
      play([run], tmp_path / 'out')


def test_summary_has_both_scores():
  result = lambda score: results.LevelResult(
    'run', 'run/ckpt-1', 'dmlab30', 'deep', 1, '0', 1, 1, [score], [4]
  )
  found = results.Evaluation(
    {}, {level.test_name: result(level.paper_impala) for level in levels.all_levels()}
  )
  assert (
    "49.4% (lasertag's references as in the paper; 50.1% as in the authors' code)"
    in suite.SUITE.summary(found.returns())
  )


def test_command(modules, tmp_path):
  stand_in.install(modules)
  run = make_run(tmp_path / 'run', 'dmlab30', frames=400)

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

  played = command(
    f'--logdir={run}',
    '--levels=rooms_watermaze',
    '--episodes=2',
    f'--level_cache_dir={tmp_path / "cache"}',
  )
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


class Flags(dict):
  """absl's flags, as the command reads them."""

  def __getattr__(self, name):
    return self[name]

  def __getitem__(self, name):
    value = self.get(name)
    return types.SimpleNamespace(value=value) if name in evaluate._CHANGES else value


GIVEN = {
  'logdir': ['runs/one'],
  'output': None,
  'episodes': 7,
  'levels': ['rooms_watermaze'],
  'seed': 3,
  'processes': 5,
  'processes_per_level': 2,
  'greedy': True,
  'baseline': None,
  'envs_per_process': 4,
  'dataset_path': 'images',
  'level_cache_max_gigabytes': '2.5',
}


def run_main(monkeypatch, outcome, **changes):
  """What the command returns with such flags; `outcome` stands for the evaluation."""
  monkeypatch.setattr(evaluate.flags, 'FLAGS', Flags(GIVEN | changes))
  monkeypatch.setattr(evaluation, 'evaluate_runs', outcome)
  threads = []
  monkeypatch.setattr(machine, 'configure_tensorflow', threads.append)
  code = evaluate.main(['evaluate'])
  # What is refused for its flags alone comes to no evaluation, and does not wait for TensorFlow.
  assert threads == ([5] if outcome else [])
  return code


def test_flags_reach_the_evaluation(monkeypatch, capsys):
  calls = []

  def outcome(evaluated, *args):
    calls.append((type(evaluated), *args))
    return made_up('rooms_watermaze', 1.0), 143

  assert run_main(monkeypatch, outcome) == 143
  assert run_main(monkeypatch, outcome, output='there') == 143
  expected = evaluation.EvaluationSettings(
    num_episodes=7,
    seed=3,
    levels=['rooms_watermaze'],
    processes=5,
    processes_per_level=2,
    envs_per_process=4,
    greedy=True,
    changes={'dataset_path': 'images', 'level_cache_max_gigabytes': 2.5},
  )
  assert calls == [
    (suite.DMLabSuite, ['runs/one'], output, expected)
    for output in ('runs/one/evaluation', 'there')
  ]
  assert 'lacks 29 of 30 levels' in capsys.readouterr().out


@pytest.mark.parametrize(
  'error',
  [ConfigurationError, checkpoints.CheckpointError, py_process.ProcessError, PermissionError],
)
def test_errors_are_told_in_a_sentence(monkeypatch, capsys, error):
  def outcome(*unused_args, **unused_kwargs):
    raise error('The sentence.')

  assert run_main(monkeypatch, outcome) == 1
  assert capsys.readouterr().err == 'Error: The sentence.\n'


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'level_cache_max_gigabytes': 'much'}, '--level_cache_max_gigabytes=much is not a number'),
    ({'logdir': []}, 'Give either --logdir'),
    ({'baseline': 'random'}, 'Give either --logdir'),
  ],
)
def test_bad_flags_are_told_in_a_sentence(monkeypatch, capsys, given, message):
  assert run_main(monkeypatch, None, **given) == 1
  assert capsys.readouterr().err.startswith(f'Error: {message}')


def test_results_of_a_remote_run_need_a_place(monkeypatch, capsys):
  assert run_main(monkeypatch, None, logdir=['gs://bucket/run']) == 1
  assert '--output is missing: name a local folder for the results' in capsys.readouterr().err
