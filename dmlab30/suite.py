"""DMLab-30 as a suite that `impala_tf` can train on and evaluate."""

import functools
import os
import tempfile

import numpy as np

from dmlab30 import environment, levels
from dmlab30.presets import SINGLE_LEVEL
from impala_tf.config import ConfigurationError

_DATASET = (
  'the object images of Brady, Konkle, Alvarez and Oliva (2008), from https://bradylab.ucsd.edu/stimuli/ObjectsAll.zip, '
  'converted as data/brady_konkle_oliva2008/README.md of DeepMind Lab says'
)
_FIRST_IMAGE = '0001.png'
_WITHOUT_MEANING = ('frame_stack', 'max_noops', 'full_action_space', 'repeat_action_probability')


def make():
  """A `DMLabSuite`."""
  return DMLabSuite()


class DMLabSuite:
  """An `suite.Suite`; level names are those of `levels.find`.

  Keep it as long as its environments run: their temporary files go with it.
  """

  def __init__(self):
    """Makes a folder for temporary files."""
    self._temp_folder = tempfile.TemporaryDirectory(
      prefix='impala_tf_dmlab_', ignore_cleanup_errors=True
    )

  def check(self, config):
    """Refuses values of fields of which nothing would come here; see `suite.Suite`."""
    for field in _WITHOUT_MEANING:
      if getattr(config, field) != getattr(SINGLE_LEVEL, field):
        raise ConfigurationError(
          f'{field}={getattr(config, field)} has no meaning in DeepMind Lab. Leave --{field} out.'
        )

  def check_installed(self, config):
    """Looks for DeepMind Lab, and for the images that some levels need; see `suite.Suite`."""
    check_levels(self.levels(config), config.dataset_path)

  def levels(self, config):
    """The thirty training names for 'dmlab30', otherwise the one level."""
    if config.level_name == levels.SUITE:
      return tuple(level.name for level in levels.all_levels())
    return (config.level_name,)

  def num_actions(self, config):
    """The nine of Table D.2."""
    del config
    return environment.DMLabEnvironment.num_actions

  def observation_spec(self, config):
    """A frame and an instruction."""
    return environment.observation_spec(config.height, config.width)

  def make_environment(self, level, seed, is_test, config):
    """A constructor of `environment.DMLabEnvironment`; in tests it plays the level's version for
    tests.
    """
    return functools.partial(
      environment.make,
      level,
      seed,
      level_cache_dir=config.level_cache_dir,
      level_cache_max_gigabytes=config.level_cache_max_gigabytes,
      is_test=is_test,
      num_action_repeats=config.num_action_repeats,
      height=config.height,
      width=config.width,
      dataset_path=config.dataset_path,
      renderer=config.renderer,
      temp_folder=self._temp_folder.name,
    )

  def make_agent(self, config):
    """The agent of Figure 3, shallow or deep: frames, last action and reward, instruction, and an
    LSTM.
    """
    # Not at the top: it loads TensorFlow, and `check` should answer at once.
    from impala_tf.agent import agents

    return agents.make_agent(
      self.num_actions(config),
      network=config.agent,
      use_lstm=True,
      use_last_action_and_reward=True,
      use_instruction=True,
    )

  def scores(self, level_returns):
    """The suite's mean human-normalised score in percent, capped at 100 for each level and not
    capped.

    Args:
      level_returns: dict from each of the run's levels to its unclipped returns, one at least.

    Returns:
      A dict from names to floats; empty unless the levels are the suite's thirty.
    """
    if {levels.get(name) for name in level_returns} != set(levels.all_levels()):
      return {}
    return {
      'dmlab30/training_cap_100': levels.mean_score(level_returns, cap=100),
      'dmlab30/training_no_cap': levels.mean_score(level_returns),
    }

  def fitness(self, level_returns):
    """The mean human-normalised score in percent, capped at 100 for each level; see `suite.Suite`.

    With a level outside the suite, which has no references, it is the mean return.
    """
    means = {name: np.mean(returns) for name, returns in level_returns.items()}
    known = {name: levels.get(name) for name in means}
    if None in known.values():
      return float(np.mean(list(means.values())))
    return float(
      np.mean([min(known[name].human_normalised(mean), 100) for name, mean in means.items()])
    )


def check_levels(names, dataset_path):
  """Looks for what levels need.

  Args:
    names: list of levels.
    dataset_path: as in `Config`.

  Raises:
    ConfigurationError: if DeepMind Lab is not installed, or if the images that some of the levels
      need are missing; names these levels.
  """
  environment.check_installed()
  if dataset_path not in ('', 'dummy'):
    problem = None
    if not os.path.isdir(dataset_path):
      problem = 'is no folder'
    elif not os.path.exists(os.path.join(dataset_path, _FIRST_IMAGE)):
      problem = f'has no {_FIRST_IMAGE}'
    if problem:
      raise ConfigurationError(
        f'--dataset_path={dataset_path} {problem}. It should hold {_DATASET}.'
      )
  needing = levels.needing_dataset(names)
  if needing and not dataset_path:
    raise ConfigurationError(
      f'No images for {" and ".join(needing)}. Give --dataset_path the folder with {_DATASET}; or --dataset_path=dummy for '
      'plain colours instead, which is another task than the paper has.'
    )
