"""Trains or tests an IMPALA agent. The one place where flags are read.

    python run_experiment.py --level_name=pong
    python run_experiment.py --level_name=pong --mode=test

Suite and hyper-parameters follow from the level. A flag that is left out takes the paper's value for that suite.
"""

import dataclasses
import os
import sys
import typing

from absl import app, flags, logging

from impala_tf.hparams import ConfigurationError, HParams

_MODE = flags.DEFINE_enum('mode', 'train', ['train', 'test'], 'train, or play whole episodes with the trained agent')
_LOGDIR = flags.DEFINE_string(
  'logdir', None, 'folder of the run: configuration, checkpoints, episodes, summaries (default: runs/<level_name>)'
)
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


def _resolve(suite, given):
  """The preset of the level with the given values in place of its own."""
  preset = suite.preset(given['level_name'], given.get('agent', 'shallow'))
  return dataclasses.replace(preset, **(given | {'level_name': preset.level_name}))


def main(argv):
  """Runs what the flags say; returns the exit code."""
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {argv[1]!r}.')
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  # Only now, so that --help answers at once.
  from atari57 import suite as atari57
  from impala_tf import checkpoints, evaluation, experiment, learner, py_process, training
  from impala_tf import hparams as hparams_lib

  logging.set_verbosity(logging.WARNING)
  try:
    given = _given_hparams()
    if 'level_name' not in given:
      raise ConfigurationError('--level_name is missing: name the level to train on, such as --level_name=pong.')
    suite = atari57.AtariSuite()
    hparams = _resolve(suite, given)
    logdir = _LOGDIR.value or os.path.join('runs', hparams.level_name)
    experiment.configure_threads(hparams.num_actors)
    if _MODE.value == 'train':
      print(f'Training in {logdir}:\n{hparams}', flush=True)
      return training.train(suite, hparams, logdir)
    seed = given.pop('seed', hparams.seed)
    evaluation.test(suite, hparams_lib.load_with(logdir, given), logdir, _TEST_NUM_EPISODES.value, seed)
    return 0
  except (
    ConfigurationError,
    checkpoints.CheckpointError,
    learner.NonFiniteLossError,
    py_process.ProcessError,
    training.ActorError,
  ) as error:
    print(f'\nError: {error}', file=sys.stderr)
    return 1


def run():
  """Entry point of the console command."""
  app.run(main)


if __name__ == '__main__':
  run()
