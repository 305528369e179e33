"""The learner's next batch, fetched while it works on the present one."""

import queue
import threading
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tree

from impala_tf import structs


class StagingArea:
  """Holds the learner's next batch, already on its device, while the learner works on the present
  one.

  A thread of its own fills it. The batch waits in Python and not in TensorFlow's Stage operation: a
  learner blocked there would neither notice a failed actor nor be stopped by a signal, and it would
  hold a thread of the inter-op pool. The next batch leaves the queue once the learner has taken the
  one before, no sooner, so that the area adds one update to the policy lag, as the authors' does.

      staging = StagingArea(lambda: unrolls.dequeue_batch(32))
      staging.start()
      batch, episodes = staging.get(timeout=1.0)     # None if there was no batch in time
  """

  def __init__(
    self,
    dequeue: Callable[[], structs.Unroll],
    on_host: Callable[[structs.Unroll], Any] = lambda batch: None,
  ):
    """Describes the area.

    Args:
      dequeue: gives the next batch, blocking; ends the flow by tf.errors.OutOfRangeError or
        CancelledError.
      on_host: computes, from a batch that is still on the host, what `get` returns beside it.
    """
    self._dequeue = dequeue
    self._on_host = on_host
    self._staged: queue.SimpleQueue = queue.SimpleQueue()
    self._room = threading.Semaphore(1)
    self._closed = threading.Event()
    self._error = None
    self._thread = threading.Thread(target=self._fill, name='staging', daemon=True)

  def start(self) -> None:
    """Begins to fetch batches."""
    self._thread.start()

  def _fill(self):
    try:
      while self._wait_for_room():
        batch = self._dequeue()
        beside = self._on_host(batch)
        self._staged.put((tree.map_structure(tf.identity, batch), beside))
        del batch, beside  # The next ones take their memory.
    except (tf.errors.OutOfRangeError, tf.errors.CancelledError):
      pass
    except Exception as error:  # Of any kind: the learner's thread is where it can be handled.
      self._error = error

  def _wait_for_room(self):
    """Returns True once the batch before was taken, False after `close`."""
    while not self._closed.is_set():
      if self._room.acquire(timeout=0.5):
        return not self._closed.is_set()
    return False

  def get(self, timeout: float) -> tuple[structs.Unroll, Any] | None:
    """Takes the next batch, on the learner's device, and what `on_host` made of it.

    Returns:
      Both, or None if `timeout` seconds passed without a batch.

    Raises:
      Exception: the error that ended the thread that fetches batches.
    """
    try:
      staged = self._staged.get(timeout=timeout)
    except queue.Empty:
      if self._error is not None:
        raise self._error from None
      return None
    self._room.release()
    return staged

  def close(self) -> None:
    """Stops fetching. Close the queue of unrolls first: the thread may be waiting for it."""
    self._closed.set()
    self._room.release()
    if self._thread.ident is not None:
      self._thread.join()
