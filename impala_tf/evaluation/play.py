"""Playing whole episodes with a trained agent, or at random."""

import contextlib

import numpy as np
import tensorflow as tf

from impala_tf import timing
from impala_tf.acting import actors, inference, weights
from impala_tf.agent import agents
from impala_tf.environments import restarts
from impala_tf.training import checkpoints, metrics


def test(suite, config, logdir, num_episodes, seed):
  """Plays complete episodes with the newest checkpoint of a run and prints their returns; see
  `play` for what it returns.

  Args:
    suite: an `suite.Suite`.
    config: the run's `config.Config`.
    logdir: the run's folder; nothing in it is changed.
    num_episodes: int, complete episodes of each level.
    seed: int, of the environments.

  Raises:
    CheckpointError: if there is no checkpoint, or it is another agent's.
    ProcessError: if a level can't be played.
  """
  agent = agents.for_suite(suite, config)
  frames = checkpoints.load_weights(logdir, agent).frames
  return play(suite, config, agent, f'agent after {frames:_} frames', num_episodes, seed)


def test_random(suite, config, num_episodes, seed):
  """As `test`, with the policy that chooses every action equally often, which every learning curve
  is to be compared with.
  """
  return play(suite, config, None, 'random policy', num_episodes, seed)


def play(suite, config, agent, name, num_episodes, seed):
  """Plays complete episodes of each level and prints their returns.

  Actions are sampled from the policy, as in training. Environments are the suite's test
  environments.

  Args:
    suite: an `suite.Suite`.
    config: `config.Config` with the levels.
    agent: a built `agents.Agent`, or None to choose all actions equally often.
    name: how to call the agent in what is printed.
    num_episodes: int, complete episodes of each level.
    seed: int, of environments and actions.

  Returns:
    A dict from level name to the list of its unclipped returns.

  Raises:
    ProcessError: if a level can't be played.
  """
  tf.random.set_seed(seed)
  n = min(num_episodes, config.envs_per_actor)
  # Once for all levels, as TensorFlow keeps each vector for as long as this process lives.
  policy = agent and inference.LocalInference(agent, weights.PublishedWeights(agent))
  returns = {}
  for index, level in enumerate(suite.levels(config)):
    # One level after the other, as environments may be large.
    environments = restarts.make_environments(
      suite, config, [level], n, True, [seed, index], timing.StageTimer()
    )
    with environments, process_errors(environments):
      if policy is None:
        episodes = play_randomly(
          environments[0], suite.num_actions(config), n, num_episodes, [seed, index]
        )
      else:
        unroller = actors.Unroller(policy, environments, [index], n, config.unroll_length)
        episodes = play_episodes(unroller, n, num_episodes)
    returns[level] = [episode.episode_return for episode in episodes]
    print(
      f'{level}, {name}: mean return {np.mean(returns[level]):.2f} over {num_episodes} complete episodes '
      f'(standard deviation {np.std(returns[level]):.2f}, lowest {min(returns[level]):g}, highest {max(returns[level]):g})',
      flush=True,
    )
  return returns


@contextlib.contextmanager
def process_errors(group):
  """Raises the `ProcessError` of a process that was given up in place of what TensorFlow makes of
  it, a text among others.

  Args:
    group: `restarts.EnvironmentProcesses`.
  """
  try:
    yield
  except tf.errors.OpError as error:
    if group.error is not None:
      raise group.error from error
    raise


def play_episodes(unroller, num_environments, num_episodes, on_episode=None):
  """Plays complete episodes of an actor's environments and returns what they earned; see
  `_fixed_shares`.

  Args:
    unroller: an `actors.Unroller` of one actor, with the weights to be judged; its environments
      must be test environments.
    num_environments: int, environments of that actor.
    num_episodes: int, how many episodes in all.
    on_episode: called without arguments after each of them, None for nothing.

  Returns:
    A list of `num_episodes` `metrics.Episode` with unclipped returns, in the order in which they
    ended; all of level 0.

  Raises:
    ValueError: if `num_episodes` is below 1.
    tf.errors.OpError: if the actor's process failed or was closed; see `process_errors`.
  """

  def infos():
    carry = unroller.initial(0)
    while True:
      carry, unrolls = unroller.unroll(0, carry)
      # Column 0 repeats the last one of the unroll before.
      yield tf.nest.map_structure(lambda t: t.numpy()[:, 1:], unrolls.step_outputs.info)

  return _fixed_shares(infos(), num_environments, num_episodes, on_episode)


def play_randomly(process, num_actions, num_environments, num_episodes, seed, on_episode=None):
  """As `play_episodes`, with the policy that chooses every action equally often.

  Args:
    process: one of `restarts.EnvironmentProcesses`, with `num_environments` test environments.
    num_actions: int, the actions to choose from.
    num_environments: int.
    num_episodes: int, how many episodes in all.
    seed: a list of int, of the actions.
    on_episode: as for `play_episodes`.

  Raises:
    ValueError: if `num_episodes` is below 1.
    ProcessError: if the process failed.
    RuntimeError: if it was closed.
  """
  random = np.random.default_rng(seed)

  def infos():
    process.call('initial')
    while True:
      actions = random.integers(num_actions, size=num_environments, dtype=np.int32)
      yield tf.nest.map_structure(
        lambda array: array[:, np.newaxis], process.call('step', actions).info
      )

  return _fixed_shares(infos(), num_environments, num_episodes, on_episode)


def _fixed_shares(infos, num_environments, num_episodes, on_episode):
  """The first episodes of each environment, as many as its share.

  Each environment plays a fixed share of the episodes, decided beforehand. Taking instead whichever
  episodes end first, over all environments, would favour short ones, which in most games are the
  poor ones.

  Args:
    infos: iterator of `structs.EpisodeInfo` of arrays [num_environments, steps], which goes on for
      ever.
    num_environments: int.
    num_episodes: int.
    on_episode: called without arguments after each episode, or None.

  Returns:
    A list of `num_episodes` `metrics.Episode` in the order in which they ended.
  """
  if num_episodes < 1:
    raise ValueError(f'At least one episode must be played, got {num_episodes}.')
  left = np.array(
    [len(share) for share in np.array_split(np.arange(num_episodes), num_environments)]
  )
  episodes = []
  while left.any():
    info = next(infos)
    for t, environment in np.argwhere(info.finished.T):
      if left[environment]:
        left[environment] -= 1
        where = environment, t
        episodes.append(
          metrics.Episode(0, float(info.episode_return[where]), int(info.episode_steps[where]))
        )
        if on_episode is not None:
          on_episode()
  return episodes
