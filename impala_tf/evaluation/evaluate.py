"""Evaluates trained agents on a suite's levels: several processes at once, resumable, with the
protocol in the results.

Each agent plays what it was trained on, one level or a whole suite. The results of a level are
written when the level is finished; the same call later plays only those that are not.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from impala_tf import saved_config
from impala_tf.config import ConfigurationError
from impala_tf.environments.suite import Suite
from impala_tf.errors import FileError
from impala_tf.evaluation import results, schedule
from impala_tf.evaluation.results import Evaluation
from impala_tf.evaluation.shares import EvaluatedRun, View, check_videos
from impala_tf.system import locks, quiet

LOCK_NAME = '.evaluation'
_REMEDY = 'Use another --output for a new evaluation.'


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
  """Describes how to evaluate.

  Attributes:
    num_episodes: complete episodes of each level.
    seed: of environments and actions.
    levels: names of levels to play, none for all those that the runs were trained on.
    processes: how many processes of environments play at once.
    processes_per_level: among how many of them a level is divided, 0 for as many as keep all of
      them busy.
    envs_per_process: environments of each; they share calls of the network.
    greedy: whether to take the action of the highest probability instead of sampling one.
    record_video: how many episodes of each level to record.
    changes: fields of `Config` that may differ from those of the training, such as dataset_path.
    test_changes: fields of `Config` that define the tests, and differ from the training's.
  """

  num_episodes: int
  seed: int = 1
  levels: Sequence[str] = ()
  processes: int = 1
  processes_per_level: int = 0
  envs_per_process: int = 1
  greedy: bool = False
  record_video: int = 0
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  test_changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    """Checks what fits together."""
    check_videos(self.record_video, self.num_episodes, '--episodes')


def evaluate_runs(
  suite: Suite, logdirs: Sequence[str], output: str, settings: EvaluationSettings
) -> tuple[Evaluation, int]:
  """Plays those levels with trained agents that `output` does not have yet, and writes their
  results there.

  Args:
    suite: the suite.
    logdirs: folders of trained runs, or folders of such; nothing in them is changed.
    output: local folder, made if missing.
    settings: how to evaluate.

  Returns:
    Everything that `output` now has, and the exit code: 0; 1 if runs were left out; or that of the
    signal that ended the evaluation early.

  Of several runs, those that are damaged, or have no checkpoint that can be read, are left out with
  a warning.

  Raises:
    ConfigurationError: if a run or something that its levels need is missing, if two runs have the
      same level, or if `output` has results of another protocol or other weights, lacks videos of
      levels that are finished, or is in use by another evaluation.
    CheckpointError: if no run has a checkpoint that can be read and is of its configuration.
    ProcessError: if a level can't be played. Levels that were finished before are kept.
  """
  games, problems = _games_of_runs(suite, logdirs, settings)
  return _evaluate(suite, games, output, settings, problems)


def evaluate_random_policy(
  suite: Suite, output: str, settings: EvaluationSettings
) -> tuple[Evaluation, int]:
  """Evaluates as `evaluate_runs` does, but the policy that chooses all actions equally often; on
  all levels of the suite by default.
  """
  return _evaluate(suite, _games_at_random(suite, settings), output, settings)


def check(suite: Suite, logdirs: Sequence[str], settings: EvaluationSettings) -> None:
  """Raises what `evaluate_runs`, or without folders `evaluate_random_policy`, would raise before an
  agent is loaded. This one does not load TensorFlow.
  """
  if logdirs:
    games, _ = _games_of_runs(suite, logdirs, settings)
  else:
    games = _games_at_random(suite, settings)
  _check_protocol(suite, games, settings)


def _games_of_runs(suite, logdirs, settings):
  """Returns what there is to play, and the errors of runs that are damaged."""
  configs, problems = {}, []
  for logdir in saved_config.runs_in(logdirs):
    try:
      config = saved_config.load_with(logdir, settings.changes, suite.config_class)
      configs[logdir] = dataclasses.replace(config, **settings.test_changes)
    except FileError as error:
      problems.append(error)

  try:
    chosen = _choose_levels(suite, configs, settings.levels)
  except ConfigurationError:
    if problems:
      raise problems[0] from None  # It may be what is missing.
    raise

  if not chosen:
    raise problems[0]
  games = [(EvaluatedRun(logdir, configs[logdir]), levels) for logdir, levels in chosen.items()]
  return games, problems


def _games_at_random(suite, settings):
  changes = {**settings.changes, **settings.test_changes}
  return [
    (EvaluatedRun('', dataclasses.replace(suite.configure(level), **changes)), [level])
    for level in _expand(suite, settings.levels or [suite.name])
  ]


def _expand(suite, names):
  """Returns the levels of names in any spelling, of which the suite's stands for all levels."""
  return [level for name in names for level in suite.levels(suite.configure(name))]


def _choose_levels(suite, configs, only):
  """Returns the levels that each run has to play, a dict from its folder to names."""
  wanted = set(_expand(suite, only))
  chosen, owner = {}, {}

  for logdir, config in configs.items():
    # Refuses runs of another suite.
    config = dataclasses.replace(config, level_name=suite.configure(config.level_name).level_name)
    for level in suite.levels(config):
      if wanted and level not in wanted:
        continue
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


def _check_protocol(suite, games, settings):
  """Returns everything that decides what the results mean, after checks that the levels can be
  played. Arguments are as for `_evaluate`.
  """
  protocols = []
  for run, levels in games:
    suite.check_installed(run.config, levels)
    if settings.record_video:
      suite.check_pictures(run.config)
    precision = {'precision': run.config.precision} if run.logdir else {}
    protocols.append(suite.protocol(run.config) | precision)
    if protocols[-1] != protocols[0]:
      raise ConfigurationError(
        'The runs need different protocols: '
        f'{results.differences(protocols[0], protocols[-1])}. Evaluate them separately.'
      )

  if not games[0][0].logdir:
    actions = 'all equally often, without an agent'
  else:
    actions = 'of the highest probability' if settings.greedy else 'sampled from the policy'

  return {
    'episodes_per_level': settings.num_episodes,
    'episodes_counted': 'complete ones; each environment plays a share fixed beforehand',
    'actions': actions,
    'seed': settings.seed,
    **protocols[0],
  }


def _evaluate(suite, games, output, settings, problems=()):
  """Plays those levels of some runs that `output` does not have yet; returns what `evaluate_runs`
  does.

  Args:
    suite: the suite.
    games: a list of (`EvaluatedRun` without an agent, its levels).
    output, settings: as for `evaluate_runs`.
    problems: the errors of runs that are damaged.
  """
  # Refusals come before the first agent is loaded.
  protocol = _check_protocol(suite, games, settings)
  quiet.load_tensorflow()
  from impala_tf.evaluation import play
  from impala_tf.training.checkpoint_files import CheckpointError

  played, problems = [], list(problems)
  for run, levels in games:
    try:
      agent = play.load_run(suite, run.logdir, run.config) if run.logdir else run
      played += [(agent, level) for level in levels]
    except CheckpointError as error:
      problems.append(error)

  if problems and not played:
    raise problems[-1]
  for problem in problems:
    logging.warning('Left out: %s', problem)
  names = {level: suite.result_name(level) for _, level in played}
  os.makedirs(output, exist_ok=True)

  # Two evaluations that write there would each lose what the other has found.
  with locks.held(output, LOCK_NAME, 'evaluates'):
    found = results.load(output) or Evaluation(protocol, {})
    _check_same(found, protocol, [(run, names[level]) for run, level in played], output)
    _check_videos(found, names.values(), output, settings)
    found.save(output, suite.score_columns())  # Fails now rather than after hours, if it fails.

    jobs = _jobs_of(found, [(run, level, names[level]) for run, level in played], output, settings)
    if jobs and settings.record_video:
      os.makedirs(os.path.join(output, 'videos'), exist_ok=True)

    def keep(job):
      """Writes the results of a level that is finished; returns a line about it."""
      found.levels[job.name] = result = job.result()
      found.save(output, suite.score_columns())
      mean = result.mean()
      return (
        f'{job.name}: mean return {mean:.2f} over {len(result.returns)} complete episodes'
        f'{suite.describe(job.name, mean)}. Finished levels: {len(found.levels)}.'
      )

    player = play.Player(suite, settings.greedy)
    exit_code = schedule.play_all(player, jobs, settings.processes, keep)
    return found, exit_code or int(bool(problems))


def _jobs_of(found, played, output, settings):
  """Returns the jobs of those of a list of (run, level, name in the results) that are left."""
  view = _view(output, settings)
  # Counted with the finished levels, so that a level is played the same when an evaluation was
  # interrupted.
  per_level = settings.processes_per_level or max(1, settings.processes // len(played))
  jobs = []
  for run, level, name in played:
    if name not in found.levels:
      shares = schedule.divide(
        run,
        level,
        per_level,
        num_episodes=settings.num_episodes,
        envs_per_process=settings.envs_per_process,
        seed=settings.seed,
        videos=view.videos(name),
      )
      jobs.append(schedule.Job(run, name, shares))

  return jobs


def _check_same(found, protocol, played, output):
  if found.protocol != protocol:
    raise ConfigurationError(
      f'The results in {output} have another protocol: '
      f'{results.differences(found.protocol, protocol)} (there and now). {_REMEDY}'
    )

  for run, name in played:
    old = found.levels.get(name)
    if old and (old.weights, old.frames) != (run.checksum, run.frames):
      raise ConfigurationError(
        f'{name} in {output} was played by another agent, {old.run or "the random policy"} after '
        f'{old.frames:_} frames, than now, {run.logdir or "the random policy"} after '
        f'{run.frames:_} frames. {_REMEDY}'
      )


def _view(output, settings):
  return View(os.path.join(output, 'videos'), settings.record_video)


def _check_videos(found, names, output, settings):
  view = _view(output, settings)
  without = sorted(
    name for name in found.levels.keys() & names if not all(map(os.path.exists, view.videos(name)))
  )
  if without:
    raise ConfigurationError(
      f'{output} has no --record_video={settings.record_video} of {", ".join(without)}, and levels '
      'that are finished are not played again. Use another --output, or leave --record_video out.'
    )
