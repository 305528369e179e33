"""Works on the trials of a sweep: starts their runs, watches them, and records what became of
them.
"""

import contextlib
import dataclasses
import functools
import os
import time
from typing import Any

from impala_tf import cli, saved_config
from impala_tf.cli import config_flags
from impala_tf.config import ConfigurationError
from impala_tf.errors import FileError
from impala_tf.reports import final_return, live
from impala_tf.sweeps import definition, report
from impala_tf.sweeps.definition import Sweep
from impala_tf.sweeps.study import Claim, Study
from impala_tf.system import locks, machine, processes, quiet, signals

_POLL_SECONDS = 1.0  # Each time, all trials that are trained elsewhere are looked at.
_PRUNE_SECONDS = 20
_STEPS = 20  # A trial's return is compared with the others' at each twentieth of its frames.


class RefusedError(ConfigurationError):
  """A trial was refused before it trained, as all others of its sweep would be."""


class Worker:
  """Works on the trials of a study, several at a time, until none is left."""

  def __init__(
    self,
    study: Study,
    logdir: str,
    given: dict[str, Any],
    *,
    parallel: int,
    prune: bool = False,
    runner: str = processes.MAIN_MODULE,
  ):
    """Describes the work.

    Args:
      study: the trials.
      logdir: folder of the sweep.
      given: fixed hyper-parameters.
      parallel: how many trials to train at a time.
      prune: whether to end trials that are worse than the others.
      runner: what trains, as for `processes.Child`.
    """
    self._study = study
    self._logdir = logdir
    self._given = given
    self._parallel = parallel
    self._prune = prune
    self._runner = runner
    self._lines = live.LiveLines()
    self._claims: dict[str, Claim] = {}  # Of the trials that are trained here, by their names.
    self._shares: dict[str, int] = {}  # Which share of the cores each of them has.

  def run(self, stop: Any) -> None:
    """Works until all trials have ended, here or elsewhere, or `stop` is true.

    Args:
      stop: `signals.Stop` or anything with a truth value.

    Raises:
      RefusedError: if a trial is refused before it trains.
    """
    next_comparison = 0.0
    try:
      # A run that was killed is not restarted here: its trial waits until all that is left of the
      # run has ended, and the first worker that is free then claims it.
      with processes.Supervisor(stop, restart=False) as children:
        while not stop:
          for ended in children.poll():
            del self._shares[ended.name]
            self._record(self._claims.pop(ended.name), ended)
          self._start_runs(children)
          if not self._claims and all(trial.has_ended for trial in self._study.trials()):
            return

          if self._prune and time.monotonic() >= next_comparison:
            next_comparison = time.monotonic() + _PRUNE_SECONDS
            self._stop_bad_ones(children)
          self._lines.show({name: self._folder(c.trial) for name, c in self._claims.items()})
          time.sleep(_POLL_SECONDS)
    finally:
      for claim in self._claims.values():
        claim.release()

  def _start_runs(self, children):
    while len(self._claims) < self._parallel and (claim := self._study.claim()) is not None:
      trial = claim.trial
      # Side by side each is as large as its share of the machine.
      share = min({*range(self._parallel)} - {*self._shares.values()})
      self._shares[trial.name] = share
      folder = self._folder(trial)
      given = self._given | trial.hyper_parameters
      # Of the last trials of a sweep there are fewer.
      left = sum(not trial.has_ended for trial in self._study.trials())
      environment = machine.environment_of_share(
        share, max(1, min(self._parallel, left)), given.get('num_learners', 1)
      )
      arguments = config_flags.arguments(given)
      start = functools.partial(
        processes.RunProcess, self._runner, arguments, folder, claim.lock, environment
      )
      self._claims[trial.name] = claim
      children.start(trial.name, start, trial.kills)

      _dashboard().write_trial(folder, trial, 0, None)
      values = ', '.join(
        f'{name}={report.value_of(trial, name)}' for name in trial.hyper_parameters
      )
      self._lines.print(f'{trial.name} runs: {values}')

  def _record(self, claim, ended):
    """Records the end of a run."""
    trial = claim.trial
    folder = self._folder(trial)
    value, is_known, damage = None, True, ''
    try:
      value = final_return.read(folder)
      is_known = saved_config.load(folder) is not None
    except FileError as error:  # It costs this trial, and no other one.
      damage = str(error)

    if ended.code == 0 and value is not None and not damage:
      self._announce(trial, 'finished', value)
      claim.finish(value)
    elif ended.code and claim.is_bad:
      self._announce(trial, 'pruned', value)
      claim.prune(value)
    elif signals.ended_by_signal(ended.code) and ended.kills < processes.MAX_KILLS:
      killer = signals.name_of(ended.code)
      self._lines.print(f'{trial.name} was killed by {killer} and will be resumed.')
      claim.release(ended.kills)
    elif not is_known:
      claim.release()
      raise RefusedError(f'{trial.name} was refused:\n{ended.message}')
    else:
      self._announce(trial, 'failed', value)
      message = ended.message if ended.code else 'It ended before an episode of each level did.'
      claim.fail(damage or message)

  def _announce(self, trial, state, value):
    """Reports the end of a trial; before it is recorded, after which nobody would report it."""
    folder = self._folder(trial)
    ended = dataclasses.replace(trial, state=state)
    # Of files that are damaged nobody knows how many frames there were.
    _dashboard().write_trial(folder, ended, report.frames_of(folder) or 0, value)
    final = 'no' if value is None else f'{value:.4g}'
    self._lines.print(f'{trial.name} {state}: {final} final return')

  def _stop_bad_ones(self, children):
    """Compares trials with the others at each step that they have come to, and stops bad ones."""
    for name, claim in self._claims.items():
      # One whose files are damaged fails when it ends.
      with contextlib.suppress(FileError):
        self._stop_bad_one(children, name, claim)

  def _stop_bad_one(self, children, name, claim):
    folder = self._folder(claim.trial)
    config = saved_config.load(folder)
    if config is None or claim.is_bad:
      return

    steps = (report.frames_of(folder) or 0) * _STEPS // config.total_environment_frames
    for step in range(claim.steps + 1, min(steps + 1, _STEPS)):
      value = final_return.read(folder, step * config.total_environment_frames // _STEPS)
      if claim.should_prune(step, value):
        self._lines.print(f'{name} is pruned at {step}/{_STEPS} of its frames.')
        children.stop(name)
        break

  def _folder(self, trial):
    return os.path.join(self._logdir, trial.name)


def _dashboard():
  quiet.load_tensorflow()  # After what might be refused.
  from impala_tf.sweeps import dashboard

  return dashboard


def run(
  logdir: str,
  sweep: Sweep,
  *,
  parallel: int = 1,
  prune: bool = False,
  retry_failed: bool = False,
  runner: str = processes.MAIN_MODULE,
) -> int:
  """Starts a sweep, resumes it, or joins those who work on it; at its end writes the report.

  Args:
    logdir: folder of the sweep, made if missing.
    sweep: its definition.
    parallel, prune, runner: as for `Worker`.
    retry_failed: whether trials that failed are tried again.

  Returns:
    0; 1 if a trial failed; or the exit code that says which signal ended it early.

  Raises:
    ConfigurationError: if another sweep is in `logdir`.
    RefusedError: if its trials are refused.
  """
  cli.check_local(logdir)
  os.makedirs(logdir, exist_ok=True)
  locks.check_supported(logdir)
  study = Study(logdir, sweep, prune)
  definition.check_or_save(logdir, sweep)
  _dashboard().write_space(logdir, sweep.space)
  if retry_failed:
    study.retry_failed()

  worker = Worker(study, logdir, sweep.given, parallel=parallel, prune=prune, runner=runner)
  with signals.Stop() as stop:
    worker.run(stop)
  if stop:
    return stop.exit_code

  trials = study.trials()
  print(report.status(logdir, trials), flush=True)
  report.write({cli.last_part(logdir): (logdir, trials)}, os.path.join(logdir, 'report'))
  return int(any(trial.state == 'failed' for trial in trials))
