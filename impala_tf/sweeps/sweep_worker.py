"""Works on the trials of a sweep: starts their runs, watches them, and tells the study what became
of them.
"""

import dataclasses
import os
import subprocess
import time

from impala_tf import config_flags, processes, saved_config
from impala_tf.config import ConfigurationError
from impala_tf.reports import final_return, tables
from impala_tf.sweeps import hparams_dashboard
from impala_tf.training import episode_log

_POLL_SECONDS = 0.5
_REPORTS = 20  # A trial's return is compared with the others' at each twentieth of its frames.
_MAX_KILLS = 3
_STOP_SECONDS = 120


class RefusedError(ConfigurationError):
  """A trial was refused before it trained, as all others of its sweep would be."""


class Worker:
  """Works on the trials of a study, several at a time, until none is left."""

  def __init__(
    self, study, logdir, given, *, parallel, heartbeat_seconds, prune=False, runner='run_experiment'
  ):
    """Describes the work.

    Args:
      study: `study.Study`.
      logdir: folder of the sweep.
      given: dict of fixed hyper-parameters.
      parallel: int, how many trials at a time.
      heartbeat_seconds: int, as of the study.
      prune: whether to end trials that are worse than the others.
      runner: what trains, as for `processes.command`.
    """
    self._study = study
    self._logdir = logdir
    self._given = given
    self._parallel = parallel
    self._heartbeat_seconds = heartbeat_seconds
    self._prune = prune
    self._runner = runner
    self._processes = {}  # By Trial; None until its folder is free.
    self._reported = {}  # By Trial, how many twentieths.
    self._to_prune = set()

  def run(self, stop):
    """Works until all trials have ended, here or elsewhere, or `stop` is true.

    Args:
      stop: `signals.Stop` or anything with a truth value.

    Raises:
      RefusedError: if a trial is refused before it trains.
    """
    next_beat = 0.0
    try:
      while not stop:
        if time.monotonic() >= next_beat:
          next_beat = time.monotonic() + self._heartbeat_seconds
          self._give_up(self._study.beat(list(self._processes)))
          self._look_for_bad_ones()
        self._conclude()
        self._start()
        if not self._processes and not any(
          trial.state in ('waiting', 'running') for trial in self._study.trials()
        ):
          return
        time.sleep(_POLL_SECONDS)
    finally:
      self._stop_all()

  def _start(self):
    while len(self._processes) < self._parallel and (trial := self._study.claim()) is not None:
      self._processes[trial] = None
    for trial, process in self._processes.items():
      if process is None:
        logdir = self._folder(trial)
        arguments = config_flags.arguments(self._given | trial.hyper_parameters)
        try:
          self._processes[trial] = processes.RunProcess(self._runner, arguments, logdir)
        except processes.FolderBusyError:
          continue  # What is left of a worker that was killed is still saving.
        hparams_dashboard.write_trial(logdir, dataclasses.replace(trial, state='running'), 0, None)
        print(
          f'{trial.name} runs: {", ".join(f"{name}={describe(trial, name)}" for name in trial.hyper_parameters)}',
          flush=True,
        )

  def _conclude(self):
    for trial, process in list(self._processes.items()):
      code = process.poll() if process else None
      if code is None:
        continue
      del self._processes[trial]
      value = final_return.read(process.logdir)
      if code and trial in self._to_prune:
        self._note(trial, 'pruned', value)
        self._study.prune(trial, value)
      elif code == 0 and value is not None:
        self._note(trial, 'finished', value)
        self._study.finish(trial, value)
      elif processes.ended_by_signal(code) and trial.kills < _MAX_KILLS:
        print(f'{trial.name} was killed (exit code {code}) and will be taken up again.', flush=True)
        self._study.release(trial, was_killed=True)
      elif saved_config.load(process.logdir) is None:
        self._study.release(trial)
        raise RefusedError(f'{trial.name} was refused:\n{process.last_lines()}')
      else:
        self._note(trial, 'failed', value)
        self._study.fail(
          trial, process.last_lines() if code else 'It ended before an episode of each level did.'
        )

  def _note(self, trial, state, value):
    """Tells of the end of a trial.

    Before the study is told, which is the last that happens to a trial.
    """
    hparams_dashboard.write_trial(
      self._folder(trial),
      dataclasses.replace(trial, state=state),
      frames_of(self._folder(trial)),
      value,
    )
    print(
      f'{trial.name} {state}: {"no" if value is None else f"{value:.4g}"} final return', flush=True
    )

  def _look_for_bad_ones(self):
    """Reports to the pruner how far trials have come, and stops those that it finds bad."""
    for trial, process in self._processes.items() if self._prune else ():
      config = saved_config.load(self._folder(trial))
      if process is None or config is None:
        continue
      frames = frames_of(process.logdir)
      while (
        step := self._reported.get(trial, 0) + 1
      ) * config.total_environment_frames <= _REPORTS * frames:
        self._reported[trial] = step
        value = final_return.read(
          process.logdir, step * config.total_environment_frames // _REPORTS
        )
        if value is not None and step < _REPORTS and self._study.should_prune(trial, step, value):
          print(f'{trial.name} is pruned at {step}/{_REPORTS} of its frames.', flush=True)
          self._to_prune.add(trial)
          process.stop()
          break

  def _give_up(self, lost):
    """Ends the runs of trials that another worker has taken over, believing this one dead."""
    for trial in lost:
      process = self._processes.pop(trial)
      if process is not None:
        process.stop()

  def _stop_all(self):
    for process in self._processes.values():
      if process is not None:
        process.stop()
    for trial, process in self._processes.items():
      if process is not None:
        try:
          process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
          continue  # It holds the lock of its folder until it is done.
      self._study.release(trial)
    self._processes = {}

  def _folder(self, trial):
    return os.path.join(self._logdir, trial.name)


def frames_of(logdir):
  """The frames after which the last episode of a run ended, an int."""
  rows = episode_log.read(logdir)
  return rows[-1].frames if rows else 0


def describe(trial, name):
  """A hyper-parameter of a trial as text that fits in a table."""
  value = trial.hyper_parameters[name]
  return 'none' if value is None else tables.short(value)
