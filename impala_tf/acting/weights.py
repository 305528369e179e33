"""The learner's weights as one flat vector that actors copy, and an agent that runs on such a copy.

A vector has two advantages over a set of variables: it crosses a network in one transfer, and a
reader gets all of it from the same update. The number of that update travels inside it.

    weights = PublishedWeights(agent)       # learner, after the agent's variables exist
    weights.publish(learner.updates)        # after each update

    tensors, version = weights.pull()       # actor, while its unroll function is traced
    with with_weights(agent, tensors):
      agent.step(...)                       # from the copy, though the learner updates the agent

Where learner and actors are in different processes, the threads of an actor's process pull from
`SharedCopy`.
"""

import collections
import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence

import tensorflow as tf

from impala_tf.system import machine

_ids = itertools.count()


class PublishedWeights:
  """A float32 vector [number of parameters + 1]: all trainable weights of an agent, then the bits
  of their version.

  The vector is a resource that is found by its name on `device`. Assigning it replaces its buffer,
  so a reader keeps what it has read, untorn, while the next version is written.
  """

  def __init__(
    self,
    agent: tf.Module,
    device: str = '/CPU:0',
    shared_name: str | None = None,
    version: int | None = 0,
  ):
    """Publishes the agent's present weights.

    Args:
      agent: a module whose variables exist.
      device: where the vector lives.
      shared_name: its name there; a name of its own by default.
      version: the learner's updates behind the present weights; None in a process that only pulls
        the weights that another publishes.
    """
    self._variables = agent.trainable_variables
    self._device = device
    self._shared_name = shared_name or f'weights_{next(_ids)}'
    self._shapes = [v.shape for v in self._variables]
    self._sizes = [v.shape.num_elements() for v in self._variables]
    if version is not None:
      self.publish(version)

  def _handle(self):
    return tf.raw_ops.VarHandleOp(
      dtype=tf.float32, shape=[sum(self._sizes) + 1], shared_name=self._shared_name
    )

  @tf.function(input_signature=[tf.TensorSpec([], tf.int32)], autograph=False)
  def publish(self, version: tf.Tensor) -> None:
    """Makes the present weights the ones that actors pull next.

    `version` is an int32 scalar, the learner's updates.
    """
    self._assign(self._flat(version))

  def _flat(self, version):
    # As bits and not as a number: a float32 counts only to 2**24.
    bits = tf.bitcast(version, tf.float32)
    return tf.concat([tf.reshape(v, [-1]) for v in self._variables] + [bits[tf.newaxis]], axis=0)

  def _assign(self, flat):
    with tf.device(self._device):
      tf.raw_ops.AssignVariableOp(resource=self._handle(), value=flat)

  def refresh(self) -> None:
    """Makes sure that `pull` gives the newest weights; those of this process always are."""

  def pull(self) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Copies the newest weights; for use inside a tf.function.

    Returns:
      Float32 tensors in the order and shapes of `agent.trainable_variables`, and their version, an
      int32 scalar.
    """
    flat = self._read()
    *parts, bits = tf.split(flat, [*self._sizes, 1])
    tensors = [tf.reshape(part, shape) for part, shape in zip(parts, self._shapes, strict=True)]
    return tensors, tf.bitcast(bits[0], tf.int32)

  def _read(self):
    with tf.device(self._device):
      flat = tf.raw_ops.ReadVariableOp(resource=self._handle(), dtype=tf.float32)
    # Lands here as one tensor: parts made on another machine would come one by one.
    with tf.device(machine.local_cpu()):
      return tf.ensure_shape(tf.identity(flat), [sum(self._sizes) + 1])

  def version(self) -> tf.Tensor:
    """Reads the version that `pull` would give, an int32 scalar, without the weights; for use
    inside a tf.function.
    """
    with tf.device(self._device):
      flat = tf.raw_ops.ReadVariableOp(resource=self._handle(), dtype=tf.float32)
      return tf.bitcast(flat[sum(self._sizes)], tf.int32)


class SharedCopy(PublishedWeights):
  """The newest weights of a learner in another process, of which all threads of this one share a
  copy: a version crosses the network once, however many actors begin an unroll with it.

      copy = SharedCopy(agent, PublishedWeights(agent, LEARNER_DEVICE, WEIGHTS, version=None))
      copy.refresh()                          # each thread, before an unroll
      tensors, version = copy.pull()          # while its unroll function is traced
  """

  def __init__(self, agent: tf.Module, published: PublishedWeights):
    """Describes the copy of `published`; there is none before the first `refresh`."""
    super().__init__(agent, machine.local_cpu(), version=None)
    self._published = published
    self._lock = threading.Lock()
    self._copied: int | None = None  # Its version.

  def forget(self) -> None:
    """Makes the next `refresh` copy: a learner that was restarted may have other weights under the
    same version.
    """
    self._copied = None

  def refresh(self) -> None:
    """Copies the published weights if they are newer than the copy, and waits for a copy that
    another thread makes.

    Raises:
      tf.errors.OpError: if the learner is lost.
    """
    newest = int(self._newest())
    with self._lock:
      # A copy that was made meanwhile may be newer than what was asked for.
      if self._copied is None or newest > self._copied:
        self._copied = int(self._copy())

  @tf.function(input_signature=[], autograph=False)
  def _newest(self):
    return self._published.version()

  @tf.function(input_signature=[], autograph=False)
  def _copy(self):
    flat = self._published._read()
    self._assign(flat)
    return tf.bitcast(flat[-1], tf.int32)


class LaggingWeights(PublishedWeights):
  """Weights whose readers get the ones that were published `lag` times before (Figure E.1).

  After update u actors pull what was published after update u - lag. Until there are so many, they
  get the first: the lag grows from 0, also after a resume. The vectors in between are kept, `lag`
  times the size of the network.

  Unrolls that wait for the learner grow older by the updates that it takes meanwhile. Where they do
  not wait, with `architecture=a2c_sync_trajectories` or `a2c_sync_step`, the lag at the learner is
  the one given, exactly.
  """

  def __init__(self, agent: tf.Module, lag: int, **options):
    """Publishes the agent's present weights, which are seen at once.

    Args:
      agent: a module whose variables exist.
      lag: updates between the weights that are published and those that are seen.
      **options: as for `PublishedWeights`.
    """
    self._vectors: collections.deque = collections.deque(maxlen=lag + 1)
    super().__init__(agent, **options)

  def publish(self, version: tf.Tensor) -> None:
    """Lets the present weights wait, and shows the oldest.

    `version` is an int32 scalar, the learner's updates.
    """
    self._vectors.append(self._present(version))
    self._show(self._vectors[0])

  @tf.function(input_signature=[tf.TensorSpec([], tf.int32)], autograph=False)
  def _present(self, version):
    return self._flat(version)

  @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)], autograph=False)
  def _show(self, flat):
    self._assign(flat)


@contextlib.contextmanager
def with_weights(module: tf.Module, tensors: Sequence[tf.Tensor]) -> Iterator[None]:
  """Lets `module` compute from `tensors` instead of its trainable variables while it lasts.

  It swaps attributes of the module and of its submodules, so it is for tracing a function, by one
  thread at a time.

  Args:
    module: has its trainable variables as attributes of itself and of its submodules.
    tensors: in the order of `module.trainable_variables`.

  Raises:
    ValueError: if a variable is not an attribute and so can't be replaced.
  """
  replacements = {v.ref(): t for v, t in zip(module.trainable_variables, tensors, strict=True)}
  # Through __dict__ and not setattr: a tf.Module would otherwise stop tracking the variable for
  # checkpoints.
  places = [
    (vars(m), name, value)
    for m in (module, *module.submodules)
    for name, value in vars(m).items()
    if isinstance(value, tf.Variable) and value.ref() in replacements
  ]
  missing = replacements.keys() - {variable.ref() for _, _, variable in places}
  if missing:
    names = sorted(reference.deref().name for reference in missing)
    raise ValueError(
      f'Not attributes of {module.name!r} or its submodules: {names}. Keep each variable in one.'
    )

  try:
    for attributes, name, variable in places:
      attributes[name] = replacements[variable.ref()]
    yield
  finally:
    for attributes, name, variable in places:
      attributes[name] = variable
