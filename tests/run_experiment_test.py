"""The command line within the tests' process: what it refuses, and what follows from flags."""

import os
import signal

import pytest
from absl import flags

from atari57 import suite as atari57_suite
from dmlab30 import suite as dmlab30_suite
from impala_tf import __main__ as run_experiment
from impala_tf import saved_config
from impala_tf.config import Config, ConfigurationError
from impala_tf.environments import suites
from impala_tf.evaluation import play, shares
from impala_tf.training import impala
from tests.support import experiment, gymnasium_tasks, run_files


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (('--preset=atari_expert_deep',), '--level_name '),
    (
      ('--preset=atari_expert_deep', '--level_name=rooms_watermaze'),
      '--preset=atari_expert_deep ',
    ),
    (
      ('--level_name=atari57', '--nofull_action_space'),
      '--full_action_space',
    ),
    (('--level_name=atari57', '--preset=atari_expert_deep'), '--full_action_space'),
    (('--level_name=atari57', '--num_actors=8', '--envs_per_actor=7'), 'num_actors=8'),
    (('--level_name=atari75',), ' atari57'),
    (('--level_name=pong', '--logdir={empty}', '--mode=export'), '--logdir'),
    (
      ('--level_name=pnog',),
      ' pong?',
    ),
    (('--level_name=room_watermaze',), ' rooms_watermaze'),
    (('--level_name=dmlab3',), ' dmlab30'),
    (('--level_name=xyzzy',), 'alien, amidar,'),
    (
      ('--level_name=pong+breakot',),
      "'breakot'",
    ),
    (('--level_name=pong+Pong-v4',), "'pong+Pong-v4'"),
    (('--level_name=/contributed/dmlab30/room_watermaze',), ' rooms_watermaze'),
    (
      ('--level_name=ALE/Pnog-v5',),
      "'ALE/Pnog-v5'",
    ),
    # Where DeepMind Lab is not installed that is the error, elsewhere that the folder is missing.
    (
      ('--level_name=psychlab_continuous_recognition', '--dataset_path={empty}/none'),
      'DeepMind Lab',
    ),
    (
      ('--level_name=rooms_watermaze', '--level_cache_max_gigabytes=0'),
      'level_cache_max_gigabytes=0.0',
    ),
    (('--level_name=pong', '--renderer=hardware'), '--renderer '),
    (
      ('--level_name=pong', '--job_name=learner', '--learner_address=no.such.host.invalid:80'),
      '--learner_address=no.such.host.invalid:80',
    ),
    (
      ('--level_name=pong', '--height=30'),
      'height=30 ',
    ),
    # A learner of a cluster has no environments, but their settings.
    (
      ('--level_name=rooms_watermaze', '--frame_stack=4', '--job_name=learner'),
      '--frame_stack ',
    ),
    (
      ('--level_name=atari57', '--nofull_action_space', '--job_name=learner'),
      '--full_action_space',
    ),
    (
      ('--level_name=pong', '--batch_size=0'),
      'batch_size=0 ',
    ),
    (('--level_name=pong', '--unroll_length=-3'), 'unroll_length=-3'),
    (('--level_name=pong', '--num_actors=-1'), 'num_actors=-1'),
    (
      ('--level_name=pong', '--random_policy'),
      '--random_policy ',
    ),
    (
      ('--level_name=pong', '--test_num_episodes=3', '--mode=export'),
      '--test_num_episodes ',
    ),
    (('--level_name=pong', '--give_up_after=60'), '--give_up_after '),
    (('--level_name=pong', '--mode=test', '--job_name=learner'), '--job_name '),
    (('--pretrained=cartpole', '--mode=test', '--job_name=learner'), '--job_name '),
    # Not waiting at an address that is another machine's.
    (
      ('--level_name=pong', '--job_name=learner', '--learner_address=no.such.host.invalid:1'),
      'learner_address=no.such.host.invalid:1',
    ),
    # Not waiting for a learner.
    (
      (
        '--level_name=pong',
        '--inference=shared',
        '--job_name=actor',
        '--task=0',
        '--give_up_after=1',
      ),
      '--inference',
    ),
    (
      ('--level_name=pong', '--clip_global_norm=often'),
      '--clip_global_norm=often ',
    ),
    (('--level_name=pong', '--logdir={empty}', '--mode=test'), '--logdir'),
    (('--level_name=dmlab30', '--logdir={empty}', '--mode=test'), '--logdir'),
  ],
)
def test_bad_input_is_refused_in_a_sentence(tmp_path, capsys, monkeypatch, given, message):
  monkeypatch.setattr(impala.ImpalaSource, '__enter__', lambda self: pytest.fail('It trains.'))
  monkeypatch.chdir(tmp_path)  # Where the folder of a run is by default.
  empty = tmp_path / 'empty'
  assert experiment.main(*(flag.format(empty=empty) for flag in given)) == 1
  assert message in capsys.readouterr().err
  assert not empty.exists()


def test_an_evaluation_draws_other_episodes_if_asked(tmp_path, monkeypatch):
  # As of an operator of Kubernetes, for programs of another kind.
  task = '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}'
  monkeypatch.setenv('TF_CONFIG', task)
  saved_config.save(str(tmp_path), atari57_suite.SUITE.configure('pong'))
  played = []
  monkeypatch.setattr(
    play,
    'evaluate_checkpoint',
    lambda suite, config, logdir, *how: played.append((config.seed, logdir, *how[:3])),
  )
  given = ('--level_name=pong', '--mode=test', '--test_num_episodes=7', f'--logdir={tmp_path}')
  assert experiment.main(*given) == 0
  assert experiment.main(*given, '--seed=3') == 0
  view = shares.View(str(tmp_path / 'videos'))
  assert played == [(1, str(tmp_path), 7, 1, view), (1, str(tmp_path), 7, 3, view)]


@pytest.mark.parametrize('given', [(), ('--random_policy',)])
def test_an_evaluation_can_be_interrupted(given, tmp_path, monkeypatch):
  saved_config.save(str(tmp_path), atari57_suite.SUITE.configure('pong'))

  def play_until_it_is_to_stop(*arguments):
    *_, stop = arguments
    assert not stop
    os.kill(os.getpid(), signal.SIGINT)
    assert stop

  monkeypatch.setattr(play, 'evaluate_checkpoint', play_until_it_is_to_stop)
  monkeypatch.setattr(play, 'evaluate_random', play_until_it_is_to_stop)
  given += ('--level_name=pong', '--mode=test', f'--logdir={tmp_path}')
  assert experiment.main(*given) == 128 + signal.SIGINT


def test_random_policy_scores_what_is_known_of_it(capsys):
  given = ('--level_name=pong', '--mode=test', '--random_policy', '--test_num_episodes=8')
  assert experiment.main(*given) == 0
  mean = float(capsys.readouterr().out.split('mean return ')[1].split()[0])
  assert -21 <= mean < -19.5  # the literature has -20.7


@pytest.mark.parametrize(
  ('level_name', 'suite', 'name_in_run'),
  [
    ('pong', atari57_suite.SUITE, 'pong'),
    ('atari57', atari57_suite.SUITE, 'atari57'),
    ('ALE/MsPacman-v5', atari57_suite.SUITE, 'ms_pacman'),
    ('rooms_watermaze', dmlab30_suite.SUITE, 'rooms_watermaze'),
    ('rooms_collect_good_objects_test', dmlab30_suite.SUITE, 'rooms_collect_good_objects_train'),
    ('seekavoid_arena_01', dmlab30_suite.SUITE, 'seekavoid_arena_01'),
    ('dmlab30', dmlab30_suite.SUITE, 'dmlab30'),
    ('tests/my_own_level', dmlab30_suite.SUITE, 'tests/my_own_level'),
  ],
)
def test_suite_follows_from_the_level(level_name, suite, name_in_run):
  found, config = suites.resolve(level_name, agent='deep')
  assert found is suite
  assert config == suite.configure(name_in_run, agent='deep')
  assert config.level_name == name_in_run
  assert name_in_run in found.levels(config) or name_in_run == suite.name


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


def test_help_names_every_preset_and_hyper_parameter():
  shown = flags.FLAGS.get_help()
  unbroken = ''.join(shown.split())
  for name in suites.presets():
    assert name in unbroken
  for name in (*Config.field_names(), *suites.option_names()):
    assert f'--{name}:' in shown or f'--[no]{name}:' in shown


def test_runs_lie_below_runs():
  assert saved_config.default_logdir('pong') == 'runs/pong'
  assert saved_config.default_logdir('/home/me/levels/mine') == 'runs/home/me/levels/mine'


def test_the_default_folder_has_a_name_that_file_systems_take():
  games = '+'.join(['pong', 'seaquest'] * 18)
  assert saved_config.default_logdir(games) == f'runs/{games}'
  folder = saved_config.default_logdir(f'{games}+breakout')
  assert len(os.path.basename(folder)) < 64
  assert folder != saved_config.default_logdir(f'{games}+boxing')


def test_the_default_folder_is_in_runs():
  with pytest.raises(ConfigurationError, match='logdir'):
    saved_config.default_logdir('../../elsewhere')


@pytest.mark.parametrize(
  ('given', 'word'),
  [
    (('--parallel=2',), '--seeds'),
    (('--seeds=2', '--mode=test'), '--mode=test'),
    (('--seeds=2', '--job_name=learner'), '--cluster'),
  ],
)
def test_seeds_are_for_training_in_processes_of_their_own(given, word, capsys):
  assert experiment.main('--level_name=gymnasium:CartPole-v1', *given) == 1
  assert word in capsys.readouterr().err


def test_seeds_are_trained_as_a_sweep_and_drawn(monkeypatch, tmp_path, capsys):
  def run(logdir, sweep, parallel):
    assert (len(sweep.samples()), parallel) == (3, 2)
    # Those that follow from the cores are left to each run, which has a share of them.
    assert sweep.given == {
      'level_name': 'gymnasium:CartPole-v1',
      'batch_size': 64,
      'envs_per_actor': 8,
    }
    for sample in sweep.samples():
      folder = tmp_path / f'trial_{sample["seed"]}'
      (folder).mkdir()
      (folder / 'config.json').write_text('{}')
      run_files.write_episodes(folder, [(8, 'a', 1.0), (16, 'a', 2.0)])
    (tmp_path / 'report').mkdir()
    return 0

  monkeypatch.setattr('impala_tf.sweeps.worker.run', run)
  flags = ('--seeds=3', '--parallel=2', f'--logdir={tmp_path}')
  flags += ('--batch_size=64', '--envs_per_actor=8')
  assert experiment.main('--level_name=gymnasium:CartPole-v1', *flags) == 0
  assert (tmp_path / 'report' / 'curves.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize(
  ('given', 'word'),
  [
    (('--render',), '--mode=test'),
    (('--record_video=1',), '--mode=test'),
    (('--mode=test', '--random_policy', '--record_video=11'), '--test_num_episodes'),
    (('--mode=test', '--random_policy', '--render'), 'DISPLAY'),
  ],
)
def test_what_is_to_be_seen_of_a_test_is_checked(given, word, capsys, monkeypatch, tmp_path):
  monkeypatch.delenv('DISPLAY', raising=False)
  assert experiment.main('--level_name=pong', f'--logdir={tmp_path}', *given) == 1
  assert word in capsys.readouterr().err


def test_a_film_of_the_first_episode_of_a_test(tmp_path, capsys):
  flags = ('--mode=test', '--random_policy', '--test_num_episodes=2', '--record_video=1')
  assert experiment.main('--level_name=pong', f'--logdir={tmp_path}', *flags) == 0
  (film,) = (tmp_path / 'videos').iterdir()
  assert film.name == 'pong_1.mp4'
  assert str(film) in capsys.readouterr().out


@pytest.mark.parametrize(
  ('level', 'word'),
  [
    ('CartPole-v1', 'pygame'),
    (f'{gymnasium_tasks.MODULE}:Seeing-v0', 'Seeing-v0'),
    (f'{gymnasium_tasks.MODULE}:OneState-v0', 'OneState-v0'),
  ],
)
def test_what_pictures_need_is_named_before_anything_is_played(
  monkeypatch, capsys, tmp_path, level, word
):
  (tmp_path / 'pygame.py').write_text("raise ImportError('no pygame')")
  monkeypatch.syspath_prepend(tmp_path)
  flags = ('--mode=test', '--random_policy', '--record_video=1', f'--logdir={tmp_path / "run"}')
  assert experiment.main(f'--level_name=gymnasium:{level}', *flags) == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert word in line
  assert '--record_video' in line
  assert not (tmp_path / 'run').exists()


def test_a_random_policy_plays_what_the_agent_of_the_folder_has_played(
  monkeypatch, tmp_path, capsys
):
  level = '--level_name=gymnasium:CartPole-v1'
  _, config = suites.resolve('gymnasium:CartPole-v1', max_episode_steps=7)
  saved_config.save(str(tmp_path), config)
  flags = ('--mode=test', '--random_policy', f'--logdir={tmp_path}')
  played = []
  monkeypatch.setattr(play, 'evaluate_random', lambda suite, config, *rest: played.append(config))
  assert experiment.main(level, *flags) == 0
  assert experiment.main(level, '--max_episode_steps=9', *flags) == 1
  assert 'max_episode_steps' in capsys.readouterr().err
  assert [config.max_episode_steps for config in played] == [7]
