"""Plays complete episodes of the levels' test versions with trained agents (Section 5.3.1: 500 episodes a level).

    python -m dmlab30.evaluate --logdir=runs/dmlab30
    python -m dmlab30.evaluate --logdir=runs/expert_1,runs/expert_2 --output=evaluations/experts --parallel_levels=8

Each agent plays what it was trained on, one level or all thirty. Several levels are played at once. The results of a level are
written when it is finished; the same command goes on with those that are not.
"""

import concurrent.futures
import dataclasses
import os
import sys
import threading
import zlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from dmlab30 import environment, levels, results, suite
from impala_tf import actors, checkpoints, evaluation, experiment, metrics, py_process, weights
from impala_tf import hparams as hparams_lib
from impala_tf.hparams import ConfigurationError, HParams

_DEFAULT_EPISODES = 500


class _Run(NamedTuple):
  """A trained agent."""

  logdir: str
  hparams: HParams
  agent: Any
  frames: int
  checksum: str


class _Job(NamedTuple):
  """A level to be played by a run's agent; `level` is the training name, `test_name` that of the results."""

  run: _Run
  level: str

  @property
  def test_name(self):
    known = levels.get(self.level)
    return known.test_name if known else self.level


def evaluate(
  logdirs, output, *, num_episodes=_DEFAULT_EPISODES, seed=1, only=(), parallel_levels=1, envs_per_level=1, changes=None
):
  """Plays the levels that `output` does not have yet, and writes there what came out.

  Args:
    logdirs: folders of trained runs; nothing in them is changed.
    output: local folder, made if missing.
    num_episodes: int, complete episodes of each level.
    seed: int, of environments and actions.
    only: names of levels to play, none for all those that the runs were trained on.
    parallel_levels: int, how many levels to play at once, each in a process of its own.
    envs_per_level: int, environments of each level.
    changes: dict of `HParams` that may differ from those of the training, such as dataset_path.

  Returns:
    `results.Evaluation` with all that `output` now has, and the exit code: 0, or that of the signal that ended it early.

  Raises:
    ConfigurationError: if a run or something that its levels need is missing, if two runs have the same level, or if `output`
      has results of another protocol or other weights.
    CheckpointError: if a run has no checkpoint that can be read.
    ProcessError: if a level can't be played. Those finished before are kept.
  """
  all_hparams = {logdir: hparams_lib.load_with(logdir, changes or {}) for logdir in logdirs}
  dmlab = suite.DMLabSuite()
  chosen = _choose(dmlab, all_hparams, only)
  protocols = []
  for logdir, names in chosen.items():
    suite.check_levels(names, all_hparams[logdir].dataset_path)
    protocols.append(_protocol(all_hparams[logdir], num_episodes, seed, envs_per_level))
    if protocols[-1] != protocols[0]:
      raise ConfigurationError(
        f'The runs need different protocols: {_differences(protocols[0], protocols[-1])}. Evaluate them separately.'
      )
  runs = [_load_run(dmlab, logdir, all_hparams[logdir]) for logdir in chosen]
  jobs = [_Job(run, level) for run in runs for level in chosen[run.logdir]]
  found = results.load(output) or results.Evaluation(protocols[0], {})
  _check_same(found, protocols[0], jobs, output)
  jobs = [job for job in jobs if job.test_name not in found.levels]
  found.save(output)  # fails now rather than after hours, if it fails

  def take(job, returns):
    run = job.run
    found.levels[job.test_name] = results.LevelResult(
      run.logdir, run.hparams.level_name, run.hparams.agent, run.frames, run.checksum, returns
    )
    found.save(output)
    print(f'{_line(job.test_name, returns)}. {len(found.levels)} levels are finished.', flush=True)

  exit_code = _play_all(_Player(dmlab, num_episodes, seed, envs_per_level), jobs, parallel_levels, take)
  return found, exit_code


def _choose(dmlab, all_hparams, only):
  """The levels that each run has to play, a dict from its folder to training names."""
  wanted = {levels.find(name) for name in only}
  chosen, owner = {}, {}
  for logdir, hparams in all_hparams.items():
    if levels.find(hparams.level_name) == levels.SUITE:
      names = dmlab.levels(hparams)
    else:
      names = (levels.find(hparams.level_name),)
    for name in names:
      if name in wanted or not wanted:
        if name in owner:
          raise ConfigurationError(f'{name} was trained in {owner[name]} and in {logdir}: evaluate these runs separately.')
        owner[name] = logdir
        chosen.setdefault(logdir, []).append(name)
  unknown = sorted(wanted - owner.keys())
  if unknown:
    raise ConfigurationError(f'No run was trained on {", ".join(unknown)}: leave it out of --levels, or add its --logdir.')
  return chosen


def _protocol(hparams, num_episodes, seed, envs_per_level):
  """All that decides what the results mean."""
  return {
    'episodes_per_level': num_episodes,
    'episodes_counted': 'complete ones; each environment plays a share fixed beforehand',
    'actions': 'sampled from the policy',
    'levels': 'test versions, held-out objects allowed',
    'mixer_seed': environment.TEST_MIXER_SEED,
    'seed': seed,
    'environments_per_level': envs_per_level,
    'num_action_repeats': hparams.num_action_repeats,
    'width': hparams.width,
    'height': hparams.height,
    'psychlab_images': {'': 'none', 'dummy': 'plain colours'}.get(hparams.dataset_path, 'Brady et al. (2008)'),
    'renderer': hparams.renderer,
    'score': 'mean over episodes, human-normalised, capped at 100, mean over levels',
  }


def _differences(a, b):
  return ', '.join(f'{name}: {a.get(name)!r} and {b.get(name)!r}' for name in a | b if a.get(name) != b.get(name))


def _load_run(dmlab, logdir, hparams):
  agent = experiment.make_agent(dmlab, hparams)
  frames = checkpoints.load_weights(logdir, agent)
  checksum = 0
  for variable in agent.trainable_variables:
    checksum = zlib.crc32(variable.numpy().tobytes(), checksum)
  return _Run(logdir, hparams, agent, frames, f'{checksum:08x}')


def _check_same(found, protocol, jobs, output):
  other = 'Use another --output for a new evaluation.'
  if found.protocol != protocol:
    raise ConfigurationError(
      f'The results in {output} came about differently: {_differences(found.protocol, protocol)} (there and now). {other}'
    )
  for job in jobs:
    old = found.levels.get(job.test_name)
    if old and (old.weights, old.frames) != (job.run.checksum, job.run.frames):
      raise ConfigurationError(
        f'{job.test_name} in {output} was played by another agent, {old.run} after {old.frames:_} frames, than now, '
        f'{job.run.logdir} after {job.run.frames:_} frames. {other}'
      )


class _Player:
  """Plays levels, each from a thread of its own."""

  def __init__(self, dmlab, num_episodes, seed, envs_per_level):
    self._suite = dmlab
    self._num_episodes = num_episodes
    self._seed = seed
    self._num_environments = min(envs_per_level, num_episodes)
    self._lock = threading.Lock()
    self._groups = set()
    self._closed = False

  def play(self, job):
    """The returns of a level, a list."""
    seed = [self._seed, zlib.crc32(job.test_name.encode())]  # the same whichever other levels are played
    hparams = job.run.hparams
    group = experiment.make_environments(
      self._suite, hparams, [job.level], self._num_environments, True, seed, metrics.StageTimer()
    )
    with self._lock:
      if self._closed:
        raise py_process.ProcessClosed('The evaluation has ended.')
      self._groups.add(group)
    try:
      with group:
        with self._lock:  # weights are put in the variables' place while functions are traced, in one thread at a time
          tf.random.set_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
          pull = weights.PublishedWeights(job.run.agent).pull
          unroller = actors.Unroller(job.run.agent, pull, group, [0], self._num_environments, hparams.unroll_length)
        return evaluation.play_episodes(unroller, 0, self._num_environments, self._num_episodes)
    except Exception as error:
      # TensorFlow reduces what happened in the process to a text among others.
      if group.error is not None:
        raise group.error from error
      raise
    finally:
      with self._lock:
        self._groups.discard(group)

  def close(self):
    """Ends all that is being played."""
    with self._lock:
      self._closed = True
      groups = list(self._groups)
    for group in groups:
      group.close()


def _play_all(player, jobs, parallel_levels, take):
  """Plays all jobs and calls take(job, returns) for each in the order in which they end; returns the exit code."""
  with experiment.Stop() as stop, concurrent.futures.ThreadPoolExecutor(parallel_levels) as pool:
    pending = {pool.submit(player.play, job): job for job in jobs}
    try:
      while pending and not stop:
        done, _ = concurrent.futures.wait(pending, timeout=1, return_when=concurrent.futures.FIRST_COMPLETED)
        # All the finished ones first, so that an error of one doesn't cost another.
        for future in sorted(done, key=lambda future: future.exception() is not None):
          take(pending[future], future.result())
          del pending[future]
    finally:
      player.close()  # what has not started ends at once, too
  return stop.exit_code


def _line(name, returns):
  level = levels.get(name)
  score = f', {level.human_normalised(np.mean(returns)):.1f}% human-normalised' if level else ''
  return f'{name}: mean return {np.mean(returns):.2f} over {len(returns)} complete episodes{score}'


def summary(found):
  """The suite's score, or why there is none, as text."""
  missing = [level.test_name for level in levels.all_levels() if level.test_name not in found.levels]
  if missing:
    return f'No score of DMLab-30 yet, it lacks {len(missing)} of 30 levels: {", ".join(missing)}.'
  scores = [levels.mean_score(found.returns(), cap=100, references=references) for references in levels.REFERENCES]
  return (
    f"Mean capped human-normalised score: {scores[0]:.1f}% (lasertag's references as in the paper; {scores[1]:.1f}% as in the "
    "authors' code)."
  )


def _define_flags():
  flags.DEFINE_list('logdir', None, 'folders of trained runs, separated by commas', required=True)
  flags.DEFINE_string('output', None, 'folder of the results (default: `evaluation` in the logdir, if that is only one)')
  flags.DEFINE_integer('episodes', _DEFAULT_EPISODES, 'complete episodes of each level', lower_bound=1)
  flags.DEFINE_list('levels', [], 'levels to play (default: all that the runs were trained on)')
  flags.DEFINE_integer('seed', 1, 'of environments and actions', lower_bound=0)
  flags.DEFINE_integer('parallel_levels', os.cpu_count() or 1, 'levels to play at once, a process each', lower_bound=1)
  flags.DEFINE_integer('envs_per_level', 1, 'environments of each level, in its process', lower_bound=1)
  for name in ('dataset_path', 'level_cache_dir', 'renderer'):
    help_ = next(field.metadata['help'] for field in dataclasses.fields(HParams) if field.name == name)
    flags.DEFINE_string(name, None, f"{help_} (default: the run's)")


def main(argv):
  """Evaluates as the flags say; returns the exit code."""
  if len(argv) > 1:
    raise app.UsageError(f'Not a flag: {argv[1]!r}.')
  values = flags.FLAGS
  logging.set_verbosity(logging.WARNING)
  experiment.configure_threads(values.parallel_levels)
  changes = {name: values[name].value for name in ('dataset_path', 'level_cache_dir', 'renderer')}
  try:
    found, exit_code = evaluate(
      values.logdir,
      values.output or _default_output(values.logdir),
      num_episodes=values.episodes,
      seed=values.seed,
      only=values.levels,
      parallel_levels=values.parallel_levels,
      envs_per_level=values.envs_per_level,
      changes={name: value for name, value in changes.items() if value is not None},
    )
  except (ConfigurationError, checkpoints.CheckpointError, py_process.ProcessError, OSError) as error:
    print(f'Error: {error}', file=sys.stderr)
    return 1
  print(summary(found), flush=True)
  return exit_code


def _default_output(logdirs):
  if len(logdirs) > 1 or '://' in logdirs[0]:
    runs = 'several runs' if len(logdirs) > 1 else 'a remote run'
    raise ConfigurationError(f'--output is missing: name a local folder for the results of {runs}.')
  return os.path.join(logdirs[0], 'evaluation')


if __name__ == '__main__':
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  _define_flags()
  app.run(main)
