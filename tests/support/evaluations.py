"""Results of evaluations, made up."""

from impala_tf.evaluation import results


def result(level, returns, **more):
  """A result of an agent that was trained on a level; `more` are fields that are otherwise."""
  fields = {
    'run': 'run',
    'checkpoint': 'run/ckpt-1',
    'trained_on': level,
    'agent': 'deep',
    'frames': 1,
    'weights': '0',
    'training_seed': 1,
    'environments': 1,
    'returns': list(returns),
    'episode_frames': [4] * len(returns),
  }
  return results.LevelResult(**fields | more)
