"""Checkpoints: the whole state of a run, saved whole and restored whole or not at all.

    checkpointer = Checkpointer(logdir, learner=learner, run=run_state)
    resumed = checkpointer.restore_latest()
    checkpointer.save()

    frames = load_weights(logdir, agent).frames      # for an evaluation

The files are those of `tf.train.Checkpoint`; `checkpoint_files` reads them. Restoring is done here:
all of a checkpoint is compared with the objects, and the configuration that it was made by with the
run's, before the first variable changes.
"""

import json
import os
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import tensorflow as tf
from absl import logging

from impala_tf import errors, files, saved_config
from impala_tf.config import Config, options
from impala_tf.training import checkpoint_files
from impala_tf.training.checkpoint_files import CheckpointError

_MAX_LISTED = 8


class Loaded(NamedTuple):
  """Origin of weights: the path of the checkpoint, and the frames the agent was trained for."""

  path: str
  frames: int


class RunState(tf.Module):
  """State that a resumed run needs besides its learner.

  Attributes:
    seed: int64 variable, the run's seed.
    starts: int32 variable, how often the run was started.
  """

  def __init__(self, seed: int, name: str = 'run_state'):
    """Makes the state of a run that was never started."""
    super().__init__(name=name)
    self.seed = tf.Variable(seed, dtype=tf.int64, trainable=False, name='seed')
    self.starts = tf.Variable(0, dtype=tf.int32, trainable=False, name='starts')

  def start(self) -> list[int]:
    """Counts a start; returns [seed, starts], which differs between runs and between the starts of
    a run.
    """
    self.starts.assign_add(1)
    return [int(self.seed), int(self.starts)]


class Checkpointer:
  """Saves and restores objects in a folder, keeping the last few checkpoints."""

  def __init__(self, directory: str, config: Config | None = None, **trackables: tf.Module):
    """Binds the objects; their variables must exist before `save` and `restore_latest`.

    Args:
      directory: existing folder, anything that tf.io.gfile takes.
      config: of the run. Checkpoints hold what of it decides what is learned, and those of another
        one are refused; None knows none.
      **trackables: the objects by name. `load_weights` looks for `learner`, with its attributes
        `agent` and `frames`.
    """
    self._directory = directory
    self._trackables = trackables
    self._learning = {} if config is None else saved_config.learning_values(config)
    # Its name is the one that `checkpoint_files` looks for.
    configuration = {'configuration': tf.Variable(json.dumps(self._learning), trainable=False)}
    self._checkpoint = tf.train.Checkpoint(**trackables, **configuration if config else {})

  def save(self) -> str:
    """Writes a checkpoint beside the earlier ones, then removes the oldest beyond the number to
    keep; returns its path without suffixes.

    The data is written under temporary names, and the index, without which it is not a checkpoint,
    is put in place last: a save that dies half-way leaves the earlier checkpoints as they were.

    Raises:
      CheckpointError: if it can't be written.
    """
    number = checkpoint_files.newest_number(self._directory) + 1
    path = os.path.join(self._directory, f'{checkpoint_files.PREFIX}-{number}')
    try:
      self._checkpoint.write(path)
    except (tf.errors.OpError, OSError) as error:
      raise CheckpointError(
        f"Can't write checkpoint {path}: {files.reason(error)}. Make room, or make the folder "
        'writable; the earlier checkpoints are still there.'
      ) from error
    checkpoint_files.remove_old(self._directory, keep=path)
    return path

  def restore_latest(self) -> bool:
    """Restores the newest checkpoint that can be read, with a warning for each newer one that
    can't, and removes what an earlier start left that was killed; returns False if the folder has
    no checkpoint.

    Raises:
      CheckpointError: if there are checkpoints but none can be read, or the newest readable one
        does not fit the objects or is of another configuration.
    """
    checkpoint_files.remove_leavings(self._directory)
    stored = checkpoint_files.read_newest(self._directory)
    if stored is None:
      return False

    _check_configuration(stored, self._learning)
    match = _Match(stored)
    children = stored.children(0)
    for name, trackable in self._trackables.items():
      match.add(children.get(name), trackable, (name,))
    # The counter is TensorFlow's own, of earlier versions; checkpoints are numbered by what is in
    # the folder.
    match.check_nothing_left(0, except_for={'save_counter', 'configuration'})
    match.assign()
    checkpoint_files.remove_old(self._directory, keep=stored.path)
    logging.info('Restored %s.', stored.path)
    return True


def load_weights(directory: str, agent: tf.Module) -> Loaded:
  """Restores only an agent, whose variables exist, from the newest readable checkpoint of a run;
  nothing in its folder is changed.

  Raises:
    CheckpointError: if there is no checkpoint, none can be read, or it is another agent's or that
      of another run than config.json describes.
  """
  frames = tf.Variable(0, dtype=tf.int64, trainable=False)
  path = load_parts(directory, {('learner', 'agent'): agent, ('learner', 'frames'): frames})
  return Loaded(path, int(frames))


def frames_in(directory: str) -> int:
  """Returns the frames that the newest readable checkpoint of a run was trained for.

  Raises:
    CheckpointError: as `load_parts`.
  """
  # Without a variable, for which TensorFlow would take hold of the graphics cards.
  stored = _newest(directory)
  node = stored.node(('learner', 'frames'))
  key = None if node is None else stored.variable_key(node)
  if key is None:
    raise CheckpointError(f'The checkpoint {stored.path} is not that of a training.')
  return int(stored.tensors[key])


def load_parts(directory: str, parts: Mapping[tuple[str, ...], tf.Module | tf.Variable]) -> str:
  """Restores some objects, all of them from the newest readable checkpoint of a run; returns the
  checkpoint's path without suffixes.

  Args:
    directory: the run's folder; nothing in it is changed. The run may continue meanwhile.
    parts: variables, or modules that have some, by their place in the checkpoint.

  Raises:
    CheckpointError: if there is no checkpoint, none can be read, or it is another program's.
  """
  stored = _newest(directory)
  match = _Match(stored)
  for path, trackable in parts.items():
    node = stored.node(path)
    match.add(node, trackable, path)
    if node is not None:
      match.check_nothing_left(node)

  match.assign()
  return stored.path


def _newest(directory):
  stored = checkpoint_files.read_newest(directory)
  if stored is None:
    raise CheckpointError(
      f'No checkpoint in {directory}. Train first, or point --logdir to a training run.'
    )
  _check_configuration(stored, saved_config.values_in(directory))
  return stored


def _check_configuration(stored, learning):
  """Refuses a checkpoint of another run than the one of these options."""
  rows = [
    f'  {name}: {options.as_text(value)} there, {options.as_text(learning[name])} now'
    for name, value in stored.configuration().items()
    if name in learning and learning[name] != value
  ]
  if rows:
    raise CheckpointError(
      f'The checkpoint {stored.path} is of another configuration:\n'
      + '\n'.join(rows)
      + '\nGive these their old values to resume its run, or use another --logdir.'
    )


class _Match:
  """Pairs of the variables of some objects and their values in a checkpoint."""

  def __init__(self, stored: checkpoint_files.Stored):
    """Starts with nothing found."""
    self._stored = stored
    # (id of object, node): an object may be reachable in several ways.
    self._visited: set[tuple[int, int | None]] = set()
    # All variables by id, those of them that the checkpoint has, and the keys of these in it.
    self._names: dict[int, str] = {}
    self._values: dict[int, tuple[tf.Variable, Any]] = {}
    self._keys: set[str] = set()
    self._different: list[str] = []
    self._left: list[str] = []

  def add(self, node: int | None, trackable: Any, path: tuple[str, ...]) -> None:
    """Finds the variables of an object.

    Args:
      node: the object's number in the checkpoint, None if it is not there.
      trackable: the object, anything that tf.train.Checkpoint takes.
      path: the object's name in errors.
    """
    if (id(trackable), node) in self._visited:
      return
    self._visited.add((id(trackable), node))
    if isinstance(trackable, tf.Variable):
      self._add_variable(node, trackable, '/'.join(path))
    children = self._stored.children(node)
    for name, child in tf.train.TrackableView.children(trackable).items():
      self.add(children.get(name), child, (*path, name))

  def _add_variable(self, node, variable, name):
    self._names.setdefault(id(variable), f'{name} {variable.dtype.name}{variable.shape}')
    key = self._stored.variable_key(node) if node is not None else None
    if key is None:
      return
    self._keys.add(key)
    value = self._stored.tensors[key]
    if value.shape != tuple(variable.shape) or value.dtype != variable.dtype.as_numpy_dtype:
      self._different.append(
        f'{name} is {value.dtype.name}{tf.TensorShape(value.shape)} there, '
        f'{variable.dtype.name}{variable.shape} here'
      )

    self._values[id(variable)] = (variable, value)

  def check_nothing_left(self, node: int, except_for: Collection[str] = ()) -> None:
    """Notes the variables below object `node` that no object asked for, but for those of some
    children.
    """
    children = self._stored.children(node)
    pending = [child for name, child in children.items() if name not in except_for]
    seen: set[int] = set()

    while pending:
      node = pending.pop()
      if node in seen:
        continue
      seen.add(node)
      pending.extend(self._stored.children(node).values())
      key = self._stored.variable_key(node)
      if key is not None and key not in self._keys:
        value = self._stored.tensors[key]
        name = key.split('/.ATTRIBUTES')[0]
        self._left.append(f'{name} {value.dtype.name}{tf.TensorShape(value.shape)}')

  def assign(self) -> None:
    """Gives all variables their values.

    Raises:
      CheckpointError: if checkpoint and objects differ in anything; no variable is changed then.
    """
    missing = [name for variable, name in self._names.items() if variable not in self._values]
    problems = {
      'other shape or type': self._different,
      'not in the checkpoint': missing,
      'only in the checkpoint': self._left,
    }
    rows = [
      f'  {title}: {errors.listed(sorted(names), _MAX_LISTED, "; ")}'
      for title, names in problems.items()
      if names
    ]
    if rows:
      raise CheckpointError(
        f'The checkpoint {self._stored.path} is of another agent or program:\n'
        + '\n'.join(rows)
        + '\nUse the settings of its run (config.json beside it), or another --logdir.'
      )

    for variable, value in self._values.values():
      variable.assign(value)
