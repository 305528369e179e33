"""Results of an evaluation of many levels, and how they came about: results.json, and the same as
results.csv with a row for each level.
"""

import dataclasses
import os
import statistics
from collections.abc import Callable, Mapping, Sequence

from impala_tf import cli, files
from impala_tf.config import ConfigurationError

FILE_NAME = 'results.json'
TABLE_FILE_NAME = 'results.csv'
RANDOM = 'random'

# Columns of the table: how a level was played, and where the result comes from, the latter by their
# names in `LevelResult`.
_STATISTICS = (
  'level',
  'episodes',
  'mean_return',
  'standard_error',
  'standard_deviation',
  'lowest',
  'highest',
  'mean_episode_frames',
)
_ORIGIN = (
  'environments',
  'run',
  'checkpoint',
  'trained_on',
  'method',
  'is_of_population',
  'num_learners',
  'agent',
  'frames',
  'weights',
  'training_seed',
)


@dataclasses.dataclass(frozen=True)
class LevelResult:
  """The returns of one agent on one level.

  Attributes:
    run: folder of the training, empty for the random policy.
    checkpoint: path of the checkpoint, empty likewise.
    trained_on: the training's level, or the suite's name.
    agent: 'shallow' or 'deep', or `RANDOM` for the policy that chooses all actions equally often.
    frames: environment frames that the agent was trained for.
    weights: checksum of its weights.
    training_seed: of the training.
    environments: how many environments played, each a share that was fixed beforehand.
    returns: unclipped returns of complete episodes.
    episode_frames: their lengths in emulator frames.
    method: 'IMPALA', 'Batched A2C' or 'A3C', as in the paper's tables; empty for the random policy.
    is_of_population: whether the training was a member of a population.
    num_learners: of the training, each with a batch of its own.
  """

  run: str
  checkpoint: str
  trained_on: str
  agent: str
  frames: int
  weights: str
  training_seed: int
  environments: int
  returns: list[float]
  episode_frames: list[int]
  # What files of earlier versions lack.
  method: str = ''
  is_of_population: bool = False
  num_learners: int = 1

  def __post_init__(self) -> None:
    """Checks that there are episodes."""
    if not self.returns or len(self.returns) != len(self.episode_frames):
      raise ValueError(
        f'{len(self.returns)} returns with {len(self.episode_frames)} lengths of episodes'
      )

  def mean(self) -> float:
    """Returns the mean return."""
    return statistics.fmean(self.returns)


@dataclasses.dataclass
class Evaluation:
  """Results by level, and the protocol by which all of them came about."""

  protocol: dict[str, str | int | float | bool]
  levels: dict[str, LevelResult]

  def means(self) -> dict[str, float]:
    """Returns the mean returns by level."""
    return {name: result.mean() for name, result in self.levels.items()}

  def returns(self) -> dict[str, list[float]]:
    """Returns the episodes' returns by level."""
    return {name: result.returns for name, result in self.levels.items()}

  def save(self, folder: str, scores: Mapping[str, Callable[[str, float], float | str]]) -> None:
    """Writes both files, each whole or not at all; makes the folder if it is missing.

    Args:
      folder: local folder.
      scores: further columns of the CSV file, by name: functions of a level's name and its mean
        return.
    """
    os.makedirs(folder, exist_ok=True)
    files.write_csv(os.path.join(folder, TABLE_FILE_NAME), self._rows(scores))
    files.write_json(os.path.join(folder, FILE_NAME), dataclasses.asdict(self))

  def _rows(self, scores):
    yield [
      *_STATISTICS,
      *scores,
      *_ORIGIN,
      *(f'protocol_{name}' for name in self.protocol),
    ]

    for name, result in self.levels.items():
      returns, mean = result.returns, result.mean()
      n = len(returns)
      yield [
        name,
        n,
        mean,
        statistics.stdev(returns) / n**0.5 if n > 1 else None,
        statistics.pstdev(returns),
        min(returns),
        max(returns),
        statistics.fmean(result.episode_frames),
        *(score(name, mean) for score in scores.values()),
        *(getattr(result, field) for field in _ORIGIN),
        *self.protocol.values(),
      ]


def load(path: str) -> Evaluation | None:
  """Reads the evaluation in a folder or results.json; None if there is no such file.

  Raises:
    FileError: if it can't be read or understood.
  """
  if os.path.isdir(path) or not path.endswith('.json'):
    path = os.path.join(path, FILE_NAME)
  return files.read_json(
    path,
    Evaluation | None,
    'Bring an intact copy back, or remove it and evaluate again.',
  )


@dataclasses.dataclass
class Labelled:
  """Evaluations that are reported under one label.

  Attributes:
    protocol: what all of them have in common.
    levels: by level, the results of each evaluation that has it.
  """

  protocol: dict[str, str | int | float | bool]
  levels: dict[str, list[LevelResult]]

  def means(self) -> dict[str, list[float]]:
    """Returns the mean returns by level, one for each result."""
    return {name: [result.mean() for result in results] for name, results in self.levels.items()}

  def description(self) -> dict[str, str | int | float | bool]:
    """Returns which agents played, for how many frames they were trained, and the protocol."""
    played = [result for results in self.levels.values() for result in results]
    agents = {f'{result.method} {result.agent}'.strip() for result in played}
    frames = sorted({result.frames for result in played})
    ends = [f'{number:_}' for number in (*frames[:1], *frames[1:][-1:])]
    return {
      'agents': ', '.join(sorted(agents)),
      'frames of a training': ' to '.join(ends),
      **self.protocol,
    }


def load_labelled(evaluations: Sequence[str]) -> dict[str, Labelled]:
  """Reads evaluations for a report.

  Args:
    evaluations: folders, each with or without 'label=' before it. The default label is the name of
      the run's folder.

  Returns:
    A dict by label.

  Raises:
    ConfigurationError: if one is missing, all are damaged, or those with one label do not fit
      together; of several evaluations, those that are damaged are left out with a warning.
  """
  by_label: dict[str, Labelled] = {}
  for label, path, found in files.sound_ones(_load_labelled, evaluations):
    labelled = by_label.setdefault(label, Labelled(found.protocol, {}))
    if labelled.protocol != found.protocol:
      raise ConfigurationError(
        f'The evaluations called {label!r} have different protocols '
        f'({differences(labelled.protocol, found.protocol)}): give {path} another label.'
      )
    for name, result in found.levels.items():
      others = labelled.levels.setdefault(name, [])
      if any(other.weights == result.weights for other in others):
        raise ConfigurationError(
          f'The evaluations called {label!r} have the same agent twice on {name}: leave {path} out.'
        )
      others.append(result)

  return by_label


def _load_labelled(text):
  label, path = cli.split_label(text, _default_label)
  found = load(path)
  if found is None:
    raise ConfigurationError(f'No evaluation in {path}: it has no {FILE_NAME}. Evaluate first.')
  return label, path, found


def _default_label(path):
  path = os.path.normpath(path)
  if os.path.basename(path) == FILE_NAME:
    path = os.path.dirname(path)
  if os.path.basename(path) == 'evaluation':
    path = os.path.dirname(path)
  return cli.last_part(path)


def differences(a: Mapping, b: Mapping) -> str:
  """Returns the entries in which two protocols differ, as text."""
  names = [name for name in {**a, **b} if a.get(name) != b.get(name)]
  return ', '.join(f'{name}: {a.get(name)!r} and {b.get(name)!r}' for name in names)
