"""The thirty levels: names, reference scores, what papers report for each, and the suite's score.

Each level has one name in training and one in tests; they differ for two levels, whose tests use
objects that training never shows. Wherever a name is taken here, either will do.
"""

import csv
import dataclasses
import functools
import importlib.resources
from collections.abc import Mapping, Sequence

import numpy as np

from impala_tf.config import ConfigurationError
from impala_tf.config.options import did_you_mean

SUITE = 'dmlab30'
REFERENCES = ('paper', 'code')

_FOLDER = 'contributed/dmlab30/'
# The levels that come with DeepMind Lab's own paper. They lie beside the folder of the thirty.
_OTHER_LEVELS = (
  'seekavoid_arena_01',
  'stairway_to_melon',
  'lt_chasm',
  'lt_hallway_slope',
  'lt_horseshoe_color',
  'lt_space_bounce_hard',
  *(f'nav_maze_{kind}_0{number}' for kind in ('random_goal', 'static') for number in (1, 2, 3)),
)
_NEEDS_DATASET = ('psychlab_arbitrary_visuomotor_mapping', 'psychlab_continuous_recognition')


@dataclasses.dataclass(frozen=True)
class Level:
  """One level; scores are mean returns of whole episodes.

  Attributes:
    name: in training. test_name: in tests.
    human_code, random_code: reference scores as the authors' code pairs them with the levels.
    human_paper, random_paper: as Table B.1 does. The two differ for the four lasertag levels alone,
      where one has for `small` what the other has for `large`; with the paper's pairing the paper's
      columns average to the scores it reports.
    paper_experts: Table B.1, the deep agent trained on this level alone.
    paper_impala: Table B.1, one deep agent for all levels, population-based training.
  """

  name: str
  test_name: str
  human_code: float
  random_code: float
  human_paper: float
  random_paper: float
  paper_experts: float
  paper_impala: float

  def human_normalised(self, score: float, references: str = 'paper') -> float:
    """Returns a mean return in percent: 0 is the random agent's, 100 the human's.

    Args:
      score: mean return.
      references: 'paper' or 'code', which pairing to take.

    Raises:
      ValueError: for another pairing.
    """
    if references not in REFERENCES:
      raise ValueError(f'references={references!r} is none of {", ".join(REFERENCES)}.')
    human, random = getattr(self, f'human_{references}'), getattr(self, f'random_{references}')
    return 100 * (score - random) / (human - random)


@functools.cache
def all_levels() -> tuple[Level, ...]:
  """Returns the thirty levels in the order of the authors' code."""
  text = (
    importlib.resources.files(__package__).joinpath('data/dmlab30.csv').read_text(encoding='utf-8')
  )
  rows = {row['train_level']: row for row in csv.DictReader(text.splitlines())}
  return tuple(_level(row, rows) for row in rows.values())


def _level(row, rows):
  # The paper prints one decimal. The code's numbers for the level it has in that place have two or
  # three.
  partner = rows[_lasertag_partner(row['train_level'])]
  return Level(
    name=row['train_level'],
    test_name=row['test_level'],
    human_code=float(row['human_code']),
    random_code=float(row['random_code']),
    human_paper=float(partner['human_code']),
    random_paper=float(partner['random_code']),
    paper_experts=float(row['paper_experts_deep']),
    paper_impala=float(row['paper_impala_deep_pbt']),
  )


def _lasertag_partner(name):
  if not name.startswith('lasertag'):
    return name
  stem, size = name.rsplit('_', 1)
  return f'{stem}_{"large" if size == "small" else "small"}'


@functools.cache
def _by_name() -> dict[str, Level]:
  levels = {}
  for level in all_levels():
    # Tables leave out what tells the two versions of a level apart.
    for name in (level.name, level.test_name, level.name.removesuffix('_train')):
      levels[name] = level
  return levels


def get(name: str) -> Level | None:
  """Returns the level with this training or test name, None if it is not one of the thirty."""
  return _by_name().get(name.removeprefix('/').removeprefix(_FOLDER))


def find(name: str) -> str:
  """Returns the name under which a run has a level.

  Args:
    name: 'dmlab30' for all levels, a training or test name of one of them, a level of DeepMind
      Lab's own paper such as 'seekavoid_arena_01', or the path of any other level script: below
      DeepMind Lab's `game_scripts/levels` without, elsewhere with `.lua` at its end.

  Returns:
    The training name of one of the thirty; any other as it is.

  Raises:
    ConfigurationError: for anything else, with the names that are nearest.
  """
  name = name.strip()
  level = get(name)
  if level:
    return level.name
  if (
    name == SUITE
    or name in _OTHER_LEVELS
    or ('/' in name and not name.removeprefix('/').startswith(_FOLDER))
  ):
    return name

  known = [SUITE, *_by_name(), *_OTHER_LEVELS]
  hint = did_you_mean(name.removeprefix('/').removeprefix(_FOLDER), known)
  raise ConfigurationError(
    f'{name!r} is not a level of DMLab-30. {hint} A level script of your own is named by its path, '
    'with a slash in it.'
  )


def script(name: str, is_test: bool = False) -> str:
  """Returns DeepMind Lab's name of a level from `find`; of the thirty, of the version for tests if
  `is_test`.
  """
  level = get(name)
  return _FOLDER + (level.test_name if is_test else level.name) if level else name


def needing_dataset(names: Sequence[str]) -> list[str]:
  """Returns the names whose levels can't start without the images of Brady et al. (2008)."""
  return [name for name in names if (level := get(name)) and level.name in _NEEDS_DATASET]


def mean_score(
  returns: Mapping[str, Sequence[float]], cap: float | None = None, references: str = 'paper'
) -> float:
  """Returns the suite's mean human-normalised score in percent (Section 5.3.1; Appendix B for the
  references).

  First the mean over a level's episodes, then its normalisation, then the cap, then the mean over
  levels: a level can't make up for another by more than the cap.

  Args:
    returns: unclipped episode returns by level, in training or test names. Levels outside the suite
      are ignored.
    cap: largest score of a level; 100 in the paper's tables, None for no cap.
    references: 'paper' or 'code', see `Level`.

  Raises:
    ValueError: if a level of the suite is missing, has no episodes, or is there by both its names;
      names the levels.
  """
  by_level = {}
  for name, episode_returns in returns.items():
    level = get(name)
    if level is None:
      continue
    if level in by_level:
      raise ValueError(
        f'{level.name} is there twice, under its name in training and in tests: score them '
        'separately.'
      )
    by_level[level] = episode_returns

  missing = [level.test_name for level in all_levels() if level not in by_level]
  empty = [
    level.test_name for level, episode_returns in by_level.items() if not len(episode_returns)
  ]
  if missing or empty:
    problems = []
    if missing:
      problems.append(f'missing: {", ".join(missing)}')
    if empty:
      problems.append(f'without episodes: {", ".join(empty)}')
    raise ValueError(
      f'The score of DMLab-30 needs episodes of all its levels ({"; ".join(problems)}).'
    )

  scores = [
    level.human_normalised(float(np.mean(by_level[level])), references) for level in all_levels()
  ]
  return float(np.mean(np.minimum(scores, np.inf if cap is None else cap)))
