"""Trains, tests or exports an IMPALA agent.

    python run_experiment.py --level_name=pong
    python run_experiment.py --level_name=pong --mode=test
    python run_experiment.py --level_name=pong --mode=export
    python run_experiment.py --mode=test --pretrained=breakout_shallow --render
    python run_experiment.py --level_name=pong --seeds=3
    python run_experiment.py --level_name=gymnasium:CartPole-v1
    python run_experiment.py --level_name=atari57
    python run_experiment.py --level_name=rooms_watermaze
    python run_experiment.py --level_name=dmlab30
    python run_experiment.py --preset=atari_expert_deep --level_name=pong
    python run_experiment.py --level_name=pong --job_name=learner --learner_address=10.0.0.1:8470
    python run_experiment.py --level_name=pong --job_name=actor --task=0 \\
      --learner_address=10.0.0.1:8470

The same command is `python -m impala_tf`, and `impala-tf` where the package is installed.

Suite and hyper-parameters follow from the level. A flag that is left out takes the paper's value
for that suite, or that of the preset. An actor without a level acts for the training that it finds
at its learner's address.
"""

import dataclasses
import os

from absl import flags

from impala_tf import cli, files, saved_config
from impala_tf.cli import config_flags
from impala_tf.cluster import role_flags
from impala_tf.config import ConfigurationError, sizes
from impala_tf.environments import suites, window
from impala_tf.evaluation import pretrained, shares
from impala_tf.system import machine, quiet, signals

_MODE = flags.DEFINE_enum(
  'mode',
  'train',
  ['train', 'test', 'export'],
  'train; test: play whole episodes with the trained agent; export: write it as a SavedModel to '
  '`saved_model` in the logdir',
)
_PRESET = flags.DEFINE_enum(
  'preset',
  None,
  list(suites.presets()),
  "the paper's hyper-parameters by name; flags beside it override it",
)
_LOGDIR = cli.define_path(
  'logdir',
  None,
  'folder of the run: configuration, checkpoints, episodes, summaries (default: runs/<level_name>)',
)
_RANDOM_POLICY = flags.DEFINE_boolean(
  'random_policy', False, 'with --mode=test: choose all actions equally often instead'
)
_SEEDS = flags.DEFINE_integer(
  'seeds',
  None,
  'number of runs that differ in their seed alone, --seed and those after it; they are the trials '
  'of a sweep in --logdir (default: runs/<level_name>_seeds), which the same command resumes',
  lower_bound=1,
)
_PARALLEL = flags.DEFINE_integer(
  'parallel', 1, 'with --seeds: number of runs at a time; the others follow', lower_bound=1
)
_PRETRAINED = flags.DEFINE_string(
  'pretrained',
  None,
  'with --mode=test or export: agent that comes with the project, in place of --logdir; see '
  'pretrained/README.md',
)
_TEST_NUM_EPISODES = flags.DEFINE_integer(
  'test_num_episodes', 10, 'whole episodes of each level to play with --mode=test', lower_bound=1
)
_RECORD_VIDEO = flags.DEFINE_integer(
  'record_video',
  0,
  'with --mode=test: number of episodes of each level to film, in `videos` of the logdir',
  lower_bound=0,
)
_RENDER = flags.DEFINE_boolean(
  'render', False, 'with --mode=test: show the episodes in a window, one after the other'
)
_POPULATION_MEMBER = flags.DEFINE_boolean(
  'population_member',
  False,
  'the run is a member of the population in the folder above --logdir; impala_tf.pbt sets this',
)
config_flags.define(command=__name__)

_ACTORS_OF_LEVELS = 64  # as many levels as a suite may have, where each has actors of its own


@cli.report_user_errors()
def main(argv: list[str]) -> int:
  """Runs what the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  cli.set_up_log()
  _check_flags()
  role = role_flags.role(_MODE.value)
  given = config_flags.given()

  if _PRETRAINED.value:
    return _with_pretrained(_PRETRAINED.value, given)
  if role and role.job == 'actor' and 'level_name' not in given and not _PRESET.value:
    return _act_for_any(role, given)

  suite, config, given = _resolve(_PRESET.value, given)
  if _SEEDS.value:
    if role or _POPULATION_MEMBER.value:
      raise ConfigurationError(
        '--seeds is for runs of one process each. impala_tf.sweeps with --cluster gives each '
        "actor processes, by --space='seed=each(1,2,3)' --num_trials=3."
      )
    return _train_seeds(suite, config)

  logdir = _LOGDIR.value or saved_config.default_logdir(config.level_name)
  return _run(suite, config, given, logdir, role)


def _check_flags():
  """Refuses flags that say nothing without others."""
  for flag in (_RANDOM_POLICY, _TEST_NUM_EPISODES, _RECORD_VIDEO, _RENDER):
    if flag.present and _MODE.value != 'test':
      raise ConfigurationError(f'--{flag.name} is for tests: say --mode=test, too.')
  if _PARALLEL.present and not _SEEDS.value:
    raise ConfigurationError('--parallel is for several runs: say --seeds=3, too.')
  if _SEEDS.value and _MODE.value != 'train':
    raise ConfigurationError(
      f'--seeds is for training. For --mode={_MODE.value} give --logdir one of the runs.'
    )


def _train_seeds(suite, config):
  """Trains a run for each seed, and draws their curve; returns the exit code."""
  logdir = _LOGDIR.value or f'{saved_config.default_logdir(config.level_name)}_seeds'
  suite.check(config)
  suite.check_installed(config)

  from impala_tf import curves
  from impala_tf.sweeps import seeds

  print(_described(f'Training {_SEEDS.value} seeds in {logdir} of', suite, config), flush=True)
  derived = {*sizes.Sizes._fields} - config_flags.given().keys()
  code = seeds.train(suite, config, _SEEDS.value, logdir, _PARALLEL.value, derived)
  if code == 0:
    output = os.path.join(logdir, 'report', 'curves.png')
    curves.draw(curves.read_runs([logdir]), output, lambda level: {})
    print(f'The curve of all seeds is in {output}.', flush=True)

  return code


def _with_pretrained(name, given):
  """Tests or exports an agent that comes with the project; returns the exit code."""
  if _MODE.value == 'train' or _RANDOM_POLICY.value or _PRESET.value:
    raise ConfigurationError(
      '--pretrained is for --mode=test and --mode=export, and goes without --random_policy and '
      '--preset. To train from the start, leave it out.'
    )

  folder = pretrained.folder(name)
  level_name = saved_config.load_with(folder, {}).level_name
  suite, config, given = _resolve(None, {'level_name': level_name} | given)
  logdir = _LOGDIR.value or saved_config.default_logdir(os.path.join('pretrained', name))
  return _run(suite, config, given, logdir, None, folder)


def _resolve(preset_name, given):
  """Resolves the flags.

  Args:
    preset_name: str or None.
    given: a dict of the fields of `Config` that were given.

  Returns:
    The suite; the `Config`; and without the level's name what was given, a preset's agent
    included, which `--mode=test` and `--mode=export` compare with the trained run.
  """
  named = suites.presets()[preset_name] if preset_name else None
  level_name = given.get('level_name')
  if level_name is None and named and named.level_name in suites.registered():
    level_name = named.level_name
  if level_name is None:
    raise ConfigurationError(config_flags.MISSING_LEVEL)

  suite = suites.find(level_name)
  given = {name: value for name, value in given.items() if name != 'level_name'}

  if named:
    if preset_name not in suite.presets:
      raise ConfigurationError(
        f'--preset={preset_name} is not for {level_name}. Choose one of its own suite, see --help.'
      )
    given = {'agent': named.agent, **given}
    known = dataclasses.asdict(named) | given
    return suite, suite.configure(**known | {'level_name': level_name}), given

  return suite, suite.configure(level_name, **given), given


def _act_for_any(role, given):
  """Acts for the training that is on, as its learner's settings and those given say; returns the
  exit code.
  """
  # TensorFlow has to know how many threads there will be before it can ask the learner which level
  # it is.
  quiet.load_tensorflow()
  from impala_tf.cluster import actor, connection
  from impala_tf.cluster import learner as cluster_learner
  from impala_tf.training import loop

  def configure(signature):
    suite, config = suites.resolve(**connection.settings(signature) | given)
    loop.check(suite, config, cluster_learner.ClusterSource)
    suite.check_installed(config)
    print(_described('Acting for', suite, config), flush=True)
    return suite, config

  # By default there are fewer actors than that, whichever level it is.
  machine.configure_tensorflow(given.get('num_actors') or 2 * machine.cores() + _ACTORS_OF_LEVELS)
  return actor.act(configure, role, role_flags.give_up_after())


def _described(deed, suite, config):
  """Returns what is about to be done as text."""
  if not _PRESET.value:
    return cli.describe(deed, config, suite.configure(config.level_name), "the level's preset")
  preset = dataclasses.replace(suite.presets[_PRESET.value], level_name=config.level_name)
  return cli.describe(deed, config, preset, f'--preset={_PRESET.value}')


def _run(suite, config, given, logdir, role, trained=None):
  """Trains, tests or exports; returns the exit code.

  Args:
    suite, config, given: as from `_resolve`.
    logdir: folder of the run.
    role: of this process in a cluster, None if there is none.
    trained: folder of the agent to test or export, `logdir` if left out.
  """
  trained = trained or logdir
  seed = config.seed
  # A random policy plays what the agent in the folder has played, and needs none.
  is_alone = _RANDOM_POLICY.value and saved_config.load(trained, type(config)) is None
  if _MODE.value == 'export' or (_MODE.value == 'test' and not is_alone):
    # An evaluation may draw other episodes than the training did; all else that was given must be
    # the run's.
    given = {name: value for name, value in given.items() if name != 'seed'} | {
      'level_name': config.level_name
    }
    config = saved_config.load_with(trained, given, type(config))
  elif _MODE.value == 'train' and not (role and role.job == 'actor'):
    saved_config.check(logdir, config)
    files.check_folder(logdir)

  view = _view(logdir) if _MODE.value == 'test' else None
  suite.check(config)
  # A learner of a cluster has no environments.
  if _MODE.value != 'export' and not (role and role.job == 'learner'):
    suite.check_installed(config)
  if view and (view.record_video or view.is_shown):
    suite.check_pictures(config)

  # It takes seconds to load: not at the top, so that --help and refusals come at once.
  quiet.load_tensorflow()
  from impala_tf.cluster import actor, connection
  from impala_tf.cluster import learner as cluster_learner
  from impala_tf.evaluation import play
  from impala_tf.pbt import member
  from impala_tf.training import export, loop

  machine.configure_tensorflow(config.num_actors, config.num_learners)
  if role and role.job == 'actor':
    loop.check(suite, config, cluster_learner.ClusterSource)
    return actor.act(lambda signature: (suite, config), role, role_flags.give_up_after())

  if role:
    connection.connect(role)
    connection.warn_if_exposed(role)

  if _MODE.value == 'train':
    callbacks = [member.Member(suite, config, logdir)] if _POPULATION_MEMBER.value else []
    path = os.path.join(logdir, saved_config.FILE_NAME)
    print(f'{_described("Training", suite, config)}\nAll options are in {path}.', flush=True)
    if introduction := suite.introduction(config):
      print(introduction, flush=True)
    source = cluster_learner.ClusterSource if role else None
    return loop.train(suite, config, logdir, callbacks, source)

  if _MODE.value == 'export':
    folder = os.path.join(logdir, 'saved_model')
    loaded = export.export(suite, config, trained, folder)
    print(f'Wrote the agent after {loaded.frames:_} frames to {folder}.')
    return 0

  with signals.Stop() as stop:
    if _RANDOM_POLICY.value:
      play.evaluate_random(suite, config, _TEST_NUM_EPISODES.value, seed, view, stop)
    else:
      play.evaluate_checkpoint(suite, config, trained, _TEST_NUM_EPISODES.value, seed, view, stop)
    return stop.exit_code


def _view(logdir):
  """Returns what the flags want to see of a test."""
  shares.check_videos(_RECORD_VIDEO.value, _TEST_NUM_EPISODES.value, '--test_num_episodes')
  if _RECORD_VIDEO.value:
    cli.check_local(logdir)
  if _RENDER.value:
    window.check_display()
  return shares.View(os.path.join(logdir, 'videos'), _RECORD_VIDEO.value, _RENDER.value)


def run() -> None:
  """Runs the command; the entry point of the installed one."""
  cli.run(main, config_flags.parse_flags)


if __name__ == '__main__':
  run()
