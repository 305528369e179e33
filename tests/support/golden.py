"""The authors' numbers in tests/golden (see its README), and the agent they belong to."""

import numpy as np

from impala_tf import structs
from impala_tf.agent import agents
from tests.support.processes import ROOT

DMLAB_OBSERVATION = structs.Observation(
  structs.ArraySpec((72, 96, 3), np.uint8), structs.ArraySpec((), np.bytes_)
)
_DIRECTORY = ROOT / 'tests' / 'golden'


def load(name):
  """The arrays of a golden file, by name."""
  with np.load(_DIRECTORY / f'{name}.npz') as arrays:
    return dict(arrays)


def variables(agent):
  """Lists the variables of a deep agent with LSTM and instructions in the authors' order."""
  convolutions = []
  for section in agent.torso.sections:
    convolutions += [section.convolution, *(layer for block in section.blocks for layer in block)]
  encoder = agent.instruction_encoder
  return [
    *(variable for layer in (*convolutions, agent.torso.linear) for variable in (layer.w, layer.b)),
    *(encoder.embed.embeddings, encoder.lstm.kernel, encoder.lstm.bias),
    *(agent.core.kernel, agent.core.bias),
    *(agent.policy_logits.w, agent.policy_logits.b, agent.baseline.w, agent.baseline.b),
  ]


def synthetic_weight(i, shape):
  """The synthetic weight of number i: no bias is zero, so that mistakes with biases show."""
  if len(shape) == 1:
    scale = 0.1
  elif tuple(shape) == (1000, 20):
    scale = 1.0
  else:
    scale = 1.2 / np.sqrt(np.prod(shape[:-1]))
  return (np.random.RandomState(1000 + i).randn(*shape) * scale).astype(np.float32)


def agent():
  """The authors' agent with the synthetic weights."""
  agent = agents.make_agent(
    9, 'deep', use_lstm=True, use_last_action_and_reward=True, use_instruction=True
  )
  agent.build(DMLAB_OBSERVATION)
  for i, variable in enumerate(variables(agent)):
    variable.assign(synthetic_weight(i, variable.shape))
  return agent


def step_outputs(arrays, prefix=''):
  """`structs.StepOutput` of the inputs in a golden file."""
  get = lambda name: arrays[prefix + name]
  return structs.StepOutput(
    reward=get('rewards'),
    done=get('done'),
    truncated=np.zeros_like(get('done')),
    info=(),
    observation=structs.Observation(get('frames'), get('instructions')),
  )


def summary(array, i):
  """The 57 numbers that the golden files keep of variable i: norm, sum, largest, four projections,
  first 50 entries.
  """
  flat = np.asarray(array, np.float64).ravel()
  random = np.random.RandomState(5000 + i)
  projections = [flat @ random.standard_normal(flat.size) for _ in range(4)]
  first = np.zeros(50)
  first[: min(50, flat.size)] = flat[:50]
  return np.array([np.linalg.norm(flat), flat.sum(), np.abs(flat).max(), *projections, *first])


def worst_difference(summaries, expected, sizes):
  """The largest relative difference of two arrays of `summary` rows.

  Each number is compared on its own scale: norms with themselves, projections with the norm (their
  standard deviation), sums with norm * sqrt(size) (their bound), entries with the variable's
  largest entry.
  """
  norm, largest = expected[:, :1], expected[:, 2:3]
  sum_bound = norm * np.sqrt(np.asarray(sizes))[:, np.newaxis]
  scales = np.concatenate([norm, sum_bound, largest, *[norm] * 4, *[largest] * 50], axis=1)
  return np.max(np.abs(summaries - expected) / np.maximum(scales, 1e-12))
