"""The files of checkpoints in the folder of a run: which there are, what is in them, and which go.

A checkpoint is what `tf.train.Checkpoint` writes: its index, without which it is not one, is put in
place last. All of it is read, which verifies its checksums, before anything of it is used.
"""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging
from tensorflow.core.protobuf import trackable_object_graph_pb2

from impala_tf import errors, files
from impala_tf.system import scratch
from impala_tf.system.paths import is_remote

PREFIX = 'ckpt'
MAX_TO_KEEP = 3
_STATE = 'checkpoint'  # The file by which other programs find the newest checkpoint.
_FILE = re.compile(rf'({PREFIX}-(\d+))\.(index|data-.*)')
_TEMPORARY = re.compile(rf'{PREFIX}-\d+_temp')
_IN_STATE = re.compile(rf'all_model_checkpoint_paths: "(?:[^"]*/)?({PREFIX}-\d+)"')
_VARIABLE = 'VARIABLE_VALUE'
_CONFIGURATION = 'configuration'
_LEARNER = 'learner/'


class CheckpointError(errors.UserError, RuntimeError):
  """A checkpoint can't be written or read, or is another agent's; no variable has changed."""


class Stored(NamedTuple):
  """Contents of a checkpoint: path, object graph, and tensors as NumPy arrays by key."""

  path: str
  graph: Any
  tensors: dict

  def children(self, node: int | None) -> dict[str, int]:
    """Returns the numbers of a node's children by name; none if `node` is None."""
    if node is None:
      return {}
    return {child.local_name: child.node_id for child in self.graph.nodes[node].children}

  def node(self, path: Sequence[str]) -> int | None:
    """Returns the number of the node at a path of names; None if there is none."""
    node: int | None = 0
    for name in path:
      node = self.children(node).get(name)
    return node

  def variable_key(self, node: int) -> str | None:
    """Returns the key under which a node's value is stored, None if it is not a variable."""
    for attribute in self.graph.nodes[node].attributes:
      if attribute.name == _VARIABLE:
        return attribute.checkpoint_key
    return None

  def configuration(self) -> dict[str, Any]:
    """Returns the options of the run that decide what is learned, by name; empty if the checkpoint
    is of a version that did not save them.
    """
    node = self.children(0).get(_CONFIGURATION)
    key = None if node is None else self.variable_key(node)
    return {} if key is None else json.loads(self.tensors[key])


def newest_number(directory: str) -> int:
  """Returns the number of the newest checkpoint, intact or not; 0 if there is none."""
  return max((number for number, _ in candidates(directory)), default=0)


def candidates(directory: str) -> list[tuple[int, str]]:
  """Returns all checkpoints, intact or not, as (number, path), newest first."""
  if not files.is_folder(directory):
    return []
  found = {m[1]: int(m[2]) for m in map(_FILE.fullmatch, files.names_in(directory)) if m}
  # The state file names those whose files have gone missing.
  path = os.path.join(directory, _STATE)
  try:
    state = files.read(path)
  except errors.FileError:
    state = b''

  named = _IN_STATE.findall((state or b'').decode(errors='replace'))
  if state is not None and not named:
    logging.warning('%s is damaged: the checkpoints that are beside it count.', path)
  found |= {name: int(name.rpartition('-')[2]) for name in named}
  paths = ((number, os.path.join(directory, name)) for name, number in found.items())
  return sorted(paths, reverse=True)


def read_newest(directory: str) -> Stored | None:
  """Reads the newest checkpoint that can be read and has only finite weights, with a warning for
  each newer one; None if there is no checkpoint. Nothing in the folder is changed.

  Raises:
    CheckpointError: if there are checkpoints and none is sound.
  """
  failures = []
  for _, path in candidates(directory):
    try:
      stored = _read(path)
    # TensorFlow's reader has no common type for what a damaged file makes it raise.
    except Exception as error:
      failures.append(f'{path}: {" ".join(str(error).split()) or type(error).__name__}')
      continue

    for failure in failures:
      logging.warning(
        "A CHECKPOINT CAN'T BE READ and is passed over; its training is lost: %s", failure
      )
    if failures:
      logging.warning('Using %s instead.', path)
    return stored

  if failures:
    listed = '\n  '.join(failures)
    raise CheckpointError(
      f'No checkpoint can be read:\n  {listed}\nBring an intact copy back, or start again in '
      'another --logdir.'
    )

  return None


def _read(path):
  with _without_patterns(path) as plain:
    # Not tf.train.load_checkpoint, which would take a damaged checkpoint for a folder. Reading a
    # tensor verifies its checksum.
    reader = tf.compat.v1.train.NewCheckpointReader(plain)
    tensors = {key: reader.get_tensor(key) for key in reader.get_variable_to_shape_map()}

  graph = trackable_object_graph_pb2.TrackableObjectGraph()
  if '_CHECKPOINTABLE_OBJECT_GRAPH' not in tensors:
    raise ValueError('not written by tf.train.Checkpoint: it holds no object graph')
  graph.ParseFromString(tensors['_CHECKPOINTABLE_OBJECT_GRAPH'])
  for key, tensor in tensors.items():
    if key.startswith(_LEARNER) and tensor.dtype.kind == 'f' and not np.isfinite(tensor).all():
      raise ValueError(f'{key.split("/.ATTRIBUTES")[0]} has values that are not finite')

  return Stored(path, graph, tensors)


@contextlib.contextmanager
def _without_patterns(path: str) -> Iterator[str]:
  """Gives a path to the same checkpoint without characters that TensorFlow's reader, which looks
  for files by a pattern, would take for more than themselves.
  """
  if is_remote(path) or not set('*?[]\\') & set(path):
    yield path
    return
  directory, name = os.path.split(os.path.abspath(path))
  with tempfile.TemporaryDirectory(dir=scratch.folder()) as folder:
    link = os.path.join(folder, 'run')
    os.symlink(directory, link)
    yield os.path.join(link, name)


def remove_old(directory: str, keep: str) -> None:
  """Removes the checkpoints before the last few, and brings the file up to date that names them.

  Args:
    directory: of the checkpoints.
    keep: path of one that stays in any case.

  Raises:
    StorageError: if the file can't be written.
  """
  found = candidates(directory)
  kept = [path for number, path in found[:MAX_TO_KEEP]]
  kept += [keep] if keep not in kept else []
  gone = {os.path.basename(path) for _, path in found} - {os.path.basename(path) for path in kept}
  # The index first, without which the rest is not a checkpoint.
  for name in sorted(files.names_in(directory), key=lambda name: not name.endswith('.index')):
    match = _FILE.fullmatch(name)
    if match and match[1] in gone:
      _remove(os.path.join(directory, name))
  _write_state(directory, [os.path.basename(path) for path in reversed(kept)])


def _write_state(directory, names):
  """Names the checkpoints, the newest last, for `tf.train.latest_checkpoint`."""
  lines = [f'model_checkpoint_path: "{names[-1]}"']
  lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
  files.write(os.path.join(directory, _STATE), '\n'.join(lines) + '\n')


def remove_leavings(directory: str) -> None:
  """Removes what a save left that was killed; for the only process that saves there."""
  for name in files.names_in(directory):
    if _TEMPORARY.fullmatch(name):
      _remove(os.path.join(directory, name))
  files.remove_temporary(directory)


def _remove(path):
  with contextlib.suppress(*files.io_errors()):
    files.remove(path)
