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

from atari57 import hparams as atari57_hparams
from impala_tf.hparams import ConfigurationError, HParams, load_with

_MODE = flags.DEFINE_enum('mode', 'train', ['train', 'test'], 'train, or play whole episodes with the trained agent')
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


def main(argv):
  """Runs what the flags say; returns the exit code."""
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {argv[1]!r}.')
  try:
    given = _given_hparams()
    if 'level_name' not in given:
      raise ConfigurationError('--level_name is missing: name the level to train on, such as --level_name=pong.')
    preset = atari57_hparams.preset(given.pop('level_name'), given.get('agent', 'shallow'))
    hparams = dataclasses.replace(preset, **given)
    return _run(hparams, given, _LOGDIR.value or os.path.join('runs', hparams.level_name))
  except ConfigurationError as error:
    return _refuse(error)


def _run(hparams, given, logdir):
  # TensorFlow takes seconds to load: not at the top, so that --help and refusals come at once.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  from atari57 import suite as atari57
  from impala_tf import checkpoints, evaluation, experiment, learner, py_process, training

  logging.set_verbosity(logging.WARNING)
  experiment.configure_threads(hparams.num_actors)
  suite = atari57.AtariSuite()
  try:
    if _MODE.value == 'train':
      print(f'Training in {logdir}:\n{hparams}', flush=True)
      return training.train(suite, hparams, logdir)
    if _RANDOM_POLICY.value:
      evaluation.test_random(suite, hparams, _TEST_NUM_EPISODES.value, hparams.seed)
    else:
      # An evaluation may draw other episodes than the training did; all else that was given must be the run's.
      given = {name: value for name, value in given.items() if name != 'seed'} | {'level_name': hparams.level_name}
      evaluation.test(suite, load_with(logdir, given), logdir, _TEST_NUM_EPISODES.value, hparams.seed)
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
