"""The learner's weights as one flat vector that actors copy, and an agent that runs on such a copy.

A vector has two advantages over a set of variables: it crosses a network in one transfer, and a
reader gets all of it from the same update. The number of that update travels inside it.

    weights = PublishedWeights(agent)       # learner, after the agent's variables exist
    weights.publish(learner.updates)        # after each update

    tensors, version = weights.pull()       # actor, while its unroll function is traced
    with with_weights(agent, tensors):
      agent.step(...)                       # from the copy, though the learner updates the agent
"""

import collections
import contextlib
import itertools
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

  @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
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

  def pull(self) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Copies the newest weights; for use inside a tf.function.

    Returns:
      Float32 tensors in the order and shapes of `agent.trainable_variables`, and their version, an
      int32 scalar.
    """
    with tf.device(self._device):
      flat = tf.raw_ops.ReadVariableOp(resource=self._handle(), dtype=tf.float32)
    # Lands here as one tensor: parts made on another machine would come one by one.
    with tf.device(machine.local_cpu()):
      flat = tf.ensure_shape(tf.identity(flat), [sum(self._sizes) + 1])
    *parts, bits = tf.split(flat, [*self._sizes, 1])
    tensors = [tf.reshape(part, shape) for part, shape in zip(parts, self._shapes, strict=True)]
    return tensors, tf.bitcast(bits[0], tf.int32)

  def version(self) -> tf.Tensor:
    """Reads the version that `pull` would give, an int32 scalar, without the weights; for use
    inside a tf.function.
    """
    with tf.device(self._device):
      flat = tf.raw_ops.ReadVariableOp(resource=self._handle(), dtype=tf.float32)
      return tf.bitcast(flat[sum(self._sizes)], tf.int32)


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

  @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
  def _present(self, version):
    return self._flat(version)

  @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
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
