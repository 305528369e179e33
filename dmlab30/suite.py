"""DMLab-30 as a suite that `impala_tf` can train on and evaluate, with the paper's
hyper-parameters.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dmlab30 import environment, levels
from impala_tf import errors, structs
from impala_tf.config import ConfigurationError, ImageConfig
from impala_tf.config.options import option
from impala_tf.environments import base
from impala_tf.environments.suite import Suite
from impala_tf.system import scratch

if TYPE_CHECKING:
  from impala_tf.agent import agents

_DATASET = (
  'the object images of Brady, Konkle, Alvarez and Oliva (2008), from '
  'https://bradylab.ucsd.edu/stimuli/ObjectsAll.zip, converted as '
  'data/brady_konkle_oliva2008/README.md of DeepMind Lab says'
)
_FIRST_IMAGE = '0001.png'
_MAX_LISTED = 5


def _cache_folder():
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.join('~', '.cache')
  return os.path.join(cache, 'impala_tf', 'dmlab30')


@dataclasses.dataclass(frozen=True, kw_only=True)
class DMLabConfig(ImageConfig):
  """The configuration of a run on DeepMind Lab."""

  dataset_path: str = option(
    'folder of the images that two psychlab levels show; dummy shows plain colours instead',
    default='',
    may_be_empty=True,
    runtime=True,
  )
  level_cache_dir: str = option(
    'folder in which compiled maps are kept, any path that TensorFlow can write; empty for none',
    default='',
    may_be_empty=True,
    runtime=True,
  )
  level_cache_max_gigabytes: float = option(
    'size of level_cache_dir above which the maps that were used longest ago are removed',
    default=20.0,
    above=0,
    runtime=True,
  )
  renderer: str = option(
    'part of the machine that draws the frames, the processor (software) or a graphics card '
    '(hardware)',
    default='software',
    choices=('software', 'hardware'),
    runtime=True,
  )


# Table D.3. Entropy cost, learning rate and epsilon were swept (Table D.1); the decay of RMSProp is
# not in the paper. For these the values are the defaults of the authors' code.
SINGLE_LEVEL = DMLabConfig(
  level_name='explore_goal_locations_small',
  agent='shallow',
  total_environment_frames=1_000_000_000,
  batch_size=32,
  unroll_length=100,
  num_action_repeats=4,
  seed=1,
  entropy_cost=0.00025,
  baseline_cost=0.5,
  discounting=0.99,
  reward_clipping='abs_one',
  learning_rate=0.00048,
  decay=0.99,
  momentum=0.0,
  epsilon=0.1,
  clip_global_norm=None,
  width=96,
  height=72,
  level_cache_dir=_cache_folder(),
)

# One agent for all levels. Entropy cost and learning rate are those of the authors' reference run;
# its reward clipping was their code's, this is the paper's (Figure D.1).
MULTI_TASK = dataclasses.replace(
  SINGLE_LEVEL,
  level_name=levels.SUITE,
  total_environment_frames=10_000_000_000,
  entropy_cost=0.0033391318945337044,
  learning_rate=0.00031866995608948655,
  reward_clipping='optimistic_asymmetric',
)

# An expert of DMLab-30 has the suite's reward clipping (Table D.3), other than an agent of the
# single-level experiments (Section 5.2).
_EXPERT = dataclasses.replace(SINGLE_LEVEL, reward_clipping=MULTI_TASK.reward_clipping)


class DMLabSuite(Suite):
  """Suite of the thirty levels, and of any other level script of DeepMind Lab; level names are
  those of `levels.find`.

  Keep it as long as its environments run: their temporary files go with it.
  """

  name = levels.SUITE
  config_class = DMLabConfig
  has_plain_names = True
  claimed_names = '/?contributed/dmlab30/'
  # An environment fills a process, and the first step of an episode may compile a map.
  usual_envs_per_actor = 1
  # The level of an agent for a single one is to be given beside it.
  presets: ClassVar = {
    f'dmlab_{kind}_{agent}': dataclasses.replace(values, agent=agent)
    for kind, values in (
      ('single', SINGLE_LEVEL),
      ('expert', _EXPERT),
      ('multitask', MULTI_TASK),
    )
    for agent in ('shallow', 'deep')
  }

  def known_levels(self) -> Sequence[str]:
    """Returns the names of the thirty levels for training and for tests, of all of them together,
    and of one more.
    """
    both = [(level.name, level.test_name) for level in levels.all_levels()]
    names = [name for pair in both for name in dict.fromkeys(pair)]
    return [levels.SUITE, 'seekavoid_arena_01', *names]

  def find(self, level: str) -> str:
    """Returns 'dmlab30', a training name, or the path of a level script; see `levels.find`."""
    return levels.find(level)

  def preset(self, level: str) -> DMLabConfig:
    """Returns the paper's hyper-parameters for one level, or for one agent on all of them; shallow
    and deep agents have the same.
    """
    chosen = MULTI_TASK if level == levels.SUITE else SINGLE_LEVEL
    return dataclasses.replace(chosen, level_name=level)

  def check_installed(self, config: DMLabConfig, names: Sequence[str] | None = None) -> None:
    """Looks for DeepMind Lab, and for the images that some levels show.

    Raises:
      ConfigurationError: if DeepMind Lab is not installed, or has no script of a level, or if the
        images that some of the levels need are missing; names these levels.
    """
    names = self.levels(config) if names is None else names
    environment.check_installed(names[0] if len(names) == 1 else config.level_name)
    for name in names:
      environment.check_script(levels.script(name))
    folder = os.path.expanduser(config.dataset_path)
    if folder not in ('', 'dummy'):
      problem = None
      if not os.path.isdir(folder):
        problem = 'is not a folder'
      elif not os.path.exists(os.path.join(folder, _FIRST_IMAGE)):
        problem = f'has no {_FIRST_IMAGE}'
      if problem:
        raise ConfigurationError(f'--dataset_path={folder} {problem}. It should hold {_DATASET}.')

    needing = levels.needing_dataset(names)
    if needing and not folder:
      raise ConfigurationError(
        f'The images for {" and ".join(needing)} are missing. Give --dataset_path the folder with '
        f'{_DATASET}; or --dataset_path=dummy for plain colours instead, which is another task '
        'than the paper has.'
      )

  def levels(self, config: DMLabConfig) -> tuple[str, ...]:
    """Returns the thirty training names for 'dmlab30', otherwise the one level."""
    if config.level_name == levels.SUITE:
      return tuple(level.name for level in levels.all_levels())
    return (config.level_name,)

  def make_environment(
    self, level: str, seed: int, is_test: bool, config: DMLabConfig
  ) -> Callable[[], base.Environment]:
    """Returns a constructor of `environment.DMLabEnvironment`; in an evaluation it plays the
    level's version for tests.
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
      dataset_path=os.path.expanduser(config.dataset_path),
      renderer=config.renderer,
      temp_folder=scratch.folder(),
    )

  def num_actions(self, config: DMLabConfig) -> int:
    """Returns the nine of Table D.2."""
    del config
    return environment.DMLabEnvironment.num_actions

  def observation_spec(self, config: DMLabConfig) -> structs.Observation:
    """Returns that of a frame and an instruction."""
    return environment.observation_spec(config.height, config.width)

  def make_agent(self, config: DMLabConfig) -> 'agents.Agent':
    """Returns the agent of Figure 3, shallow or deep: frames, last action and reward, instruction,
    and an LSTM.
    """
    from impala_tf.agent import agents

    return agents.make_agent(
      self.num_actions(config),
      network=config.agent,
      use_lstm=True,
      use_last_action_and_reward=True,
      use_instruction=True,
    )

  def scores(self, level_returns: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Returns the suite's mean human-normalised score in percent, capped at 100 for each level and
    not capped; nothing unless the levels are the suite's thirty.
    """
    if {levels.get(name) for name in level_returns} != set(levels.all_levels()):
      return {}
    return {
      'dmlab30/training_cap_100': levels.mean_score(level_returns, cap=100),
      'dmlab30/training_no_cap': levels.mean_score(level_returns),
    }

  def fitness(self, level_returns: Mapping[str, Sequence[float]]) -> float:
    """Returns the mean human-normalised score in percent, of several levels capped at 100 for each.

    With a level outside the suite, which has no references, it is the mean return.
    """
    scores = []
    for name, returns in level_returns.items():
      level = levels.get(name)
      if level is None:
        return super().fitness(level_returns)
      scores.append(level.human_normalised(float(np.mean(returns))))
    return float(np.mean(np.minimum(scores, 100) if len(scores) > 1 else scores))

  def result_name(self, level: str) -> str:
    """Returns the test name."""
    known = levels.get(level)
    return known.test_name if known else level

  def protocol(self, config: DMLabConfig) -> dict[str, Any]:
    """Returns how levels are played."""
    # A level that shows images is not played without, and for others it does not matter.
    images = 'plain colours' if config.dataset_path == 'dummy' else 'Brady et al. (2008)'
    return {
      'levels': 'test versions, held-out objects allowed',
      'mixer_seed': environment.TEST_MIXER_SEED,
      'num_action_repeats': config.num_action_repeats,
      'width': config.width,
      'height': config.height,
      'psychlab_images': images,
      'renderer': config.renderer,
      'score': 'mean over episodes, human-normalised, capped at 100, mean over levels',
    }

  def describe(self, result_name: str, mean: float) -> str:
    """Returns percent of the way from a random to a human player, of one of the thirty."""
    level = levels.get(result_name)
    return f', {level.human_normalised(mean):.1f}% human-normalised' if level else ''

  def score_columns(self) -> dict[str, Callable[[str, float], float | str]]:
    """Returns the human-normalised score by either pairing of lasertag's references."""

    def normalised(name: str, mean: float, references: str) -> float | str:
      level = levels.get(name)
      return level.human_normalised(mean, references) if level else ''

    return {
      f'human_normalised_percent_{references}_references': functools.partial(
        normalised, references=references
      )
      for references in levels.REFERENCES
    }

  def summary(self, level_returns: Mapping[str, Sequence[float]]) -> str:
    """Returns the suite's score, or which levels are missing."""
    test_names = [level.test_name for level in levels.all_levels()]
    missing = [name for name in test_names if name not in level_returns]
    if missing:
      some = errors.listed(missing, _MAX_LISTED)
      return f'No score of DMLab-30 yet, it lacks {len(missing)} of 30 levels: {some}.'

    paper, code = (
      levels.mean_score(level_returns, cap=100, references=references)
      for references in levels.REFERENCES
    )
    return (
      f"Mean capped human-normalised score: {paper:.1f}% (lasertag's references as in the paper; "
      f"{code:.1f}% as in the authors' code)."
    )


SUITE = DMLabSuite()
