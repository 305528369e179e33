"""Training, from a suite and a configuration to checkpoints and curves.

`train` begins and ends a run. `_make_updates` is the loop: a batch, an update, its weights
published, what is logged, what is saved.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from impala_tf import files, saved_config
from impala_tf.agent import agents
from impala_tf.config import Config, ConfigurationError
from impala_tf.config.options import import_reference
from impala_tf.environments import suite as suite_lib
from impala_tf.learning import learner as learner_lib
from impala_tf.learning import multi_device, optimizers
from impala_tf.system import locks, signals, timing
from impala_tf.training import a2c, a3c, checkpoints, impala, run_log, sources, tracking
from impala_tf.training.episodes import Episode

SOURCES: dict[str, type[sources.Source]] = {
  'impala': impala.ImpalaSource,
  'a2c_sync_step': a2c.StepSource,
  'a2c_sync_trajectories': a2c.UnrollSource,
  'a3c': a3c.A3CSource,
}


class Callback:
  """Base class of what watches or changes a run from outside of this package.

  A subclass overrides what it needs. What it changes, and what it must remember, it returns from
  `bind`, so that checkpoints hold them:

      class Halving(Callback):
        def bind(self, learner):
          self._state = tf.Module()
          self._state.rate = learner.tunable.learning_rate
          self._state.halvings = tf.Variable(0)
          return {'halving': self._state}

        def on_update(self, frames, metrics, episodes, save):
          # An update adds thousands of frames: their number may skip every million.
          if frames // 1_000_000 > self._state.halvings:
            self._state.halvings.assign_add(1)
            self._state.rate.assign(self._state.rate / 2)

      train(suite, config, logdir, callbacks=[Halving()])
  """

  def bind(self, learner: learner_lib.Learner) -> dict[str, tf.Module]:
    """Takes the learner before anything is restored.

    Returns:
      What is to be saved and restored with it, by names of its own; their variables exist.
    """
    del learner
    return {}

  def start(self, frames: int) -> None:
    """Runs before the first update, when all is restored; `frames` is the learner's counter."""

  def on_update(
    self,
    frames: int,
    metrics: learner_lib.Metrics,
    episodes: list[Episode],
    save: Callable[[], None],
  ) -> None:
    """Runs after each update, and may then change variables of the learner.

    Args:
      frames: the learner's counter after the update.
      metrics: of the update. Reading their numbers makes the learner's device wait: not each time.
      episodes: those that ended in its batch.
      save: saves a checkpoint and the episodes up to it.
    """


def train(
  suite: suite_lib.Suite,
  config: Config,
  logdir: str,
  callbacks: Sequence[Callback] = (),
  source: type[sources.Source] | None = None,
) -> int:
  """Trains until `config.total_environment_frames`, a signal, or an error.

  It resumes from the newest checkpoint in `logdir`, if there is one.

  Args:
    suite: of the levels.
    config: of the run.
    logdir: folder for configuration, checkpoints, episodes and summaries; made if missing.
    callbacks: watch or change the run, before those that `config.callbacks` names.
    source: kind of the source of batches; the one that `config.architecture` names if left out.

  Returns:
    0, or the exit code for the signal that ended the run early.

  Raises:
    ConfigurationError: if there are fewer actors than levels, settings don't go together, or
      `logdir` can't be written, holds a run of another configuration, or is another process's.
    CheckpointError: if its checkpoints can't be read or are another agent's, or one can't be
      written.
    StorageError: if another file of the run can't be written; the last checkpoint is kept.
    NonFiniteLossError: if loss or gradient became NaN or infinite; the last checkpoint is kept.
    ProcessError: if an environment can't be made.
    ActorError: if an actor failed or its process keeps dying.
  """
  source = source or SOURCES[config.architecture]
  config = suite.with_sizes(config)
  check(suite, config, source)
  names = [name for name in config.callbacks.split(',') if name]
  callbacks = [*callbacks, *(import_reference('callbacks', name)() for name in names)]
  files.prepare_folder(logdir)
  with locks.held(logdir):
    tf.random.set_seed(config.seed)
    learner = make_learner(suite, config)
    saved_config.check(logdir, config)
    checkpointer, seed = _restore(config, logdir, learner, callbacks)
    # Not before all is known to go together: the folder would be bound to what can't be trained.
    saved_config.save(logdir, config)
    # Actions, too, must not be drawn again as they were in the start before.
    tf.random.set_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))

    frames = int(learner.frames)
    with signals.Stop() as stop:
      if frames >= config.total_environment_frames:
        print(f'The agent in {logdir} already has its {frames:_} frames.', flush=True)
        source.announce_end(stop)
        return stop.exit_code

      timer = timing.StageTimer()
      with (
        source(suite, config, learner, seed) as batches,
        run_log.RunLogger(suite, config, logdir, learner, batches, timer) as logger,
      ):
        for callback in callbacks:
          callback.start(frames)

        with _saved_at_the_end(logger, checkpointer) as save:
          frames = _make_updates(config, learner, batches, logger, callbacks, timer, stop, save)
        # Only now: if the last checkpoint is missing, actors elsewhere are needed once more.
        batches.is_over = frames >= config.total_environment_frames

      print(
        f'Saved at frame {frames:_} in {logdir}.'
        f'{" The same command continues from there." if stop else ""}',
        flush=True,
      )
      return stop.exit_code


def _make_updates(config, learner, batches, logger, callbacks, timer, stop, save):
  """Learns from batches until there are no more frames to come, or it is to stop; returns how many
  there were in the end.
  """
  frames = int(learner.frames)
  next_save = time.monotonic() + config.checkpoint_interval
  while frames < config.total_environment_frames:
    with timer('wait'):
      batch = batches.next_batch(stop)
    if batch is None:  # It is to stop.
      break

    episodes = batch.episodes
    frames += config.frames_per_update
    # A second Ctrl-C may end the update when its frames are counted, and so in the checkpoint.
    logger.note(frames, episodes)
    with timer('update'):
      metrics = learner.update(batch.unrolls)
      batches.publish(metrics.updates)
    del batch  # The next one takes its memory.

    logger.log(frames, episodes, metrics)
    for callback in callbacks:
      callback.on_update(frames, metrics, episodes, save)

    if time.monotonic() >= next_save:
      save()
      next_save = time.monotonic() + config.checkpoint_interval

  return frames


def _restore(config, logdir, learner, callbacks):
  """Restores the newest checkpoint; returns a `checkpoints.Checkpointer` and this start's seed."""
  run_state = checkpoints.RunState(config.seed)
  saved = {'learner': learner, 'run': run_state}
  for callback in callbacks:
    saved |= callback.bind(learner)
  checkpointer = checkpoints.Checkpointer(logdir, config, **saved)
  if checkpointer.restore_latest():
    print(
      f'Resuming from frame {learner.frames.numpy():_}, update {learner.updates.numpy():_}.',
      flush=True,
    )
    if config.replay_fraction:
      print('The replay starts empty: its unrolls are not in checkpoints.', flush=True)

  return checkpointer, run_state.start()


@contextlib.contextmanager
def _saved_at_the_end(
  logger: run_log.RunLogger, checkpointer: checkpoints.Checkpointer
) -> Iterator[Callable[[], None]]:
  """Gives a function that saves, and saves however the run ends, where that is any good."""

  def save():
    # The episodes first: rows beyond the checkpoint are dropped by a resume, rows missing before it
    # would stay missing.
    logger.flush()
    checkpointer.save()

  try:
    yield save
  except learner_lib.NonFiniteLossError:
    # The last good checkpoint is better than one of now.
    logger.flush()
    raise
  except files.StorageError:
    # A checkpoint would stand behind episodes that are missing in their file.
    raise
  except BaseException:
    save()
    raise

  save()


def check(
  suite: suite_lib.Suite, config: Config, source: type[sources.Source] | None = None
) -> None:
  """Checks what `train` refuses before it writes anything.

  Args:
    suite, config, source: as for `train`.

  Raises:
    ConfigurationError: if something does not go together.
  """
  suite.check(config)
  tracking.check(config)
  (source or SOURCES[config.architecture]).check(suite, config)


def make_learner(suite: suite_lib.Suite, config: Config) -> learner_lib.Learner:
  """Makes a learner of a new agent, on several devices if there are to be several learners.

  Raises:
    ConfigurationError: if there are fewer devices than learners, or XLA is to compile what it
      can't.
  """
  make: Callable[..., learner_lib.Learner] = learner_lib.Learner
  scope = contextlib.nullcontext()
  if config.num_learners > 1:
    strategy = multi_device.make_strategy(config.num_learners)
    scope, make = strategy.scope(), functools.partial(multi_device.MultiDeviceLearner, strategy)

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
