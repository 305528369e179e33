"""Tests of the evaluation, with a trained agent's files, real processes and the real emulator."""

import csv
import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tensorflow as tf

from atari57 import games, suite
from impala_tf import locks, machine, saved_config
from impala_tf.acting import weights
from impala_tf.config import ConfigurationError
from impala_tf.evaluation import evaluate as evaluation
from impala_tf.evaluation import results
from impala_tf.training import checkpoints
from tests.support import run_files

ROOT = pathlib.Path(__file__).parents[2]
# Games that a beginner loses within 300 steps.
SHORT = ('road_runner', 'berzerk', 'breakout')


def make_run(logdir, level, agent='shallow', frames=0, **changes):
  chosen = dataclasses.replace(
    suite.SUITE.configure(level, agent=agent), unroll_length=7, **changes
  )
  return run_files.make_run(suite.AtariSuite(), chosen, logdir, frames)


def play(logdirs, output, *, sticky=False, **settings):
  settings = {'num_episodes': 2, 'envs_per_process': 2, **settings}
  settings['test_changes'] = {'repeat_action_probability': 0.25 if sticky else 0.0}
  return evaluation.evaluate_runs(
    suite.SUITE, logdirs, str(output), evaluation.EvaluationSettings(**settings)
  )


def play_randomly(output, **settings):
  settings = evaluation.EvaluationSettings(
    **{'num_episodes': 3, 'levels': SHORT[:1], 'envs_per_process': 2, **settings}
  )
  return evaluation.evaluate_random_policy(suite.SUITE, str(output), settings)


def test_multi_task_agent_plays_its_games_with_the_protocol_in_the_results(tmp_path, monkeypatch):
  run = make_run(tmp_path / 'run', 'atari57', frames=800)
  original, published = weights.PublishedWeights, []
  monkeypatch.setattr(
    weights, 'PublishedWeights', lambda agent: published.append(agent) or original(agent)
  )
  found, exit_code = play(
    [run], tmp_path / 'out', levels=['RoadRunner', 'ALE/Berzerk-v5'], processes=2, seed=5
  )
  assert exit_code == 0
  assert len(published) == 1  # One for all games: TensorFlow keeps each to the end of the process.
  assert found.levels.keys() == {'road_runner', 'berzerk'}
  for result in found.levels.values():
    assert (result.run, result.trained_on, result.agent, result.frames) == (
      run,
      'atari57',
      'shallow',
      800,
    )
    assert os.path.exists(result.checkpoint + '.index')
    assert len(result.returns) == 2
    assert all(frames % 4 == 0 and frames > 100 for frames in result.episode_frames)
  stored = json.loads((tmp_path / 'out' / 'results.json').read_text())
  assert stored['protocol'] == {
    'episodes_per_level': 2,
    'episodes_counted': 'complete ones; each environment plays a share fixed beforehand',
    'actions': 'sampled from the policy',
    'seed': 5,
    'games': 'whole ones, all lives',
    'no_ops': '1 to 30, uniform',
    'max_episode_frames': 108_000,
    'repeat_action_probability': 0.0,
    'action_set': 'full',
    'num_action_repeats': 4,
    'width': 84,
    'height': 84,
    'frame_stack': 4,
    'score': 'mean return',
    'precision': 'float32',
  }
  with open(tmp_path / 'out' / 'results.csv', newline='') as file:
    rows = {row['level']: row for row in csv.DictReader(file)}
  for name, row in rows.items():
    result = found.levels[name]
    assert float(row['mean_return']) == pytest.approx(np.mean(result.returns))
    assert float(row['mean_episode_frames']) == pytest.approx(np.mean(result.episode_frames))
    assert float(row['human_normalised_percent']) == pytest.approx(
      games.find(name).human_normalised(np.mean(result.returns))
    )
    assert (row['checkpoint'], row['frames']) == (result.checkpoint, '800')
    assert {
      key.removeprefix('protocol_'): value
      for key, value in row.items()
      if key.startswith('protocol_')
    } == {key: str(value) for key, value in stored['protocol'].items()}
  assert 'lacks 55 of 57 games: alien' in suite.SUITE.summary(found.returns())


def test_experts_of_a_folder_play_into_one_evaluation_of_which_finished_games_are_kept(tmp_path):
  runs = {name: make_run(tmp_path / 'experts' / name, name) for name in SHORT[:2]}
  (tmp_path / 'experts' / 'notes').mkdir()
  (tmp_path / 'experts' / 'notes.txt').write_text('no run')
  first, _ = play([str(tmp_path / 'experts')], tmp_path / 'out', levels=SHORT[:1])
  found, _ = play([str(tmp_path / 'experts')], tmp_path / 'out', processes=2, processes_per_level=1)
  assert {name: (r.run, r.trained_on) for name, r in found.levels.items()} == {
    name: (runs[name], name) for name in runs
  }
  assert found.levels['road_runner'] == first.levels['road_runner']
  assert found.protocol['action_set'] == 'minimal'
  again, _ = play(list(runs.values()), tmp_path / 'again', levels=SHORT[1:2])
  assert (
    again.levels['berzerk'].returns == found.levels['berzerk'].returns
  )  # whatever else is played


def test_a_level_is_divided_among_processes(tmp_path):
  found, _ = play_randomly(tmp_path / 'a', processes=2, num_episodes=5)
  result = found.levels['road_runner']
  assert (len(result.returns), len(result.episode_frames), result.environments) == (5, 5, 4)
  alone, _ = play_randomly(tmp_path / 'b', processes=2, num_episodes=5, processes_per_level=1)
  assert alone.levels['road_runner'].environments == 2
  # The first process has the same seeds, and played three of the five.
  assert set(result.episode_frames[:3]) <= set(alone.levels['road_runner'].episode_frames[:4])
  # The second has others: with the same ones its two episodes would be the first two of that one's
  # environments.
  assert not set(result.episode_frames[3:]) <= set(result.episode_frames[:3])


def test_a_game_is_played_the_same_when_the_evaluation_was_interrupted(tmp_path):
  settings = {'levels': SHORT[:2], 'processes': 4, 'num_episodes': 8}
  whole, _ = play_randomly(tmp_path, **settings)
  stored = json.loads((tmp_path / 'results.json').read_text())
  del stored['levels']['berzerk']
  (tmp_path / 'results.json').write_text(json.dumps(stored))
  resumed, _ = play_randomly(tmp_path, **settings)
  assert resumed.levels == whole.levels
  assert whole.levels['berzerk'].environments == 4


def test_greedy_and_sticky_are_other_protocols(tmp_path):
  run = make_run(tmp_path / 'run', 'breakout')
  sampled, _ = play([run], tmp_path / 'sampled')
  with pytest.raises(
    ConfigurationError, match="actions: 'sampled from the policy' and 'of the highest probability'"
  ):
    play([run], tmp_path / 'sampled', greedy=True)
  with pytest.raises(ConfigurationError, match=r'repeat_action_probability: 0.0 and 0.25'):
    play([run], tmp_path / 'sampled', sticky=True)
  sticky, _ = play([run], tmp_path / 'sticky', sticky=True)
  assert sticky.levels['breakout'].episode_frames != sampled.levels['breakout'].episode_frames


def test_random_policy_needs_no_run(tmp_path):
  found, _ = play_randomly(tmp_path / 'out', levels=['road_runner', 'breakout'], processes=2)
  result = found.levels['breakout']
  assert (result.run, result.checkpoint, result.trained_on, result.agent, result.frames) == (
    '',
    '',
    '',
    'random',
    0,
  )
  assert found.protocol['actions'] == 'all equally often, without an agent'
  assert 0 <= np.mean(result.returns) < 5
  assert 'precision' not in found.protocol
  other, _ = play_randomly(tmp_path / 'other', seed=2, levels=['breakout'])
  assert other.levels['breakout'].episode_frames != result.episode_frames
  with pytest.raises(ConfigurationError, match="actions: 'all equally often"):
    play([make_run(tmp_path / 'run', 'breakout')], tmp_path / 'out', num_episodes=3)


def test_videos_have_every_step_of_an_episode_at_full_resolution(tmp_path):
  found, _ = play_randomly(
    tmp_path / 'out', levels=['breakout'], record_video=2, processes=2, processes_per_level=2
  )
  result = found.levels['breakout']
  folder = tmp_path / 'out' / 'videos'
  assert sorted(path.name for path in folder.iterdir()) == ['breakout_1.mp4', 'breakout_2.mp4']
  for path in folder.iterdir():
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FPS) == 15
    frames = []
    while (read := video.read())[0]:
      frames.append(read[1])
    assert {frame.shape for frame in frames} == {(210, 160, 3)}
    assert np.std(frames[5]) > 10  # a picture
    assert (np.abs(frames[5].astype(int) - frames[-5]).max(axis=-1) > 50).any()  # that moves
    # The first is that of the reset.
    assert 4 * (len(frames) - 1) in result.episode_frames
  with pytest.raises(ConfigurationError, match='4 of 3 episodes can not be recorded'):
    play_randomly(tmp_path / 'more', record_video=4)
  # The same goes on, or has nothing to do; more can't be had of what was played.
  play_randomly(tmp_path / 'out', levels=['breakout'], record_video=2)
  with pytest.raises(
    ConfigurationError, match=r'no --record_video=3 of breakout, .* Use another --output'
  ):
    play_randomly(tmp_path / 'out', levels=['breakout'], record_video=3)


def test_two_evaluations_do_not_write_to_one_folder(tmp_path):
  with (
    locks.held(str(tmp_path), evaluation.LOCK_NAME),
    pytest.raises(ConfigurationError, match=f'Another process evaluates in {tmp_path}'),
  ):
    play_randomly(tmp_path)


def test_the_suites_name_stands_for_all_of_its_levels(tmp_path, monkeypatch):
  monkeypatch.setattr(
    evaluation,
    '_evaluate',
    lambda evaluated, games, output, settings: (
      [level for _, levels in games for level in levels],
      evaluation._check_protocol(evaluated, games, settings),
    ),
  )
  levels, protocol = play_randomly(tmp_path, levels=['Atari57'])
  assert levels == [game.name for game in games.all_games()]
  assert protocol['action_set'] == 'minimal'  # Of each game, as without --levels.
  run = make_run(tmp_path / 'run', 'atari57')
  levels, _ = play([run], tmp_path, levels=['atari57'])
  assert len(levels) == 57
  some = make_run(tmp_path / 'some', 'Pong+Breakout')
  levels, protocol = play([some], tmp_path)
  assert levels == ['pong', 'breakout']
  assert protocol['action_set'] == 'full'
  levels, _ = play([some], tmp_path, levels=['pong'])
  assert levels == ['pong']


def test_runs_are_played_in_their_precision(tmp_path, monkeypatch):
  original, published = weights.PublishedWeights, []
  monkeypatch.setattr(
    weights, 'PublishedWeights', lambda agent: published.append(agent) or original(agent)
  )
  runs = [
    make_run(tmp_path / name, name, precision=p)
    for name, p in (('breakout', 'bfloat16'), ('qbert', 'float32'))
  ]
  found, _ = play(runs[:1], tmp_path / 'out')
  assert [agent.torso.compute_dtype for agent in published] == [
    tf.bfloat16 if machine.has_bfloat16() else tf.float32
  ]
  assert found.protocol['precision'] == 'bfloat16'
  with pytest.raises(ConfigurationError, match="precision: 'bfloat16' and 'float32'"):
    play(runs, tmp_path / 'both')


def test_what_can_not_be_played_is_refused(tmp_path):
  with pytest.raises(ConfigurationError, match=r'No run in .*nothing'):
    play([str(tmp_path / 'nothing')], tmp_path / 'out')
  run = make_run(tmp_path / 'run', 'breakout')
  with pytest.raises(ConfigurationError, match='Did you mean breakout'):
    play([run], tmp_path / 'out', levels=['braekout'])
  with pytest.raises(ConfigurationError, match='No run was trained on pong'):
    play([run], tmp_path / 'out', levels=['pong'])
  everything = make_run(tmp_path / 'all', 'atari57')
  with pytest.raises(ConfigurationError, match=r'breakout was trained in .*run and in .*all'):
    play([run, everything], tmp_path / 'out', levels=['breakout'])
  with pytest.raises(ConfigurationError, match="action_set: 'minimal' and 'full'"):
    play([run, make_run(tmp_path / 'full', 'qbert', full_action_space=True)], tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def _without_checkpoint(logdir):
  for path in pathlib.Path(logdir).glob('ckpt*'):
    path.unlink()
  (pathlib.Path(logdir) / 'checkpoint').unlink()


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (None, 'No checkpoint in .*Train first'),
    ({'agent': 'deep'}, r'(?s)of another agent.*only in the checkpoint'),
    (
      {'full_action_space': True},
      r'(?s)of another agent.*policy_logits/w is float32\(512, 4\) there, float32\(512, 18\) here',
    ),
  ],
)
def test_a_run_without_its_checkpoint_is_refused(tmp_path, change, message):
  run = make_run(tmp_path / 'run', 'breakout')
  if change is None:
    _without_checkpoint(run)
  else:
    saved_config.save(run, dataclasses.replace(saved_config.load(run), **change))
  with pytest.raises(checkpoints.CheckpointError, match=message):
    play([run], tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_results_of_another_agent_and_half_finished_files_are_refused(tmp_path):
  play([make_run(tmp_path / 'run', 'road_runner', frames=100)], tmp_path / 'out')
  path = tmp_path / 'out' / 'results.json'
  text = path.read_text()
  learned_more = make_run(tmp_path / 'other run', 'road_runner', frames=100)
  with pytest.raises(ConfigurationError, match=r'road_runner in .* was played by another agent'):
    play([learned_more], tmp_path / 'out')
  assert path.read_text() == text
  for damaged in ('', '[]', text[: len(text) // 2], text.replace('"returns"', '"return"')):
    path.write_text(damaged)
    with pytest.raises(
      ConfigurationError, match=r"Can't read .*results.json.*half-finished or damaged"
    ):
      play([learned_more], tmp_path / 'out')


def test_summary_has_the_scores():
  result = lambda score: results.LevelResult(
    'run', 'run/ckpt-1', 'atari57', 'deep', 1, '0', 1, 1, [score], [4]
  )
  found = results.Evaluation(
    {}, {game.name: result(game.impala_deep_multitask) for game in games.all_games()}
  )
  assert 'median 59.7%, mean 179.4% (176.9% by' in suite.SUITE.summary(found.returns())


def test_command(tmp_path):
  run = make_run(tmp_path / 'run', 'road_runner', frames=400)

  def command(*flags):
    return subprocess.run(
      [sys.executable, '-m', 'atari57.evaluate', *flags],
      cwd=ROOT,
      capture_output=True,
      text=True,
      timeout=600,
      check=False,
    )

  played = command(f'--logdir={run}', '--episodes=2', '--greedy', '--sticky')
  assert played.returncode == 0, played.stderr
  assert 'road_runner: mean return' in played.stdout
  assert 'over 2 complete episodes' in played.stdout
  found = results.load(f'{run}/evaluation')
  assert len(found.levels['road_runner'].returns) == 2
  assert found.protocol['actions'] == 'of the highest probability'
  assert found.protocol['repeat_action_probability'] == 0.25
  for flags, message in (
    ((f'--logdir={tmp_path}/none',), 'No run in'),
    ((f'--logdir={run}', '--baseline=random'), 'either --logdir'),
    (('--baseline=random',), '--output is missing'),
  ):
    refused = command(*flags)
    assert refused.returncode == 1
    assert message in refused.stderr
    assert 'Traceback' not in refused.stderr
