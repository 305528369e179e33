"""Training, from a suite and hyper-parameters to checkpoints and curves."""

import contextlib
import functools
import time
from typing import Protocol

import numpy as np
import tensorflow as tf
from absl import logging

from impala_tf import files, locks, saved_config, signals
from impala_tf.agent import agents
from impala_tf.cluster import cluster_learner
from impala_tf.config import ConfigurationError
from impala_tf.learning import learner as learner_lib
from impala_tf.learning import multi_device, optimizers
from impala_tf.reports import final_return
from impala_tf.training import architectures, checkpoints, episode_log, metrics, progress


class Callback(Protocol):
  """Changes a learner while it learns, such as a member of a population does."""

  def bind(self, learner):
    """Returns what is to be saved and restored with the learner: `tf.Module`s by name, whose
    variables exist.
    """

  def start(self, frames):
    """Called before the first update, when all is restored; `frames` is the learner's counter."""

  def on_update(self, frames, episodes, save):
    """Called after each update, and may then change variables of the learner.

    Args:
      frames: int, the learner's counter after it.
      episodes: a list of `metrics.Episode`, those that ended in its batch.
      save: a function that saves a checkpoint and the episodes up to it.
    """


def train(suite, config, logdir, controller=None, in_cluster=False):
  """Trains until `config.total_environment_frames`, a signal, or an error, going on from the newest
  checkpoint in `logdir`.

  Args:
    suite: an `suite.Suite`.
    config: `config.Config`.
    logdir: folder for configuration, checkpoints, episodes and summaries; made if missing.
    controller: a `Callback`, None for an ordinary run.
    in_cluster: whether this process is the learner of a cluster, whose actors are other processes;
      see `connection.connect`.

  Returns:
    0, or the exit code that tells which signal ended the run early.

  Raises:
    ConfigurationError: if there are fewer actors than levels, hyper-parameters don't go together,
      or `logdir` can't be written, holds a run of another configuration, or is another process's.
    CheckpointError: if its checkpoints can't be read or are another agent's, or one can't be
      written.
    StorageError: if another file of the run can't be written; the last checkpoint is kept as it
      was.
    NonFiniteLossError: if loss or gradient became NaN or infinite; the last checkpoint is kept as
      it was.
    ProcessError: if an environment can't be made.
    ActorError: if an actor failed or its process keeps dying.
  """
  check(suite, config, in_cluster)
  checkpoints.prepare_logdir(logdir)
  with locks.held(logdir):
    return _train(suite, config, logdir, controller, in_cluster)


def check(suite, config, in_cluster=False):
  """Raises `config.ConfigurationError` for what `train` refuses, with the same arguments, before it
  writes anything.
  """
  suite.check(config)
  architectures.check(config, in_cluster)
  if not in_cluster:
    _check_actors(suite.levels(config), config)


def _train(suite, config, logdir, controller, in_cluster):
  tf.random.set_seed(config.seed)
  learner = make_learner(suite, config)
  # Not before all is known to go together: the folder would be bound to what can't be trained.
  saved_config.check_or_save(logdir, config)
  run_state = checkpoints.RunState(config.seed)
  controlled = controller.bind(learner) if controller else {}
  checkpointer = checkpoints.Checkpointer(logdir, learner=learner, run=run_state, **controlled)
  if checkpointer.restore_latest():
    print(
      f'Going on from frame {learner.frames.numpy():_}, update {learner.updates.numpy():_}.',
      flush=True,
    )
    if config.replay_fraction:
      print('The replay starts empty: its unrolls are not in checkpoints.', flush=True)
  seed = run_state.start()
  # Actions, too, must not be drawn again as they were in the start before.
  tf.random.set_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))

  with signals.Stop() as stop:
    if learner.frames < config.total_environment_frames:
      with (
        architectures.make(
          suite, config, learner.agent, seed, int(learner.updates), in_cluster
        ) as arrangement,
        Report(suite, config, logdir, learner) as report,
      ):
        if controller:
          controller.start(int(learner.frames))
        _run(config, learner, checkpointer, arrangement, report, stop, controller)
      where = f'frame {learner.frames.numpy():_} in {logdir}'
      print(f'Saved at {where}.{" The same command goes on there." if stop else ""}', flush=True)
    else:
      print(f'The agent in {logdir} already has its {learner.frames.numpy():_} frames.', flush=True)
      if in_cluster:
        cluster_learner.dismiss(stop)
  return stop.exit_code


def _check_actors(levels, config):
  """Raises ConfigurationError if a level would never be played, and warns if some are played more,
  or batches hold few.
  """
  if config.num_actors < len(levels):
    raise ConfigurationError(
      f'num_actors={config.num_actors} ({config.level_name} has {len(levels)} levels, each with actors of its own) must be '
      f'at least {len(levels)}, or some levels would never be played. Change --num_actors.'
    )
  if config.num_actors % len(levels):
    logging.warning(
      'The %d actors are no multiple of the %d levels of %s: some levels are played more often than others. Better give '
      '--num_actors=%d.',
      config.num_actors,
      len(levels),
      config.level_name,
      config.num_actors - config.num_actors % len(levels),
    )
  num_environments = config.num_actors * config.envs_per_actor
  if num_environments < config.fresh_per_batch:
    logging.warning(
      'A batch of %d new unrolls will hold several in a row of the same environment, as there are only %d environments. More '
      'of them (--num_actors, --envs_per_actor) make batches more diverse.',
      config.fresh_per_batch,
      num_environments,
    )


def make_learner(suite, config):
  """A `learner.Learner` of a new agent, or a `multi_device.MultiDeviceLearner` if there are to be
  several.

  Args:
    suite: `suite.Suite`.
    config: `config.Config`.

  Raises:
    ConfigurationError: if XLA is to compile what it can't.
  """
  if config.num_learners > 1:
    strategy = multi_device.make_strategy(config.num_learners)
    scope, make = strategy.scope(), functools.partial(multi_device.MultiDeviceLearner, strategy)
  else:
    scope, make = contextlib.nullcontext(), learner_lib.Learner
  with scope:
    agent = agents.for_suite(suite, config)
    optimizer = optimizers.RMSProp(
      agent.trainable_variables, decay=config.decay, momentum=config.momentum
    )
  if config.jit_compile and agent.instruction_encoder:
    raise ConfigurationError(
      f'jit_compile: XLA knows no strings, and {config.level_name} has instructions. Leave it out.'
    )
  return make(agent, optimizer, config)


def _run(config, learner, checkpointer, arrangement, report, stop, controller):
  """The learner's loop."""

  def save():
    # The episodes first: rows beyond the checkpoint are dropped by a resume, rows missing before it
    # would stay missing.
    report.flush()
    checkpointer.save()

  next_save = time.monotonic() + config.checkpoint_interval
  try:
    for frames, episodes, update in arrangement.updates(learner, stop):
      report.add(frames, episodes, update, arrangement)
      if controller:
        controller.on_update(frames, episodes, save)
      if time.monotonic() >= next_save:
        save()
        next_save = time.monotonic() + config.checkpoint_interval
  except learner_lib.NonFiniteLossError:
    report.flush()
    raise
  except files.StorageError:
    raise  # Without a checkpoint, which would stand behind episodes that are missing in their file.
  except BaseException:
    save()
    raise
  save()


class Report:
  """Tells how a training goes: the running line, TensorBoard, and the CSV of episodes."""

  def __init__(self, suite, config, logdir, learner):
    """Opens the files; rows of episodes after the learner's frames are dropped, as they will be
    played again.
    """
    self._config = config
    self._logdir = logdir
    frames, updates = int(learner.frames), int(learner.updates)
    self._levels = suite.levels(config)
    self._episodes = episode_log.EpisodeLog(logdir, self._levels, config.num_action_repeats, frames)
    self._statistics = metrics.EpisodeStatistics(
      row.episode_return for row in episode_log.read(logdir)
    )
    self._scores = None
    if len(self._levels) > 1:
      self._scores = metrics.LevelScores(self._levels, suite.scores)
      final_return.expect_scores(logdir)
    self._latest_scores = None
    self._summaries = metrics.Summaries(logdir, self._levels, config.num_action_repeats)
    self._line = progress.ProgressLine(config.total_environment_frames, frames, updates)
    self._shares = None
    self._last_summary = (time.monotonic(), frames)

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self._line.close()
    self.flush()
    self._summaries.close()

  def flush(self):
    """Writes to the file of episodes what it lacks."""
    self._episodes.flush()

  def add(self, frames, episodes, update, arrangement):
    """Takes note of an update.

    Args:
      frames: int, the learner's counter after it.
      episodes: a list of `metrics.Episode`, those that ended in its batch.
      update: `learner.Metrics`; looked at only now and then, as fetching them makes the learner's
        device wait.
      arrangement: `arrangement.Learning`.
    """
    self._statistics.add(episodes)
    self._episodes.add(frames, episodes)
    self._summaries.write_episodes(frames, episodes)
    self._add_to_scores(frames, episodes)
    if self._shares is None:
      self._shares = {
        'learner': arrangement.learner_timer.reader(),
        'actors': arrangement.actor_shares(),
      }
    finished = frames >= self._config.total_environment_frames
    if self._line.due() or finished:
      self._line.show(
        frames,
        int(update.updates),
        mean_return=self._statistics.mean_return(),
        scores=self._latest_scores,
        lag=float(update.lag_mean),
        queue=arrangement.queue_fill(),
        restarts=arrangement.restarts,
        connected=arrangement.connected,
        shares={group: shares() for group, shares in self._shares.items()},
      )
    then, frames_then = self._last_summary
    now = time.monotonic()
    if now - then >= self._config.summary_interval or finished:
      self._last_summary = (now, frames)
      self._summaries.write(
        frames,
        {
          **{
            f'learner/{name}': value for name, value in update._asdict().items() if name != 'frames'
          },
          'episode_return_mean_of_last_100': self._statistics.mean_return(),
          'frames_per_second': (frames - frames_then) / (now - then),
          'environments/restarts': arrangement.restarts,
          'cluster/connected_actors': arrangement.connected,
          **arrangement.statistics(),
        },
      )
      self.flush()

  def _add_to_scores(self, frames, episodes):
    scores = self._scores.add(episodes) if self._scores else None
    if scores:
      self._latest_scores = scores
      self._summaries.write(frames, scores)
      final_return.note_score(self._logdir, frames, *next(iter(scores.items())))
