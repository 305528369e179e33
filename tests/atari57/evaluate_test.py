"""Evaluation on Atari-57: protocol and scores, videos, and the command's own flags. What all suites
have in common is in tests/evaluation.
"""

import csv
import dataclasses

import cv2
import numpy as np
import pytest

from atari57 import evaluate, games, suite
from impala_tf.config import ConfigurationError
from impala_tf.evaluation import command, results
from impala_tf.evaluation import evaluate as evaluation
from tests.support import evaluations, own_flags, run_files


def play_randomly(output, **settings):
  settings = evaluation.EvaluationSettings(
    **{'num_episodes': 3, 'levels': ['road_runner'], 'envs_per_process': 2, **settings}
  )
  return evaluation.evaluate_random_policy(suite.SUITE, str(output), settings)


def test_an_agent_plays_whole_games_with_the_protocol_in_the_results(tmp_path):
  config = dataclasses.replace(suite.SUITE.configure('atari57'), unroll_length=7)
  run = run_files.make_run(suite.SUITE, config, tmp_path / 'run', frames=800)
  settings = evaluation.EvaluationSettings(
    num_episodes=2,
    seed=5,
    # Games that a beginner loses within 300 steps.
    levels=['RoadRunner', 'ALE/Berzerk-v5'],
    processes=2,
    envs_per_process=2,
    test_changes={'repeat_action_probability': 0.25},
  )
  found, exit_code = evaluation.evaluate_runs(suite.SUITE, [run], str(tmp_path / 'out'), settings)
  assert exit_code == 0
  assert found.levels.keys() == {'road_runner', 'berzerk'}
  for result in found.levels.values():
    assert all(frames % 4 == 0 and frames > 100 for frames in result.episode_frames)
  assert found.protocol == {
    'episodes_per_level': 2,
    'episodes_counted': 'complete ones; each environment plays a share fixed beforehand',
    'actions': 'sampled from the policy',
    'seed': 5,
    'games': 'whole ones, all lives',
    'no_ops': '1 to 30, uniform',
    'max_episode_frames': 108_000,
    'repeat_action_probability': 0.25,
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
    mean = np.mean(found.levels[name].returns)
    assert float(row['human_normalised_percent']) == pytest.approx(
      games.find(name).human_normalised(mean)
    )
  assert 'lacks 55 of 57 games: alien' in suite.SUITE.summary(found.returns())


def test_experts_and_random_players_have_the_actions_of_their_game():
  sets = {
    level: suite.SUITE.protocol(suite.SUITE.configure(level))['action_set']
    for level in ('pong', 'Pong+Breakout', 'atari57')
  }
  assert sets == {'pong': 'minimal', 'Pong+Breakout': 'full', 'atari57': 'full'}


def test_the_table_has_scores_by_both_references(tmp_path):
  result = evaluations.result('pong', [9.3])
  results.Evaluation({}, {'pong': result}).save(str(tmp_path), suite.SUITE.score_columns())
  with open(tmp_path / 'results.csv', newline='') as file:
    (row,) = csv.DictReader(file)
  assert float(row['human_normalised_percent_paper_implied']) == pytest.approx(100)
  assert float(row['human_normalised_percent']) == pytest.approx(100 * 30.0 / 35.3)
  assert suite.SUITE.describe('pong', 14.6) == ', 100.0% human-normalised'


def test_videos_have_every_step_of_an_episode_at_full_resolution(tmp_path):
  found, _ = play_randomly(tmp_path, levels=['breakout'], record_video=2, processes=2)
  result = found.levels['breakout']
  folder = tmp_path / 'videos'
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
  # The same is there already; more can't be had of what was played.
  play_randomly(tmp_path, levels=['breakout'], record_video=2)
  with pytest.raises(ConfigurationError, match=r'--record_video=3 .*breakout.*--output'):
    play_randomly(tmp_path, levels=['breakout'], record_video=3)


def test_summary_has_the_scores():
  result = lambda score: evaluations.result('atari57', [score])
  found = results.Evaluation(
    {}, {game.name: result(game.impala_deep_multitask) for game in games.all_games()}
  )
  assert 'median 59.7%, mean 179.4% (176.9% by' in suite.SUITE.summary(found.returns())


@pytest.mark.parametrize(
  ('given', 'stickiness'),
  [([], 0.0), (['--sticky'], 0.25)],
)
def test_flags_of_its_own(monkeypatch, given, stickiness):
  values = own_flags.parse(monkeypatch, evaluate.define_flags, '--logdir=run', *given)
  calls = []
  monkeypatch.setattr(command, 'run', lambda *args, **options: calls.append((args, options)))
  evaluate.main(['evaluate'])
  options = {'test_changes': {'repeat_action_probability': stickiness}}
  assert calls == [((suite.SUITE,), options)]
  assert (values.episodes, values.envs_per_process) == (200, 16)
