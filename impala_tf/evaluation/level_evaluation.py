"""Evaluations of trained agents on a suite's levels: several processes at once, resumable, with the
protocol in the results.

Each agent plays what it was trained on, one level or a whole suite. The results of a level are
written when it is finished; the same call goes on with those that are not.
"""

import dataclasses
import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import tensorflow as tf

from impala_tf import locks, saved_config
from impala_tf.acting import weights
from impala_tf.agent import agents
from impala_tf.config import ConfigurationError
from impala_tf.evaluation import level_player, level_results
from impala_tf.training import checkpoints

_LOCK_NAME = '.evaluation'


class EvaluatedSuite(Protocol):
  """What an evaluation needs to know of a suite.

  suite: an `suite.Suite`.
  name: the level name that stands for all of its levels.
  scores: columns for `level_results.Evaluation.save`.
  """

  suite: Any
  name: str
  scores: Mapping

  def find(self, name):
    """The name under which runs have a level, whose name may be in any spelling; ConfigurationError
    if there is none.
    """

  def result_name(self, level):
    """The name under which results have a level of a name from `find`."""

  def check(self, levels, config):
    """ConfigurationError if something is missing that these levels need."""

  def protocol(self, config):
    """What else decides what the results mean, a dict of str, numbers and bool; equal for all
    levels of an evaluation.
    """

  def describe(self, level, mean):
    """A mean return of a level (its result's name) on a common scale, as text; empty if there is
    none.
    """

  def random_config(self, level):
    """`Config` by which the random policy plays a level of a name from `find`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """How to evaluate.

  num_episodes: complete episodes of each level.
  seed: of environments and actions.
  only: names of levels to play, none for all those that the runs were trained on.
  processes: how many processes of environments play at once.
  processes_per_level: among how many of them a level is divided, 0 for as many as keep all of them
    busy.
  envs_per_process: environments of each; they share calls of the network.
  greedy: whether to take the action of the highest probability instead of sampling one.
  record_video: how many episodes of each level to record.
  changes: fields of `Config` that may differ from those of the training, such as dataset_path.
  test_changes: fields of `Config` that define the tests, and are other than in the training.
  """

  num_episodes: int
  seed: int = 1
  only: Sequence[str] = ()
  processes: int = 1
  processes_per_level: int = 0
  envs_per_process: int = 1
  greedy: bool = False
  record_video: int = 0
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  test_changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    """Checks what fits together."""
    if self.record_video > self.num_episodes:
      raise ConfigurationError(
        f'{self.record_video} of {self.num_episodes} episodes can not be recorded. Change --record_video or --episodes.'
      )


def evaluate(evaluated, logdirs, output, settings):
  """Plays the levels that `output` does not have yet with trained agents, and writes there what
  came out.

  Args:
    evaluated: an `EvaluatedSuite`.
    logdirs: folders of trained runs, or folders of such; nothing in them is changed.
    output: local folder, made if missing.
    settings: `Settings`.

  Returns:
    `level_results.Evaluation` with all that `output` now has, and the exit code: 0, or that of the
    signal that ended it early.

  Raises:
    ConfigurationError: if a run or something that its levels need is missing, if two runs have the
      same level, or if `output` has results of another protocol or other weights, lacks videos of
      levels that are finished, or has another evaluation under way.
    CheckpointError: if a run has no checkpoint that can be read, or it is of another agent than its
      configuration.
    ProcessError: if a level can't be played. Those finished before are kept.
  """
  configs = {
    logdir: dataclasses.replace(
      saved_config.load_with(logdir, settings.changes), **settings.test_changes
    )
    for logdir in _runs_in(logdirs)
  }
  chosen = _choose(evaluated, configs, settings.only)
  actions = 'of the highest probability' if settings.greedy else 'sampled from the policy'
  games = [
    (levels, configs[logdir], {'precision': configs[logdir].precision})
    for logdir, levels in chosen.items()
  ]
  protocol = _protocol(evaluated, games, actions, settings)
  runs = {logdir: _load_run(evaluated.suite, logdir, configs[logdir]) for logdir in chosen}
  jobs = [(runs[logdir], level) for logdir, levels in chosen.items() for level in levels]
  return _evaluate(evaluated, jobs, protocol, output, settings)


def evaluate_random(evaluated, output, settings):
  """As `evaluate`, with the policy that chooses all actions equally often; on all of the suite's
  levels by default.
  """
  runs = {}
  for level in _levels(evaluated, settings.only or [evaluated.name]):
    config = dataclasses.replace(
      evaluated.random_config(level), **{**settings.changes, **settings.test_changes}
    )
    runs[level] = level_player.Run('', config)
  games = [([level], run.config, {}) for level, run in runs.items()]
  protocol = _protocol(evaluated, games, 'all equally often, without an agent', settings)
  return _evaluate(
    evaluated, [(run, level) for level, run in runs.items()], protocol, output, settings
  )


def _runs_in(logdirs):
  """The folders of runs among folders of runs and folders of such."""
  runs = []
  for logdir in logdirs:
    below = []
    if tf.io.gfile.isdir(logdir) and saved_config.load(logdir) is None:
      folders = (
        os.path.join(logdir, name.rstrip('/')) for name in sorted(tf.io.gfile.listdir(logdir))
      )
      below = [
        folder
        for folder in folders
        if tf.io.gfile.exists(os.path.join(folder, saved_config.FILE_NAME))
      ]
    runs += below or [logdir]
  return list(dict.fromkeys(runs))


def _levels(evaluated, names):
  """The levels of some names, in any spelling, of which the suite's stands for all of its own."""
  return [
    level
    for name in names
    for level in evaluated.suite.levels(evaluated.random_config(evaluated.find(name)))
  ]


def _choose(evaluated, configs, only):
  """The levels that each run has to play, a dict from its folder to names."""
  wanted = set(_levels(evaluated, only))
  chosen, owner = {}, {}
  for logdir, config in configs.items():
    config = dataclasses.replace(config, level_name=evaluated.find(config.level_name))
    for level in evaluated.suite.levels(config):
      if level in wanted or not wanted:
        if level in owner:
          raise ConfigurationError(
            f'{level} was trained in {owner[level]} and in {logdir}: evaluate these runs separately.'
          )
        owner[level] = logdir
        chosen.setdefault(logdir, []).append(level)
  unknown = sorted(wanted - owner.keys())
  if unknown:
    raise ConfigurationError(
      f'No run was trained on {", ".join(unknown)}: leave it out of --levels, or add its --logdir.'
    )
  return chosen


def _load_run(suite, logdir, config):
  agent = agents.for_suite(suite, config)
  checkpoint = checkpoints.load_weights(logdir, agent)
  checksum = 0
  for variable in agent.trainable_variables:
    checksum = zlib.crc32(variable.numpy().tobytes(), checksum)
  # Once for all of its levels, as TensorFlow keeps each vector for as long as this process lives.
  published = weights.PublishedWeights(agent)
  return level_player.Run(
    logdir, config, agent, published, checkpoint.path, checkpoint.frames, f'{checksum:08x}'
  )


def _protocol(evaluated, games, actions, settings):
  """All that decides what the results mean, after making sure that the levels can be played.

  Args:
    evaluated: an `EvaluatedSuite`.
    games: a list of (levels, Config, what else there is to say of how these are played, a dict).
    actions: how actions are chosen, str.
    settings: `Settings`.

  Returns:
    A dict.
  """
  protocols = []
  for levels, config, further in games:
    evaluated.check(levels, config)
    protocols.append(evaluated.protocol(config) | further)
    if protocols[-1] != protocols[0]:
      raise ConfigurationError(
        f'The runs need different protocols: {level_results.differences(protocols[0], protocols[-1])}. Evaluate them '
        'separately.'
      )
  return {
    'episodes_per_level': settings.num_episodes,
    'episodes_counted': 'complete ones; each environment plays a share fixed beforehand',
    'actions': actions,
    'seed': settings.seed,
    **protocols[0],
  }


def _evaluate(evaluated, jobs, protocol, output, settings):
  """Plays those of a list of (run, level) that `output` does not have yet; returns what `evaluate`
  does.
  """
  os.makedirs(output, exist_ok=True)
  # Two that write there would each lose what the other has found.
  with locks.held(output, _LOCK_NAME, 'evaluates'):
    return _evaluate_alone(evaluated, jobs, protocol, output, settings)


def _evaluate_alone(evaluated, jobs, protocol, output, settings):
  found = level_results.load(output) or level_results.Evaluation(protocol, {})
  _check_same(evaluated, found, protocol, jobs, output)
  _check_videos(evaluated, found, jobs, output, settings)
  found.save(output, evaluated.scores)  # Fails now rather than after hours, if it fails.
  # Before those that are there already go, so that a level is played the same when an evaluation
  # was interrupted.
  per_level = settings.processes_per_level or max(1, settings.processes // max(1, len(jobs)))
  jobs = [(run, level) for run, level in jobs if evaluated.result_name(level) not in found.levels]
  parts = {
    level: level_player.parts_of(
      run, level, evaluated.result_name(level), per_level, output, settings
    )
    for run, level in jobs
  }
  played = {level: {} for level in parts}

  def take(part, episodes):
    """Keeps a part's episodes; returns what to print of a level that is finished now, or None."""
    level = played[part.level]
    level[part.index] = episodes
    if len(level) < len(parts[part.level]):
      return None
    episodes = [episode for index in sorted(level) for episode in level[index]]
    run, name = part.run, evaluated.result_name(part.level)
    found.levels[name] = result = level_results.LevelResult(
      run=run.logdir,
      checkpoint=run.checkpoint,
      trained_on=run.config.level_name if run.agent else '',
      agent=run.config.agent if run.agent else level_results.RANDOM,
      frames=run.frames,
      weights=run.checksum,
      training_seed=run.config.seed,
      environments=sum(p.num_environments for p in parts[part.level]),
      returns=[episode.episode_return for episode in episodes],
      episode_frames=[
        episode.episode_steps * run.config.num_action_repeats for episode in episodes
      ],
    )
    found.save(output, evaluated.scores)
    return (
      f'{name}: mean return {result.mean():.2f} over {len(episodes)} complete episodes'
      f'{evaluated.describe(name, result.mean())}. {len(found.levels)} levels are finished.'
    )

  player = level_player.Player(evaluated.suite, settings)
  return found, level_player.play_all(
    player, [part for level in parts.values() for part in level], settings.processes, take
  )


def _check_videos(evaluated, found, jobs, output, settings):
  names = {evaluated.result_name(level) for _, level in jobs} & found.levels.keys()
  without = sorted(
    name
    for name in names
    if not all(map(os.path.exists, level_player.videos_of(name, output, settings)))
  )
  if without:
    raise ConfigurationError(
      f'{output} has no --record_video={settings.record_video} of {", ".join(without)}, and what is finished is not played '
      'again. Use another --output, or leave --record_video out.'
    )


def _check_same(evaluated, found, protocol, jobs, output):
  other = 'Use another --output for a new evaluation.'
  if found.protocol != protocol:
    raise ConfigurationError(
      f'The results in {output} came about differently: {level_results.differences(found.protocol, protocol)} (there and now). '
      f'{other}'
    )
  for run, level in jobs:
    name = evaluated.result_name(level)
    old = found.levels.get(name)
    if old and (old.weights, old.frames) != (run.checksum, run.frames):
      raise ConfigurationError(
        f'{name} in {output} was played by another agent, {old.run or "the random policy"} after {old.frames:_} frames, than '
        f'now, {run.logdir or "the random policy"} after {run.frames:_} frames. {other}'
      )
