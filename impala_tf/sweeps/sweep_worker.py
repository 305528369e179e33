"""Works on the trials of a sweep: starts their runs, watches them, and records what became of
them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import time
from typing import Any

from impala_tf import config_flags, processes, saved_config
from impala_tf.config import ConfigurationError
from impala_tf.reports import final_return, tables
from impala_tf.sweeps import hparams_dashboard
from impala_tf.sweeps.study import Claim, Study, Trial
from impala_tf.training import episode_log

_POLL_SECONDS = 0.5
_PRUNE_SECONDS = 20
_REPORTS = 20  # A trial's return is compared with the others' at each twentieth of its frames.
_MAX_KILLS = 3
_STOP_SECONDS = 120


class RefusedError(ConfigurationError):
  """A trial was refused before it trained, as all others of its sweep would be."""


@dataclasses.dataclass(eq=False)
class _Run:
  """A trial that is trained here; `is_bad` once it is stopped for being worse than the others."""

  claim: Claim
  process: processes.RunProcess
  is_bad: bool = False


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
    runner: str = processes.RUN_EXPERIMENT,
  ):
    """Describes the work.

    Args:
      study: the trials.
      logdir: folder of the sweep.
      given: fixed hyper-parameters.
      parallel: how many trials to train at a time.
      prune: whether to end trials that are worse than the others.
      runner: what trains, as for `processes.command`.
    """
    self._study = study
    self._logdir = logdir
    self._given = given
    self._parallel = parallel
    self._prune = prune
    self._runner = runner
    self._runs: list[_Run] = []

  def run(self, stop: Any) -> None:
    """Works until all trials have ended, here or elsewhere, or `stop` is true.

    Args:
      stop: `signals.Stop` or anything with a truth value.

    Raises:
      RefusedError: if a trial is refused before it trains.
    """
    next_comparison = 0.0
    try:
      while not stop:
        self._record_ends()
        self._start()
        if not self._runs and all(trial.has_ended for trial in self._study.trials()):
          return

        if self._prune and time.monotonic() >= next_comparison:
          next_comparison = time.monotonic() + _PRUNE_SECONDS
          self._stop_bad_ones()
        time.sleep(_POLL_SECONDS)
    finally:
      self._stop_all()

  def _start(self):
    while len(self._runs) < self._parallel and (claim := self._study.claim()) is not None:
      trial = claim.trial
      folder = self._folder(trial)
      arguments = config_flags.arguments(self._given | trial.hyper_parameters)
      process = processes.RunProcess(self._runner, arguments, folder, claim.lock)
      self._runs.append(_Run(claim, process))

      hparams_dashboard.write_trial(folder, trial, 0, None)
      values = ', '.join(f'{name}={describe(trial, name)}' for name in trial.hyper_parameters)
      print(f'{trial.name} runs: {values}', flush=True)

  def _record_ends(self):
    for run in list(self._runs):
      code = run.process.poll()
      if code is not None:
        self._runs.remove(run)
        self._record_end(run, code)

  def _record_end(self, run, code):
    claim, trial = run.claim, run.claim.trial
    value = final_return.read(run.process.logdir)

    if code and run.is_bad:
      self._announce(trial, 'pruned', value)
      claim.prune(value)
    elif code == 0 and value is not None:
      self._announce(trial, 'finished', value)
      claim.finish(value)
    elif processes.ended_by_signal(code) and trial.kills < _MAX_KILLS:
      print(f'{trial.name} was killed (exit code {code}) and will be resumed.', flush=True)
      claim.release(was_killed=True)
    elif saved_config.load(run.process.logdir) is None:
      claim.release()
      raise RefusedError(f'{trial.name} was refused:\n{run.process.last_lines()}')
    else:
      self._announce(trial, 'failed', value)
      no_return = 'It ended before an episode of each level did.'
      claim.fail(run.process.last_lines() if code else no_return)

  def _announce(self, trial, state, value):
    """Reports the end of a trial; before it is recorded, after which nobody would report it."""
    folder = self._folder(trial)
    ended = dataclasses.replace(trial, state=state)
    hparams_dashboard.write_trial(folder, ended, frames_of(folder), value)
    print(
      f'{trial.name} {state}: {"no" if value is None else f"{value:.4g}"} final return', flush=True
    )

  def _stop_bad_ones(self):
    """Compares trials with the others at each step that they have come to, and stops bad ones."""
    for run in self._runs:
      trial, claim, logdir = run.claim.trial, run.claim, run.process.logdir
      config = saved_config.load(logdir)
      if config is None or run.is_bad:
        continue

      steps = frames_of(logdir) * _REPORTS // config.total_environment_frames
      for step in range(claim.steps + 1, min(steps + 1, _REPORTS)):
        value = final_return.read(logdir, step * config.total_environment_frames // _REPORTS)
        if claim.should_prune(step, value):
          print(f'{trial.name} is pruned at {step}/{_REPORTS} of its frames.', flush=True)
          run.is_bad = True
          run.process.stop()
          break

  def _stop_all(self):
    for run in self._runs:
      run.process.stop()
    for run in self._runs:
      # A run that takes longer keeps the lock of its folder until it has saved.
      with contextlib.suppress(subprocess.TimeoutExpired):
        run.process.wait(_STOP_SECONDS)
      run.claim.release()
    self._runs = []

  def _folder(self, trial):
    return os.path.join(self._logdir, trial.name)


def frames_of(logdir: str) -> int:
  """Returns the frames after which the last episode of a run ended."""
  rows = episode_log.read(logdir)
  return rows[-1].frames if rows else 0


def describe(trial: Trial, name: str) -> str:
  """Returns a hyper-parameter of a trial as text that fits in a table."""
  value = trial.hyper_parameters[name]
  return 'none' if value is None else tables.short(value)
