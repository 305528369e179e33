"""Dynamic batching: calls from many threads are computed together, as one batch of whatever waits
at that moment.

    batcher = DynamicBatcher(function, specs, minimum_batch_size=1, maximum_batch_size=1024,
    timeout=0.1) with batcher:
      @tf.function
      def actor(inputs):                   # in many threads
        return batcher.call(inputs)        # rows [n, ...] in, rows [n, ...] out

A network that runs on a GPU, or for actors of one environment each, costs little more for many rows
than for one (the paper's Section 3.1, where actors share a GPU). It trades that against waiting: a
batch is started as soon as `minimum_batch_size` rows wait, or `timeout` after the first of them
came; what arrives while a batch is computed makes up the next.
"""

import collections
import threading
import time

import numpy as np
import tensorflow as tf
import tree


class BatcherClosed(StopIteration):
  """The batcher was closed before or during the call.

  From an operation it arrives as tf.errors.OutOfRangeError.
  """


class DynamicBatcher:
  """Computes a function on batches gathered from the calls of several threads, in a thread of its
  own.

  error: what ended the thread, None if it was `close`, or if it runs.
  """

  def __init__(
    self, function, specs, *, minimum_batch_size=1, maximum_batch_size=1024, timeout=0.1
  ):
    """Traces the function.

    Args:
      function: takes the nests of `specs` with a leading dimension [N], N being the rows of the
        batch, and returns a nest of tensors [N, ...]. Called with tensors, once for tracing with
        the batch's static size if all batches have the same (equal limits and no timeout),
        otherwise with an unknown one.
      specs: list of nests of `tf.TensorSpec` of one row, one for each argument.
      minimum_batch_size: rows to wait for.
      maximum_batch_size: rows that are computed together at most.
      timeout: seconds after which a batch is computed though it has less than the minimum; None to
        wait for ever.

    Raises:
      ValueError: for limits below 1, a minimum above the maximum, a timeout that is not positive,
        or a function some output of which does not have the batch as its first dimension.
    """
    if not 1 <= minimum_batch_size <= maximum_batch_size:
      raise ValueError(
        f'minimum_batch_size={minimum_batch_size} must be at least 1 and at most maximum_batch_size={maximum_batch_size}.'
      )
    if timeout is not None and timeout <= 0:
      raise ValueError(
        f'timeout={timeout} must be above 0 seconds, or None to wait for a full batch.'
      )
    self._minimum = minimum_batch_size
    self._maximum = maximum_batch_size
    self._timeout = timeout
    rows = (
      maximum_batch_size if minimum_batch_size == maximum_batch_size and timeout is None else None
    )
    self._specs = specs
    batch_specs = tree.map_structure(
      lambda spec: tf.TensorSpec([rows, *spec.shape], spec.dtype), specs
    )
    self._function = tf.function(function, autograph=False).get_concrete_function(*batch_specs)
    self._outputs = self._function.structured_outputs
    for output in tree.flatten(self._outputs):
      if output.shape.rank == 0 or (
        output.shape.rank is not None and output.shape[0] not in (None, rows)
      ):
        raise ValueError(
          f'Each output must have the batch, [{rows}, ...], as its first dimension; one is {output.shape}.'
        )
    self.error = None
    self._waiting = collections.deque()
    self._changed = threading.Condition()
    self._closed = False
    self._thread = threading.Thread(target=self._run, name='dynamic-batching', daemon=True)

  def __enter__(self):
    self._thread.start()
    return self

  def __exit__(self, *exception):
    self.close()

  def close(self):
    """Ends the thread; waiting and later calls end with BatcherClosed."""
    self._end(None)
    if self._thread.ident is not None and self._thread is not threading.current_thread():
      self._thread.join()

  def call(self, *args):
    """Computes the function on some rows, as an operation that blocks until their batch is done.

    Args:
      *args: the nests of `specs` with a leading [n]; n may be another in each call, and is
      `maximum_batch_size` at most.

    Returns:
      The rows of the function's outputs that belong to those of `args`, in their order.

    Raises:
      tf.errors.OutOfRangeError: if the batcher is closed.
      tf.errors.OpError: if the function failed, with its message.
      ValueError: while tracing, if the arguments are not as `specs` say.
    """
    tree.assert_same_structure(list(args), self._specs)
    flat = [
      tf.convert_to_tensor(t, spec.dtype)
      for t, spec in zip(tree.flatten(args), tree.flatten(self._specs), strict=True)
    ]
    for tensor, spec in zip(flat, tree.flatten(self._specs), strict=True):
      if not spec.shape.is_compatible_with(tensor.shape[1:]):
        raise ValueError(
          f'A row of shape {tensor.shape[1:]} was given where the batcher takes {spec.shape}.'
        )
    outputs = tree.flatten(self._outputs)
    results = tf.numpy_function(
      self._submit, flat, [output.dtype for output in outputs], name='dynamic_batching'
    )
    for result, output in zip(results, outputs, strict=True):
      result.set_shape([flat[0].shape[0], *output.shape[1:]])
    return tree.unflatten_as(self._outputs, results)

  def _submit(self, *arrays):
    call = _Call(arrays)
    if call.rows > self._maximum:
      raise ValueError(
        f'A call of {call.rows} rows does not fit into batches of at most {self._maximum}.'
      )
    with self._changed:
      if self._closed:
        raise BatcherClosed
      self._waiting.append(call)
      self._changed.notify_all()
    call.done.wait()
    if call.error is not None:
      raise call.error
    return call.outputs

  def _run(self):
    calls = []
    try:
      while calls := self._next_batch():
        arrays = [
          np.concatenate(parts) if len(parts) > 1 else parts[0]
          for parts in zip(*(c.arrays for c in calls), strict=True)
        ]
        inputs = [
          tf.constant(a, s.dtype) for a, s in zip(arrays, tree.flatten(self._specs), strict=True)
        ]
        outputs = [
          output.numpy()
          for output in tree.flatten(self._function(*tree.unflatten_as(self._specs, inputs)))
        ]
        rows = sum(call.rows for call in calls)
        for output in outputs:
          if output.shape[:1] != (rows,):
            raise ValueError(f'A batch of {rows} rows gave an output of shape {output.shape}.')
        end = 0
        for call in calls:
          begin, end = end, end + call.rows
          call.finish([output[begin:end] for output in outputs])
    except Exception as error:  # Whatever it is, the callers' threads are where it can be handled.
      for call in calls:
        call.fail(error)
      self._end(error)

  def _next_batch(self):
    """Waits for the calls of the next batch; empty once the batcher is closed."""
    with self._changed:
      while not self._closed:
        rows = sum(call.rows for call in self._waiting)
        seconds = self._seconds_left() if rows else None
        if rows >= self._minimum or (seconds is not None and seconds <= 0):
          calls, rows = [], 0
          while self._waiting and rows + self._waiting[0].rows <= self._maximum:
            calls.append(self._waiting.popleft())
            rows += calls[-1].rows
          return calls
        self._changed.wait(seconds)
    return []

  def _seconds_left(self):
    """How long the batch may still wait for more, None for ever."""
    if self._timeout is None:
      return None
    return self._waiting[0].arrival + self._timeout - time.monotonic()

  def _end(self, error):
    with self._changed:
      if not self._closed:
        self._closed = True
        self.error = error
      waiting, self._waiting = self._waiting, collections.deque()
      self._changed.notify_all()
    for call in waiting:
      call.fail(BatcherClosed())


class _Call:
  """The rows of one caller, who waits until they are `done`."""

  def __init__(self, arrays):
    self.arrays = arrays
    self.rows = len(arrays[0])
    self.arrival = time.monotonic()
    self.done = threading.Event()
    self.outputs = self.error = None

  def finish(self, outputs):
    self.outputs = outputs
    self.done.set()

  def fail(self, error):
    self.error = error
    self.done.set()
