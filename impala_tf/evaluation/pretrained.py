"""Trained agents that come with the project, by name; and the command that adds one.

    python -m impala_tf.evaluation.pretrained --logdir=runs/pong --name=pong_shallow

Each is a folder in `pretrained` beside the package, like that of a run: config.json, and a
checkpoint with nothing but the agent's weights and the frames it was trained for. So a command that
plays with a run's agent plays with it. The command above refuses more than 10 MB. It prints the
agent's row for the table in pretrained/README.md, which is completed by hand.
"""

import os
import pathlib
import shlex

from absl import flags

from impala_tf import cli, files, saved_config
from impala_tf.cli import config_flags
from impala_tf.config import ConfigurationError
from impala_tf.system import quiet

ROOT = pathlib.Path(__file__).parents[2] / 'pretrained'
MAX_BYTES = 10_000_000


def names() -> list[str]:
  """Returns the names of the agents that there are."""
  return sorted(path.parent.name for path in ROOT.glob(f'*/{saved_config.FILE_NAME}'))


def folder(name: str) -> str:
  """Returns the folder of an agent.

  Raises:
    ConfigurationError: if there is none of that name, with those that there are.
  """
  if name in names():
    return str(ROOT / name)
  known = (
    f'There are {", ".join(names())}.'
    if names()
    else (
      'There are none: they come with a clone of the repository, not with the installed package.'
    )
  )
  raise ConfigurationError(f'--pretrained={name}: there is no such agent. {known}')


def add(logdir: str, name: str) -> str:
  """Adds the agent of a run's newest checkpoint; returns its row of the table.

  Raises:
    ConfigurationError: if there is not a run, the name is taken, or the agent is too large.
    CheckpointError: if there is no checkpoint that can be read.
  """
  target = ROOT / name
  config = saved_config.load_with(logdir, {})
  if target.exists():
    raise ConfigurationError(f'--name={name} is taken: remove {target}, or give another name.')

  quiet.load_tensorflow()
  import tensorflow as tf

  from impala_tf.agent import agents
  from impala_tf.environments import suites
  from impala_tf.training import checkpoints

  agent = agents.for_suite(suites.find(config.level_name), config)
  # By the names under which a run's checkpoint has them.
  learner = tf.Module()
  learner.agent = agent
  frames = checkpoints.load_weights(logdir, agent).frames
  learner.frames = tf.Variable(frames, dtype=tf.int64, trainable=False)
  size = sum(variable.numpy().nbytes for variable in agent.variables)
  if size > MAX_BYTES:
    raise ConfigurationError(f'The weights take {size:_} bytes; at most {MAX_BYTES:_} are kept.')

  preset = suites.find(config.level_name).configure(config.level_name, agent=config.agent)
  named = {'level_name': config.level_name, 'agent': config.agent, 'seed': config.seed}
  others = {
    name: getattr(config, name)
    for name in config.learning_fields()
    if name not in named and getattr(config, name) != getattr(preset, name)
  }
  given = shlex.join(config_flags.arguments(named | others))
  files.prepare_folder(str(target))
  saved_config.save(str(target), config)
  checkpoints.Checkpointer(str(target), learner=learner).save()
  return (
    f'| `{name}` | {config.level_name} | {config.agent} | {frames:_} | test | random | commit | '
    f'`python run_experiment.py {given}` |'
  )


def define_flags() -> None:
  """Defines the flags of the command."""
  cli.define_path('logdir', None, 'folder of the run whose agent is added', required=True)
  flags.DEFINE_string('name', None, 'its name, by which --pretrained finds it', required=True)


@cli.report_user_errors()
def main(argv: list[str]) -> int:
  """Adds an agent as the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  cli.set_up_log()
  print(add(os.path.normpath(flags.FLAGS.logdir), flags.FLAGS.name))
  return 0


if __name__ == '__main__':
  define_flags()
  cli.run(main)
