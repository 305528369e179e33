"""What an evaluation found, and how: results.json, and the same as results.csv with a row for each level.

This module imports no TensorFlow.
"""

import csv
import dataclasses
import json
import os
import statistics
import uuid

from dmlab30 import levels
from impala_tf.hparams import ConfigurationError

FILE_NAME = 'results.json'
TABLE_FILE_NAME = 'results.csv'


@dataclasses.dataclass(frozen=True)
class LevelResult:
  """What one agent earned on one level.

  run: folder of the training. trained_on: its level, or 'dmlab30'. agent: 'shallow' or 'deep'.
  frames: environment frames that the agent was trained for.
  weights: checksum of its weights.
  returns: unclipped returns of complete episodes.
  """

  run: str
  trained_on: str
  agent: str
  frames: int
  weights: str
  returns: list[float]


@dataclasses.dataclass
class Evaluation:
  """Results by level (its test name, where it is one of the thirty), and the protocol by which all of them came about."""

  protocol: dict[str, str | int | float | bool]
  levels: dict[str, LevelResult]

  def returns(self) -> dict[str, list[float]]:
    """Returns by level."""
    return {name: result.returns for name, result in self.levels.items()}

  def save(self, folder: str):
    """Writes both files, each whole or not at all; makes the folder if it is missing."""
    os.makedirs(folder, exist_ok=True)
    _write(os.path.join(folder, TABLE_FILE_NAME), lambda file: csv.writer(file, lineterminator='\n').writerows(self._rows()))
    _write(os.path.join(folder, FILE_NAME), lambda file: json.dump(dataclasses.asdict(self), file, indent=1))

  def _rows(self):
    header = ['level', 'episodes', 'mean_return', 'standard_error', 'standard_deviation', 'lowest', 'highest']
    header += [f'human_normalised_percent_{references}_references' for references in levels.REFERENCES]
    header += ['run', 'trained_on', 'agent', 'frames', 'weights']
    yield header + [f'protocol_{name}' for name in self.protocol]
    for name, result in self.levels.items():
      n, mean, deviation = len(result.returns), statistics.fmean(result.returns), statistics.pstdev(result.returns)
      error = statistics.stdev(result.returns) / n**0.5 if n > 1 else ''
      level = levels.get(name)
      normalised = [level.human_normalised(mean, references) if level else '' for references in levels.REFERENCES]
      row = [name, n, mean, error, deviation, min(result.returns), max(result.returns), *normalised]
      yield [*row, result.run, result.trained_on, result.agent, result.frames, result.weights, *self.protocol.values()]


def load(path: str) -> Evaluation | None:
  """The evaluation in a folder or results.json, None if there is no such file.

  Raises:
    ConfigurationError: if it can't be read or understood; names the file.
  """
  if os.path.isdir(path) or not path.endswith('.json'):
    path = os.path.join(path, FILE_NAME)
  try:
    with open(path, encoding='utf-8') as file:
      values = json.load(file)
    found = {name: LevelResult(**result) for name, result in values['levels'].items()}
    if not all(result.returns for result in found.values()):
      raise ValueError('a level without episodes')
    return Evaluation(dict(values['protocol']), found)
  except FileNotFoundError:
    return None
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise ConfigurationError(f"Can't read {path} as the results of an evaluation: {error!r}. Evaluate again.") from error


def _write(path, write):
  temporary = f'{path}.{uuid.uuid4().hex}.tmp'
  try:
    with open(temporary, 'w', encoding='utf-8', newline='') as file:
      write(file)
    os.replace(temporary, path)
  except BaseException:
    if os.path.exists(temporary):
      os.remove(temporary)
    raise
