"""Plays complete episodes of the levels' test versions with trained agents (Section 5.3.1: 500
episodes a level).

    python -m dmlab30.evaluate --logdir=runs/dmlab30
    python -m dmlab30.evaluate --logdir=runs/expert_1,runs/expert_2 --output=evaluations/experts
    --processes=8

Each agent plays what it was trained on, one level or all thirty. Several levels are played at once.
The results of a level are written when it is finished; the same command goes on with those that are
not.
"""

import dataclasses
import functools

from absl import app, flags

from dmlab30 import environment, levels, presets, suite
from impala_tf import cli
from impala_tf.config import Config, parse
from impala_tf.evaluation import command

_CHANGES = ('dataset_path', 'level_cache_dir', 'level_cache_max_gigabytes', 'renderer')


class DMLabEvaluated:
  """A `evaluate.EvaluatedSuite`.

  Keep it as long as its environments run.
  """

  name = levels.SUITE

  def __init__(self):
    """Makes the suite."""
    self.suite = suite.DMLabSuite()
    self.scores = {
      f'human_normalised_percent_{references}_references': functools.partial(
        _normalised, references=references
      )
      for references in levels.REFERENCES
    }

  def find(self, name):
    """As `levels.find`."""
    return levels.find(name)

  def result_name(self, level):
    """The test name."""
    known = levels.get(level)
    return known.test_name if known else level

  def check(self, names, config):
    """Looks for DeepMind Lab and the images that some levels show."""
    suite.check_levels(names, config.dataset_path)

  def protocol(self, config):
    """How levels are played."""
    return {
      'levels': 'test versions, held-out objects allowed',
      'mixer_seed': environment.TEST_MIXER_SEED,
      'num_action_repeats': config.num_action_repeats,
      'width': config.width,
      'height': config.height,
      'psychlab_images': {'': 'none', 'dummy': 'plain colours'}.get(
        config.dataset_path, 'Brady et al. (2008)'
      ),
      'renderer': config.renderer,
      'score': 'mean over episodes, human-normalised, capped at 100, mean over levels',
    }

  def describe(self, level, mean):
    """Percent of the way from a random to a human player, of one of the thirty."""
    return (
      f', {levels.get(level).human_normalised(mean):.1f}% human-normalised'
      if levels.get(level)
      else ''
    )

  def random_config(self, level):
    """The paper's."""
    return presets.preset(level, 'shallow')


def _normalised(level, mean, references):
  return levels.get(level).human_normalised(mean, references) if levels.get(level) else ''


def summary(found):
  """The suite's score, or why there is none, as text."""
  missing = [
    level.test_name for level in levels.all_levels() if level.test_name not in found.levels
  ]
  if missing:
    return f'No score of DMLab-30 yet, it lacks {len(missing)} of 30 levels: {", ".join(missing)}.'
  returns = {name: result.returns for name, result in found.levels.items()}
  scores = [
    levels.mean_score(returns, cap=100, references=references) for references in levels.REFERENCES
  ]
  return (
    f"Mean capped human-normalised score: {scores[0]:.1f}% (lasertag's references as in the paper; {scores[1]:.1f}% as in the "
    "authors' code)."
  )


@cli.report_user_errors()
def main(argv):
  """Evaluates as the flags say; returns the exit code."""
  cli.no_positional_arguments(argv)
  given = {name: flags.FLAGS[name].value for name in _CHANGES}
  changes = {name: parse(name, value) for name, value in given.items() if value is not None}
  return command.main(DMLabEvaluated(), summary, changes=changes)


if __name__ == '__main__':
  command.define_flags(num_episodes=500, envs_per_process=1)
  for field in dataclasses.fields(Config):
    if field.name in _CHANGES:
      flags.DEFINE_string(field.name, None, f'{field.metadata["help"]} (default: that of the run)')
  app.run(main)
