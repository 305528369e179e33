"""Playing whole episodes with a trained agent."""

import numpy as np
import tensorflow as tf

from impala_tf import actors, checkpoints, experiment, inference, metrics, weights

_MAX_ENVIRONMENTS = 16


def test(suite, hparams, logdir, num_episodes, seed):
  """Plays complete episodes with the newest checkpoint of a run and prints their returns; see `play` for what it returns.

  Args:
    suite: an `experiment.Suite`.
    hparams: the run's `hparams.HParams`.
    logdir: the run's folder; nothing in it is changed.
    num_episodes: int, complete episodes of each level.
    seed: int, of the environments.

  Raises:
    CheckpointError: if there is no checkpoint, or it is another agent's.
  """
  agent = experiment.make_agent(suite, hparams)
  frames = checkpoints.load_weights(logdir, agent)
  return play(suite, hparams, agent, f'agent after {frames:_} frames', num_episodes, seed)


def test_random(suite, hparams, num_episodes, seed):
  """As `test`, with the policy that chooses every action equally often, which every learning curve is to be compared with."""
  agent = experiment.make_agent(suite, hparams)
  for variable in (agent.policy_logits.w, agent.policy_logits.b):
    variable.assign(tf.zeros_like(variable))
  return play(suite, hparams, agent, 'random policy', num_episodes, seed)


def play(suite, hparams, agent, name, num_episodes, seed):
  """Plays complete episodes of each level and prints their returns.

  Actions are sampled from the policy, as in training. Environments are the suite's test environments.

  Args:
    suite: an `experiment.Suite`.
    hparams: `hparams.HParams` with the levels.
    agent: a built `agents.Agent`.
    name: how to call the agent in what is printed.
    num_episodes: int, complete episodes of each level.
    seed: int, of environments and actions.

  Returns:
    A dict from level name to the list of its unclipped returns.
  """
  tf.random.set_seed(seed)
  levels = suite.levels(hparams)
  n = min(num_episodes, _MAX_ENVIRONMENTS)
  returns = {}
  with experiment.make_environments(suite, hparams, levels, n, True, [seed], metrics.StageTimer()) as group:
    policy = inference.OwnInference(agent, weights.PublishedWeights(agent))
    unroller = actors.Unroller(policy, group, list(range(len(levels))), n, hparams.unroll_length)
    for index, level in enumerate(levels):
      returns[level] = play_episodes(unroller, index, n, num_episodes)
      print(
        f'{level}, {name}: mean return {np.mean(returns[level]):.2f} over {num_episodes} complete episodes '
        f'(standard deviation {np.std(returns[level]):.2f}, lowest {min(returns[level]):g}, highest {max(returns[level]):g})',
        flush=True,
      )
  return returns


def play_episodes(unroller, index, num_environments, num_episodes):
  """Plays complete episodes of one actor's environments and returns what they earned.

  Each environment plays a fixed share of the episodes, decided beforehand. Taking instead whichever episodes end first, over
  all environments, would favour short ones, which in most games are the poor ones.

  Args:
    unroller: an `actors.Unroller` with the weights to be judged; its environments must be test environments.
    index: int, which of its actors.
    num_environments: int, environments of that actor.
    num_episodes: int, how many episodes in all.

  Returns:
    A list of `num_episodes` floats, unclipped returns of whole episodes, in the order in which they ended.

  Raises:
    ValueError: if `num_episodes` is below 1.
  """
  if num_episodes < 1:
    raise ValueError(f'At least one episode must be played, got {num_episodes}.')
  left = np.array([len(share) for share in np.array_split(np.arange(num_episodes), num_environments)])
  returns = []
  carry = unroller.initial(index)
  while left.any():
    carry, unrolls = unroller.unroll(index, carry)
    info = unrolls.step_outputs.info
    # Column 0 repeats the last one of the unroll before.
    finished = info.finished.numpy()[:, 1:]
    episode_returns = info.episode_return.numpy()[:, 1:]
    for t, environment in np.argwhere(finished.T):
      if left[environment]:
        left[environment] -= 1
        returns.append(float(episode_returns[environment, t]))
  return returns
