"""The command line, as a user has it: real processes, the real emulator."""

import csv
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from absl import flags, logging
from absl.testing import flagsaver

import run_experiment
from atari57 import presets as atari57_presets
from dmlab30 import presets as dmlab30_presets
from impala_tf import machine, saved_config
from impala_tf.config import Config
from impala_tf.environments import suites
from impala_tf.evaluation import play

ROOT = pathlib.Path(__file__).parents[2]
TINY = (
  '--level_name=Pong',
  '--batch_size=2',
  '--unroll_length=5',
  '--num_actors=2',
  '--envs_per_actor=2',
)


def command(*flags):
  return [sys.executable, str(ROOT / 'run_experiment.py'), *flags]


def run(*flags, timeout=120):
  return subprocess.run(
    command(*flags), capture_output=True, text=True, timeout=timeout, check=False
  )


def start(log, *flags):
  return subprocess.Popen(
    command(*flags), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
  )


def wait_for(condition, what, seconds=120):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline, f'still no {what}'
    time.sleep(0.1)


def processes_of_session(session):
  """Ids of the processes in a session, the forkserver's children among them."""
  found = []
  for stat in pathlib.Path('/proc').glob('[0-9]*/stat'):
    try:
      fields = stat.read_text().rsplit(')', 1)[1].split()
    except OSError:
      continue
    if int(fields[3]) == session and fields[0] != 'Z':
      found.append(int(stat.parent.name))
  return found


def frames_of(log):
  """The frames in the newest line of progress, as text; None before the first."""
  lines = [line for line in log.read_text().splitlines() if 'frames/s' in line]
  return lines[-1].split('/')[0] if lines else None


def test_trains_stops_on_signals_resumes_and_tests(tmp_path):
  logdir = tmp_path / 'run'
  flags = (*TINY, f'--logdir={logdir}', '--total_environment_frames=100_000_000')
  frames = []
  for number in (signal.SIGINT, signal.SIGTERM):
    log = tmp_path / f'{number.name}.log'
    with open(log, 'w') as file:
      process = start(file, *flags)
      try:
        wait_for(
          lambda log=log, process=process: frames_of(log) or process.poll() is not None, 'progress'
        )
        # To all processes, as a terminal does: the environments' must leave it to their parent.
        os.killpg(process.pid, number)
        assert process.wait(60) == 128 + number, log.read_text()
      finally:
        process.kill()
    wait_for(
      lambda process=process: not processes_of_session(process.pid), 'end of all processes', 10
    )
    assert list(logdir.glob('ckpt-*.index'))
    frames.append(log.read_text())
    assert f' in {logdir}. The same command goes on there.' in frames[-1].splitlines()[-1]
  assert 'Going on from frame' in frames[1]
  resumed = int(frames[1].split('Going on from frame ')[1].split(',')[0].replace('_', ''))
  assert resumed > 0
  assert resumed % (2 * 5 * 4) == 0
  config = json.loads((logdir / 'config.json').read_text())
  assert (config['level_name'], config['batch_size'], config['learning_rate']) == (
    'pong',
    2,
    0.0006,
  )
  with open(logdir / 'episodes.csv', newline='') as file:
    assert csv.DictReader(file).fieldnames == [
      'frames',
      'level',
      'episode_return',
      'episode_frames',
    ]

  exported = run(*flags, '--mode=export')
  assert exported.returncode == 0, exported.stderr
  assert f'frames to {logdir}/saved_model' in exported.stdout
  assert (logdir / 'saved_model' / 'saved_model.pb').exists()
  played = run(*flags, '--mode=test', '--test_num_episodes=2', '--seed=3')
  assert played.returncode == 0, played.stderr
  assert 'over 2 complete episodes' in played.stdout
  before = sorted(path.name for path in logdir.iterdir())
  other = run(*TINY, f'--logdir={logdir}', '--total_environment_frames=77')
  assert other.returncode == 1
  assert 'total_environment_frames: 100_000_000 in config.json, 77 now' in other.stderr
  assert sorted(path.name for path in logdir.iterdir()) == before


def test_random_policy_scores_what_is_known_of_it():
  played = run('--level_name=pong', '--mode=test', '--random_policy', '--test_num_episodes=16')
  assert played.returncode == 0, played.stderr
  mean = float(played.stdout.split('mean return ')[1].split()[0])
  assert -21 <= mean < -19.5  # the literature has -20.7


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (('--preset=atari_expert_deep',), '--level_name is missing'),
    (
      ('--preset=atari_expert_deep', '--level_name=rooms_watermaze'),
      'atari_expert_deep is not for rooms_watermaze',
    ),
    (
      ('--level_name=atari57', '--nofull_action_space'),
      'needs actions that mean the same in all games',
    ),
    (('--level_name=atari57', '--preset=atari_expert_deep'), 'Give --full_action_space'),
    (('--level_name=atari57', '--num_actors=56'), 'num_actors=56 (atari57 has 57 levels'),
    (('--level_name=atari75',), 'Did you mean atari57'),
    (('--level_name=pong', '--logdir={empty}', '--mode=export'), 'Train first'),
    (
      ('--level_name=pnog',),
      "'pnog' is neither one of the 57 Atari games nor a level of DMLab-30. Did you mean pong?",
    ),
    (('--level_name=room_watermaze',), 'Did you mean rooms_watermaze'),
    (('--level_name=dmlab3',), 'Did you mean dmlab30'),
    (('--level_name=xyzzy',), 'Known: gymnasium:CartPole-v1, alien, amidar,'),
    (
      ('--level_name=pong+breakot',),
      "'breakot' is not one of the 57 Atari games. Did you mean breakout?",
    ),
    (('--level_name=pong+Pong-v4',), "'pong+Pong-v4' has pong twice. Name each game once."),
    (('--level_name=/contributed/dmlab30/room_watermaze',), 'Did you mean rooms_watermaze'),
    (
      ('--level_name=ALE/Pnog-v5',),
      "'ALE/Pnog-v5' is not one of the 57 Atari games. Did you mean pong?",
    ),
    # Where DeepMind Lab is not installed that is the error, elsewhere that the folder is missing.
    (
      ('--level_name=psychlab_continuous_recognition', '--dataset_path={empty}/none'),
      'DeepMind Lab',
    ),
    (('--level_name=pong', '--level_cache_max_gigabytes=0'), 'level_cache_max_gigabytes=0.0'),
    (
      ('--level_name=pong', '--height=30'),
      'height=30 and width=84 must be at least 36 for this network.',
    ),
    # A learner of a cluster has no environments, but their settings.
    (
      ('--level_name=rooms_watermaze', '--frame_stack=4', '--job_name=learner'),
      'frame_stack=4 has no meaning in DeepMind Lab',
    ),
    (
      ('--level_name=atari57', '--nofull_action_space', '--job_name=learner'),
      'needs actions that mean the same in all',
    ),
    (
      ('--level_name=pong', '--batch_size=0'),
      'batch_size=0 (unrolls in each update, of each learner) must be at least 1',
    ),
    (('--level_name=pong', '--unroll_length=-3'), 'unroll_length=-3'),
    (('--level_name=pong', '--num_actors=0'), 'num_actors=0'),
    (
      ('--level_name=pong', '--random_policy'),
      '--random_policy is for tests: say --mode=test, too.',
    ),
    (
      ('--level_name=pong', '--test_num_episodes=3', '--mode=export'),
      '--test_num_episodes is for tests',
    ),
    (('--level_name=pong', '--give_up_after=60'), '--give_up_after is for clusters'),
    # Not waiting for a learner.
    (
      (
        '--level_name=pong',
        '--inference=shared',
        '--job_name=actor',
        '--task=0',
        '--give_up_after=1',
      ),
      'Leave --inference out',
    ),
    (
      ('--level_name=pong', '--clip_global_norm=often'),
      '--clip_global_norm=often is neither a number nor none',
    ),
    (('--level_name=pong', '--logdir={empty}', '--mode=test'), 'Train first'),
    (('--level_name=dmlab30', '--logdir={empty}', '--mode=test'), 'Train first'),
  ],
)
def test_bad_input_is_refused_in_a_sentence(tmp_path, capsys, monkeypatch, given, message):
  # In this process, as most of these take a new one longer to load than to refuse.
  monkeypatch.setattr(machine, 'configure_tensorflow', lambda *arguments: None)
  verbosity = logging.get_verbosity()
  try:
    with flagsaver.flagsaver():
      flags.FLAGS(['run_experiment.py', *(flag.format(empty=tmp_path / 'empty') for flag in given)])
      assert run_experiment.main(['run_experiment.py']) == 1
  finally:
    logging.set_verbosity(verbosity)
  assert message in capsys.readouterr().err


def test_an_evaluation_draws_other_episodes_if_asked(tmp_path, monkeypatch):
  saved_config.save(str(tmp_path), atari57_presets.preset('pong', 'shallow'))
  played = []
  monkeypatch.setattr(
    play,
    'evaluate_checkpoint',
    lambda suite, config, logdir, *how: played.append((config.seed, logdir, *how)),
  )
  monkeypatch.setattr(machine, 'configure_tensorflow', lambda *arguments: None)
  verbosity = logging.get_verbosity()
  try:
    for seed in ((), ('--seed=3',)):
      with flagsaver.flagsaver():
        given = (
          '--level_name=pong',
          '--mode=test',
          '--test_num_episodes=7',
          f'--logdir={tmp_path}',
        )
        flags.FLAGS(['run_experiment.py', *given, *seed])
        assert run_experiment.main(['run_experiment.py']) == 0
  finally:
    logging.set_verbosity(verbosity)
  assert played == [(1, str(tmp_path), 7, 1), (1, str(tmp_path), 7, 3)]


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ((), '--level_name is missing'),
    (('--level_name=pong', '--renderer=hardwear'), 'renderer'),
    (('--level_name=pong', '--logdir={file}/below'), "Can't write in the log directory"),
  ],
)
def test_the_command_ends_with_what_was_wrong_and_no_traceback(tmp_path, given, message):
  (tmp_path / 'file').write_text('in the way')
  refused = run(*(flag.format(file=tmp_path / 'file') for flag in given))
  assert refused.returncode == 1
  assert message in refused.stderr
  assert 'Traceback' not in refused.stderr


@pytest.mark.parametrize(
  ('level_name', 'preset', 'name_in_run'),
  [
    ('pong', atari57_presets.preset, 'pong'),
    ('atari57', atari57_presets.preset, 'atari57'),
    ('ALE/MsPacman-v5', atari57_presets.preset, 'ms_pacman'),
    ('rooms_watermaze', dmlab30_presets.preset, 'rooms_watermaze'),
    ('rooms_collect_good_objects_test', dmlab30_presets.preset, 'rooms_collect_good_objects_train'),
    ('seekavoid_arena_01', dmlab30_presets.preset, 'seekavoid_arena_01'),
    ('dmlab30', dmlab30_presets.preset, 'dmlab30'),
    ('tests/my_own_level', dmlab30_presets.preset, 'tests/my_own_level'),
  ],
)
def test_suite_follows_from_the_level(level_name, preset, name_in_run):
  found = suites.find(level_name)
  config = found.configure(level_name, agent='deep')
  assert config == preset(level_name, 'deep')
  assert config.level_name == name_in_run
  assert name_in_run in found.make().levels(config) or name_in_run in ('atari57', 'dmlab30')


@pytest.mark.parametrize(
  ('preset', 'given', 'expected'),
  [
    (
      'atari_expert_deep',
      {'level_name': 'MsPacman'},
      {'level_name': 'ms_pacman', 'agent': 'deep', 'full_action_space': False},
    ),
    (
      'atari_expert_deep',
      {'level_name': 'pong', 'agent': 'shallow', 'seed': 7},
      {'agent': 'shallow', 'seed': 7},
    ),
    (
      'atari_multitask_deep',
      {},
      {'level_name': 'atari57', 'agent': 'deep', 'full_action_space': True},
    ),
    (
      'atari_multitask_shallow',
      {'batch_size': 5},
      {'level_name': 'atari57', 'agent': 'shallow', 'batch_size': 5},
    ),
    (
      'dmlab_multitask_deep',
      {},
      {'level_name': 'dmlab30', 'agent': 'deep', 'reward_clipping': 'optimistic_asymmetric'},
    ),
    (
      'dmlab_expert_deep',
      {'level_name': 'rooms_watermaze'},
      {
        'level_name': 'rooms_watermaze',
        'reward_clipping': 'optimistic_asymmetric',
        'total_environment_frames': 10**9,
      },
    ),
    (
      'dmlab_single_shallow',
      {'level_name': 'rooms_watermaze'},
      {'agent': 'shallow', 'reward_clipping': 'abs_one'},
    ),
    (None, {'level_name': 'pong'}, {'agent': 'shallow', 'total_environment_frames': 200_000_000}),
  ],
)
def test_flags_override_a_preset(preset, given, expected):
  _, config, _ = run_experiment._resolve(preset, dict(given))
  assert {name: getattr(config, name) for name in expected} == expected


def test_help_lists_the_presets():
  shown = ''.join(run('--help').stdout.split())
  for name in suites.presets():
    assert name in shown


def test_runs_lie_below_runs():
  assert run_experiment._default_logdir('pong') == 'runs/pong'
  assert run_experiment._default_logdir('/home/me/levels/mine') == 'runs/home/me/levels/mine'


def test_help_names_every_hyper_parameter():
  shown = run('--help').stdout
  for field in dataclasses.fields(Config):
    assert f'--{field.name}:' in shown or f'--[no]{field.name}:' in shown


def test_help_of_an_evaluation_names_the_flags_that_the_suites_share():
  command = [sys.executable, '-m', 'atari57.evaluate', '--help']
  shown = subprocess.run(
    command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
  ).stdout
  for name in ('logdir', 'baseline', 'episodes', 'envs_per_process', 'record_video'):
    assert f'--{name}:' in shown
