"""Trains, tests or exports an IMPALA agent. The one place where flags are read.

    python run_experiment.py --level_name=pong
    python run_experiment.py --level_name=pong --mode=test
    python run_experiment.py --level_name=pong --mode=export
    python run_experiment.py --level_name=atari57
    python run_experiment.py --level_name=rooms_watermaze
    python run_experiment.py --level_name=dmlab30
    python run_experiment.py --preset=atari_expert_deep --level_name=pong

Suite and hyper-parameters follow from the level. A flag that is left out takes the paper's value for that suite, or that of the
preset.
"""

import dataclasses
import difflib
import os
import sys
import typing

from absl import app, flags, logging

from atari57 import games
from atari57 import hparams as atari57_hparams
from dmlab30 import hparams as dmlab30_hparams
from dmlab30 import levels as dmlab30_levels
from impala_tf.hparams import ConfigurationError, HParams, load_with

_PRESETS = atari57_hparams.PRESETS | dmlab30_hparams.PRESETS

_MODE = flags.DEFINE_enum(
  'mode',
  'train',
  ['train', 'test', 'export'],
  'train, play whole episodes with the trained agent, or write it as a SavedModel to `saved_model` in the logdir',
)
_PRESET = flags.DEFINE_enum('preset', None, list(_PRESETS), "the paper's hyper-parameters by name; flags beside it override it")
_LOGDIR = flags.DEFINE_string(
  'logdir', None, 'folder of the run: configuration, checkpoints, episodes, summaries (default: runs/<level_name>)'
)
_RANDOM_POLICY = flags.DEFINE_boolean('random_policy', False, 'with --mode=test: choose all actions equally often instead')
_TEST_NUM_EPISODES = flags.DEFINE_integer('test_num_episodes', 10, 'whole episodes to play with --mode=test', lower_bound=1)


def _define_hparams_flags():
  """One flag for each field of `HParams`."""
  for field in dataclasses.fields(HParams):
    types = typing.get_args(field.type) or (field.type,)
    help_ = field.metadata['help']
    if bool in types:
      flags.DEFINE_boolean(field.name, None, help_)
    elif 'choices' in field.metadata:
      flags.DEFINE_enum(field.name, None, field.metadata['choices'], help_)
    elif types == (int,):
      flags.DEFINE_integer(field.name, None, help_)
    elif types == (float,):
      flags.DEFINE_float(field.name, None, help_)
    else:
      flags.DEFINE_string(field.name, None, help_)


_define_hparams_flags()


def _given_hparams():
  """The fields of `HParams` that were given as flags, a dict."""
  given = {}
  for field in dataclasses.fields(HParams):
    value = flags.FLAGS[field.name].value
    if value is not None:
      given[field.name] = _number_or_none(field.name, value) if field.type == float | None else value
  return given


def _number_or_none(name, text):
  if text.lower() == 'none':
    return None
  try:
    return float(text)
  except ValueError:
    raise ConfigurationError(f'--{name}={text} is neither a number nor none.') from None


def _suite_of(level_name):
  """The preset function of the suite that has a level, and a function that makes the suite, which loads TensorFlow.

  Raises:
    ConfigurationError: if no suite has it, with the nearest names of all suites.
  """
  try:
    games.find_level(level_name)
    return atari57_hparams.preset, _make_atari57
  except ConfigurationError:
    if level_name.startswith('ALE/'):  # A slash makes anything else the path of a level script.
      raise
  try:
    dmlab30_levels.find(level_name)
    return dmlab30_hparams.preset, _make_dmlab30
  except ConfigurationError:
    known = [*(game.name for game in games.all_games()), games.SUITE, dmlab30_levels.SUITE, 'seekavoid_arena_01']
    known += [name for level in dmlab30_levels.all_levels() for name in dict.fromkeys((level.name, level.test_name))]
    nearest = difflib.get_close_matches(level_name.strip().lower(), known)
    hint = f'Did you mean {" or ".join(nearest)}?' if nearest else f'Known: {", ".join(known)}.'
    raise ConfigurationError(
      f'{level_name!r} is neither one of the 57 Atari games nor a level of DMLab-30. {hint} Another level script of '
      'DeepMind Lab is named by its path, with a slash in it.'
    ) from None


def _make_atari57():
  from atari57 import suite

  return suite.AtariSuite()


def _make_dmlab30():
  from dmlab30 import suite

  return suite.DMLabSuite()


def main(argv):
  """Runs what the flags say; returns the exit code."""
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {argv[1]!r}.')
  try:
    make_suite, hparams, given = _resolve(_PRESET.value, _given_hparams())
    return _run(make_suite, hparams, given, _LOGDIR.value or _default_logdir(hparams.level_name))
  except ConfigurationError as error:
    return _refuse(error)


def _default_logdir(level_name):
  # The path of a level script may begin with a slash.
  return os.path.join('runs', *level_name.split('/'))


def _resolve(preset_name, given):
  """What the flags stand for.

  Args:
    preset_name: str or None.
    given: a dict of the fields of `HParams` that were given.

  Returns:
    A function that makes the suite, the `HParams`, and the fields that a trained run must have, but for its level.
  """
  named = _PRESETS[preset_name] if preset_name else None
  level_name = given.get('level_name')
  if level_name is None and named and named.level_name in (games.SUITE, dmlab30_levels.SUITE):
    level_name = named.level_name
  if level_name is None:
    raise ConfigurationError('--level_name is missing: name the level to train on, such as --level_name=pong.')
  preset, make_suite = _suite_of(level_name)
  given = {name: value for name, value in given.items() if name != 'level_name'}
  if named:
    given = {'agent': named.agent, **given}
  hparams = preset(level_name, given.get('agent', 'shallow'))
  if named:
    if _suite_of(named.level_name)[0] is not preset:
      raise ConfigurationError(f'--preset={preset_name} is not for {level_name}. Choose one of its own suite, see --help.')
    hparams = dataclasses.replace(named, level_name=hparams.level_name)
  return make_suite, dataclasses.replace(hparams, **given), given


def _run(make_suite, hparams, given, logdir):
  # TensorFlow takes seconds to load: not at the top, so that --help and refusals come at once.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  suite = make_suite()
  seed = hparams.seed
  if _MODE.value == 'export' or (_MODE.value == 'test' and not _RANDOM_POLICY.value):
    # An evaluation may draw other episodes than the training did; all else that was given must be the run's.
    given = {name: value for name, value in given.items() if name != 'seed'} | {'level_name': hparams.level_name}
    hparams = load_with(logdir, given)
  if _MODE.value != 'export':
    suite.check(hparams)
  from impala_tf import checkpoints, evaluation, experiment, export, learner, py_process, training

  logging.set_verbosity(logging.WARNING)
  experiment.configure_threads(hparams.num_actors)
  try:
    if _MODE.value == 'train':
      print(f'Training in {logdir}:\n{hparams}', flush=True)
      return training.train(suite, hparams, logdir)
    if _MODE.value == 'export':
      folder = os.path.join(logdir, 'saved_model')
      loaded = export.export(suite, hparams, logdir, folder)
      print(f'Wrote the agent after {loaded.frames:_} frames to {folder}.')
    elif _RANDOM_POLICY.value:
      evaluation.test_random(suite, hparams, _TEST_NUM_EPISODES.value, seed)
    else:
      evaluation.test(suite, hparams, logdir, _TEST_NUM_EPISODES.value, seed)
    return 0
  except (checkpoints.CheckpointError, learner.NonFiniteLossError, py_process.ProcessError, training.ActorError) as error:
    return _refuse(error)


def _refuse(error):
  print(f'Error: {error}', file=sys.stderr)
  return 1


def run():
  """Entry point of the console command."""
  app.run(main)


if __name__ == '__main__':
  run()
