"""The trials of a sweep and who works on them, kept by Optuna so that several processes or machines
share them.

Optuna stores; it never samples here: the trials are drawn once (`search_space.draw`) and each has a
number and a folder of its own. Only its database storage has heartbeats, by which a worker that was
killed is told from one that is busy, so the journal in a plain file is not used. SQLite serves the
processes of one machine; machines share a server such as PostgreSQL.
"""

import contextlib
import dataclasses
import fcntl
import os
import re
import uuid
import warnings
from typing import Any

import optuna
from optuna.trial import TrialState

from impala_tf import files
from impala_tf.config import ConfigurationError
from impala_tf.sweeps.search_space import Categorical, LogUniform

_MISSED_HEARTBEATS = 3  # after which a worker counts as dead
_OWN_NAME = 'sweep'  # of the study in a database of its own
_NAME_FILE = '.study_name'
_NUMBER = 'number'
_KILLS = 'kills'
_MESSAGE = 'message'
_NAMES = {
  TrialState.WAITING: 'waiting',
  TrialState.RUNNING: 'running',
  TrialState.COMPLETE: 'finished',
  TrialState.FAIL: 'failed',
  TrialState.PRUNED: 'pruned',
}


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
  """One of the sweep's trials.

  number: int, from 0. name: of its folder.
  hyper_parameters: dict of what was drawn for it.
  state: 'waiting', 'running', 'finished', 'failed' or 'pruned'.
  value: final return, None if it has none yet.
  message: str, why it failed; empty if it did not.
  kills: int, how often its process was killed.
  attempt: Optuna's number, another one whenever the trial is taken up again.
  """

  number: int
  hyper_parameters: dict[str, Any]
  state: str
  value: float | None
  message: str
  kills: int
  attempt: int

  @property
  def name(self):
    """Of its folder."""
    return f'trial_{self.number:03d}'


class Study:
  """The trials of one sweep."""

  def __init__(self, logdir, storage_url, heartbeat_seconds, prune=False):
    """Opens the study of a sweep, or makes it.

    Args:
      logdir: existing folder of the sweep, on this machine or a shared file system.
      storage_url: database, as SQLAlchemy writes it; empty for an SQLite file in `logdir`.
      heartbeat_seconds: int, at most so long between two calls of `beat`.
      prune: whether `should_prune` may say yes.

    Raises:
      ConfigurationError: if the database can't be opened, or the folder's file system has no locks.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Heartbeats are "experimental" to Optuna since version 2; ours is pinned.
    warnings.filterwarnings('ignore', category=optuna.exceptions.ExperimentalWarning)
    self._lock_path = os.path.join(logdir, '.study_lock')
    url = storage_url or f'sqlite:///{os.path.abspath(os.path.join(logdir, "study.db"))}'
    pruner = optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner()
    with self._alone():
      name = _name_of(logdir) if storage_url else _OWN_NAME
      try:
        self._storage = optuna.storages.RDBStorage(
          url,
          engine_kwargs={'connect_args': {'timeout': 60}} if url.startswith('sqlite') else {},
          heartbeat_interval=heartbeat_seconds,
          grace_period=_MISSED_HEARTBEATS * heartbeat_seconds,
        )
        self._study = optuna.create_study(
          study_name=name,
          storage=self._storage,
          direction='maximize',
          load_if_exists=True,
          pruner=pruner,
        )
        self._study_id = self._storage.get_study_id_from_name(name)
      except Exception as error:  # SQLAlchemy, its drivers and Optuna have no common type.
        raise ConfigurationError(
          f"Can't open the study in {without_password(url)}: {error} Give another --storage."
        ) from error

  def add_missing(self, space, samples):
    """Adds the trials that are not there yet, in the order of their numbers.

    Args:
      space: dict from fields to distributions of `search_space`.
      samples: list of dicts, as `search_space.draw` makes them.
    """
    distributions = {name: _for_optuna(distribution) for name, distribution in space.items()}
    with self._alone():
      there = {trial.number for trial in self.trials()}
      for number, sample in enumerate(samples):
        if number not in there:
          self._add(sample, distributions, {_NUMBER: number})

  def trials(self):
    """A list of Trial by their numbers, as they are now."""
    newest = {}
    for frozen in self._study.get_trials(deepcopy=False):
      # A trial that is taken up again is a new one to Optuna.
      newest[frozen.user_attrs[_NUMBER]] = _trial(frozen)
    return [newest[number] for number in sorted(newest)]

  def claim(self):
    """Takes the first waiting trial, which then is nobody else's.

    Returns a Trial, None if none waits.
    """
    with self._alone():  # SQLite would let two processes take the same one.
      for trial in self.trials():
        if trial.state == 'waiting':
          # The heartbeat first: to Optuna a running trial that never had one is never stale.
          self._storage.record_heartbeat(self._id(trial))
          if self._storage.set_trial_state_values(self._id(trial), TrialState.RUNNING):
            return trial
    return None

  def beat(self, trials):
    """Tells that the claimed trials are being worked on, and lets those of dead workers wait again.

    Args:
      trials: list of Trial.

    Returns:
      A list of those that are no longer the caller's: they were taken for a dead worker's.
    """
    lost = []
    # Waiting for the others first: the heartbeats must be fresh when the stale ones are looked for.
    with self._alone():
      for trial in trials:
        if self._storage.get_trial(self._id(trial)).state == TrialState.RUNNING:
          self._storage.record_heartbeat(self._id(trial))
        else:
          lost.append(trial)
      optuna.storages.fail_stale_trials(self._study)
      self._add_again(lambda trial: not trial.message)
    return lost

  def finish(self, trial, value):
    """Ends a claimed trial with its final return."""
    self._end(trial, TrialState.COMPLETE, value)

  def fail(self, trial, message):
    """Ends a claimed trial that can't go on."""
    self._end(trial, TrialState.FAIL, attributes={_MESSAGE: message or 'unknown'})

  def prune(self, trial, value):
    """Ends a claimed trial early, with the return it has come to."""
    self._end(trial, TrialState.PRUNED, value)

  def release(self, trial, was_killed=False):
    """Lets a claimed trial wait to be taken up again; `was_killed` tells whether its process was
    killed.
    """
    self._end(trial, TrialState.FAIL, attributes={_KILLS: trial.kills + was_killed})
    with self._alone():
      self._add_again(lambda trial: not trial.message)

  def retry_failed(self):
    """Lets all trials that failed wait to be taken up again."""
    with self._alone():
      self._add_again(lambda trial: True)

  def should_prune(self, trial, step, value):
    """Reports what a trial has come to after a step, and returns whether it is worse than the
    others were by then.
    """
    running = optuna.trial.Trial(self._study, self._id(trial))
    running.report(value, step)
    return running.should_prune()

  def _add_again(self, condition):
    """Makes the failed trials that meet a condition wait: those without a message were given up by
    their worker.
    """
    for trial in self.trials():
      if trial.state == 'failed' and condition(trial):
        frozen = self._storage.get_trial(self._id(trial))
        self._add(frozen.params, frozen.distributions, {_NUMBER: trial.number, _KILLS: trial.kills})

  def _add(self, hyper_parameters, distributions, attributes):
    self._study.add_trial(
      optuna.create_trial(
        state=TrialState.WAITING,
        params=hyper_parameters,
        distributions=distributions,
        user_attrs=attributes,
      )
    )

  def _id(self, trial):
    return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.attempt)

  def _end(self, trial, state, value=None, attributes=None):
    # Nothing happens to a trial that was taken from the caller.
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
      for name, attribute in (attributes or {}).items():
        self._storage.set_trial_user_attr(self._id(trial), name, attribute)
      self._storage.set_trial_state_values(
        self._id(trial), state, None if value is None else [value]
      )

  @contextlib.contextmanager
  def _alone(self):
    with open(self._lock_path, 'w') as lock:
      try:
        fcntl.flock(lock, fcntl.LOCK_EX)
      except OSError as error:
        raise ConfigurationError(
          f"{self._lock_path} can't be locked ({error}), without which workers would take the same trials. Give a --logdir on "
          'another file system.'
        ) from error
      yield


def without_password(url):
  """A database's address as it may be shown."""
  return re.sub(r'(://[^:/@]*:)[^@]*@', r'\1***@', url)


def _name_of(logdir):
  """The name of a sweep's study, which tells it from others in the same database."""
  path = os.path.join(logdir, _NAME_FILE)
  if (kept := files.read(path)) is not None:
    return kept.decode()
  name = f'sweep_{uuid.uuid4().hex}'
  files.write(path, name)
  return name


def _trial(frozen):
  return Trial(
    number=frozen.user_attrs[_NUMBER],
    hyper_parameters=frozen.params,
    state=_NAMES[frozen.state],
    value=frozen.values[0] if frozen.values else None,
    message=frozen.user_attrs.get(_MESSAGE, ''),
    kills=frozen.user_attrs.get(_KILLS, 0),
    attempt=frozen.number,
  )


def _for_optuna(distribution):
  if isinstance(distribution, Categorical):
    return optuna.distributions.CategoricalDistribution(distribution.choices)
  kind = (
    optuna.distributions.IntDistribution
    if isinstance(distribution.low, int)
    else optuna.distributions.FloatDistribution
  )
  return kind(distribution.low, distribution.high, log=isinstance(distribution, LogUniform))
