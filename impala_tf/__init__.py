"""IMPALA (Espeholt et al., ICML 2018) in TensorFlow 2.

    import impala_tf

    impala_tf.train('pong', 'runs/pong', total_environment_frames=50_000_000)
    agent = impala_tf.load_agent('runs/pong')
    action = agent.act(frame, reward, done)

Atari-57 and DMLab-30 are packages beside it. Importing it imports no TensorFlow, so that
environment processes stay small.
"""

import contextlib
import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from impala_tf.evaluation.loaded_agent import LoadedAgent

# TensorFlow looks at it when it is loaded. What its C++ libraries log are remarks on the processor
# and the graphics card; errors that concern a user are raised as well.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
# Several runs, or a training and a test, may share a card: none may take all of its memory at once.
os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')

__version__ = '0.2.0'

# Modules that are in rooms of their own, and can be had from here, too.
_MODULES = {
  'learner': 'learning.learner',
  'losses': 'learning.losses',
  'optimizers': 'learning.optimizers',
  'vtrace': 'learning.vtrace',
  'agents': 'agent.agents',
  'networks': 'agent.networks',
}


def train(level_name: str, logdir: str, **overrides: Any) -> int:
  """Trains an agent, or resumes its training, as run_experiment.py does in one process.

  Args:
    level_name: as --level_name.
    logdir: folder of the run; made if missing.
    **overrides: options of the configuration that are other than the level's preset.

  Returns:
    0, or the exit code for the signal that ended the run early.

  Raises:
    errors.UserError: for what the user can mend, see `training.loop.train`.
  """
  from impala_tf.environments import suites
  from impala_tf.system import machine, quiet

  suite, config = suites.resolve(level_name, **overrides)
  suite.check_installed(config)
  quiet.load_tensorflow()
  from impala_tf.training import loop

  machine.configure_tensorflow(config.num_actors, config.num_learners)
  return loop.train(suite, config, logdir)


def load_agent(logdir: str, greedy: bool = False) -> 'LoadedAgent':
  """Loads the agent of a run's newest checkpoint.

  Args:
    logdir: folder of the run, anything that tf.io.gfile takes.
    greedy: whether it takes the action of the highest probability instead of sampling one.

  Raises:
    ConfigurationError: if there is not a run, or its suite or torso can't be imported here.
    CheckpointError: if there is no checkpoint that can be read.
  """
  from impala_tf.errors import ConfigurationError
  from impala_tf.system import machine

  # So that the process can train afterwards. One that has trained keeps its threads.
  with contextlib.suppress(ConfigurationError):
    machine.configure_tensorflow(2 * machine.cores())
  from impala_tf.evaluation import loaded_agent

  return loaded_agent.LoadedAgent(logdir, greedy)


def __getattr__(name: str) -> Any:
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return importlib.import_module(f'{__name__}.{_MODULES[name]}')
