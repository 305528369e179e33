"""The trials of a sweep: which there are, who works on them, and what became of them.

The sweep's definition says which trials there are. The worker that trains one holds the lock of
its folder, which is free again when that worker and the run have ended, even by SIGKILL. The
states and results are kept in a journal of Optuna's, a file that several machines may write to;
Optuna's tools read it, and its pruner judges by it. Optuna never samples here.
"""

import contextlib
import dataclasses
import functools
import os
from typing import IO, Any

import optuna
from optuna.storages import journal
from optuna.trial import TrialState

from impala_tf.config import ConfigurationError
from impala_tf.errors import FileError
from impala_tf.sweeps import search_space
from impala_tf.sweeps.definition import Sweep
from impala_tf.system import locks

JOURNAL_NAME = 'journal.log'
_OLD_NAME = 'study.db'
_NAME = 'sweep'
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


@dataclasses.dataclass(frozen=True)
class Trial:
  """One of the sweep's trials.

  Attributes:
    number: from 0.
    hyper_parameters: those that were drawn for it.
    state: 'waiting', 'running', 'finished', 'failed' or 'pruned'.
    value: final return, None if it has none yet.
    message: why it failed; empty if it did not.
    kills: how often in a row its process was killed, see `processes.Supervisor`.
  """

  number: int
  hyper_parameters: dict[str, Any]
  state: str = 'waiting'
  value: float | None = None
  message: str = ''
  kills: int = 0

  @property
  def name(self) -> str:
    """Name of the trial's folder."""
    return f'trial_{self.number:03d}'

  @property
  def has_ended(self) -> bool:
    """Whether nobody will work on the trial any more, unless it is retried."""
    return self.state in ('finished', 'failed', 'pruned')


class Study:
  """The trials of one sweep."""

  def __init__(self, logdir: str, sweep: Sweep, prune: bool = False):
    """Describes the study; nothing is written before a trial is claimed.

    Args:
      logdir: existing folder of the sweep, on this machine or a shared file system.
      sweep: its definition.
      prune: whether `Claim.should_prune` may ever be true.

    Raises:
      ConfigurationError: if the folder has the database of an earlier version.
    """
    if os.path.exists(os.path.join(logdir, _OLD_NAME)):
      raise ConfigurationError(
        f'The sweep in {logdir} is kept in {_OLD_NAME}, by an earlier version. Remove {_OLD_NAME} '
        'and give the same command again: its trials resume from their folders, and those that had '
        'finished are found finished.'
      )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    self._logdir = logdir
    self._distributions = search_space.of_optuna(sweep.space)
    self._samples = sweep.samples()
    self._pruner = optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner()

  def trials(self) -> list[Trial]:
    """Returns all trials by their numbers, as they are now."""
    records = self._records()
    trials = [self._trial(number, records.get(number)) for number in range(len(self._samples))]

    # A trial whose worker died is still running by the journal.
    return [
      dataclasses.replace(trial, state='waiting')
      if trial.state == 'running' and not locks.is_claimed(self._folder(trial))
      else trial
      for trial in trials
    ]

  def claim(self) -> 'Claim | None':
    """Takes the first trial that waits, on which then nobody else works; None if there is none."""
    for trial in self.trials():
      if trial.state == 'waiting':
        with contextlib.suppress(locks.FolderBusyError), contextlib.ExitStack() as held:
          lock = held.enter_context(locks.claim(self._folder(trial)))

          # Another worker may have ended the trial just before it let go of the lock.
          record = self._records().get(trial.number)
          if not self._trial(trial.number, record).has_ended:
            record = self._mark_as_running(trial, record)
            held.pop_all()
            return Claim(
              self._study, self._storage, record, self._trial(trial.number, record), lock
            )

    return None

  def retry_failed(self) -> None:
    """Lets all trials that failed wait to be claimed again."""
    for trial in self.trials():
      if trial.state == 'failed':
        with contextlib.suppress(locks.FolderBusyError), locks.claim(self._folder(trial)):
          record = self._records()[trial.number]
          if record.state == TrialState.FAIL:
            self._add(trial, TrialState.WAITING)

  def _mark_as_running(self, trial, record):
    if record is None:
      self._add(trial, TrialState.RUNNING)
    elif record.state == TrialState.WAITING:
      self._storage.set_trial_state_values(record._trial_id, TrialState.RUNNING)
    return self._records()[trial.number]

  def _add(self, trial, state):
    """Adds a record of a trial; the caller holds its lock. A trial that is retried gets a new one,
    as Optuna does not change those that have ended.
    """
    self._study.add_trial(
      optuna.create_trial(
        state=state,
        params=trial.hyper_parameters,
        distributions=self._distributions,
        user_attrs={_NUMBER: trial.number, _KILLS: 0},
      )
    )

  def _records(self):
    """Returns the newest record of each trial that was ever claimed, by its number."""
    if not os.path.exists(self._journal_path):
      return {}
    with self._named_errors():
      frozen = self._study.get_trials(deepcopy=False)
      # Without a number of kills it is not a record of this program.
      return {one.user_attrs[_NUMBER]: one for one in frozen if one.user_attrs[_KILLS] >= 0}

  def _trial(self, number, record):
    if record is None:
      return Trial(number, self._samples[number])
    return Trial(
      number=number,
      hyper_parameters=self._samples[number],
      state=_NAMES[record.state],
      value=record.values[0] if record.values else None,
      message=record.user_attrs.get(_MESSAGE, ''),
      kills=record.user_attrs[_KILLS],
    )

  def _folder(self, trial):
    return os.path.join(self._logdir, trial.name)

  @property
  def _journal_path(self):
    return os.path.join(self._logdir, JOURNAL_NAME)

  @functools.cached_property
  def _storage(self):
    """Returns the journal, opened when it is first needed and made if it is missing."""
    # Unlike Optuna's other lock, this one does not depend on how the path is written.
    lock = journal.JournalFileOpenLock(self._journal_path)
    _drop_torn_line(self._journal_path, lock)
    with self._named_errors():
      return optuna.storages.JournalStorage(
        journal.JournalFileBackend(self._journal_path, lock_obj=lock)
      )

  @contextlib.contextmanager
  def _named_errors(self):
    """Names the journal in the errors of Optuna, which checks nothing of what it reads."""
    try:
      yield
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
      raise FileError(
        self._journal_path,
        f"can't be read: {error!r}",
        'Remove it and give the same command again: the trials resume from their folders, and '
        'those that had finished are found finished.',
      ) from error

  @functools.cached_property
  def _study(self):
    if not self._storage.get_all_studies():
      optuna.create_study(
        study_name=_NAME, storage=self._storage, direction='maximize', load_if_exists=True
      )
    return optuna.load_study(study_name=_NAME, storage=self._storage, pruner=self._pruner)


class Claim:
  """A trial that this process alone works on, until it calls one of the methods that end that.

  Attributes:
    trial: as it was when it was claimed.
    lock: open file that holds the lock of the trial's folder. The run must get it, too: it may
      outlive this process for a moment, in order to save.
    steps: after how many steps `should_prune` was asked.
    is_bad: whether it then was true.
  """

  def __init__(self, study: optuna.Study, storage: Any, record: Any, trial: Trial, lock: IO[str]):
    """Describes the claim; see `Study.claim`."""
    self._study = study
    self._storage = storage
    self._id = record._trial_id
    self.trial = trial
    self.lock = lock
    self.steps = record.last_step or 0
    self.is_bad = False

  def finish(self, value: float) -> None:
    """Ends the trial with its final return."""
    self._let_go(TrialState.COMPLETE, value)

  def fail(self, message: str) -> None:
    """Ends the trial, which can't be resumed without help."""
    self._let_go(TrialState.FAIL, attributes={_MESSAGE: message or 'unknown'})

  def prune(self, value: float | None) -> None:
    """Ends the trial early, with the return it has come to."""
    self._let_go(TrialState.PRUNED, value)

  def release(self, kills: int | None = None) -> None:
    """Lets the trial wait to be resumed; `kills` is its new number of them, if it was killed."""
    self._let_go(attributes={} if kills is None else {_KILLS: kills})

  def should_prune(self, step: int, value: float | None) -> bool:
    """Reports what the trial has come to after a step, None if nothing, and returns whether that is
    worse than what the others had come to by then.
    """
    self.steps = step
    if value is None:
      return False
    trial = optuna.trial.Trial(self._study, self._id)
    trial.report(value, step)
    self.is_bad = trial.should_prune()
    return self.is_bad

  def _let_go(self, state=None, value=None, attributes=None):
    # A file system may have lost the lock while this machine was cut off from it. What another
    # worker then made of the trial stays.
    with self.lock, contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
      for name, attribute in (attributes or {}).items():
        self._storage.set_trial_user_attr(self._id, name, attribute)
      if state is not None:
        self._storage.set_trial_state_values(self._id, state, None if value is None else [value])


def _drop_torn_line(path, lock):
  """Removes the part of a line that a full disk or a power failure left at the end of a journal,
  which Optuna would read as one line with the next.
  """
  if not os.path.exists(path) or _size_of_whole_lines(path) == os.path.getsize(path):
    return
  lock.acquire()  # It may be a line that another process is writing just now.
  try:
    os.truncate(path, _size_of_whole_lines(path))
  finally:
    lock.release()


def _size_of_whole_lines(path):
  with open(path, 'rb') as file:
    return file.read().rfind(b'\n') + 1
