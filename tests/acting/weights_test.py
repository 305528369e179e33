"""Published weights arrive untorn, and an agent computes from the copy."""

import threading

import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf

from impala_tf.acting import weights


class Net(snt.Module):
  """Two layers, one of them in a submodule's list."""

  def __init__(self):
    super().__init__()
    self.layers = [snt.Linear(3), snt.Linear(2)]
    self.scale = tf.Variable(2.0)

  def __call__(self, inputs):
    for layer in self.layers:
      inputs = layer(inputs)
    return self.scale * inputs


@pytest.fixture
def net():
  net = Net()
  net(tf.ones([1, 4]))
  return net


@tf.function
def pull(published):
  return published.pull()


def test_pull_returns_what_was_published_and_its_version(net):
  published = weights.PublishedWeights(net)
  before = [v.numpy() for v in net.trainable_variables]
  for v in net.trainable_variables:
    v.assign_add(tf.ones_like(v))
  tensors, version = pull(published)
  assert version.numpy() == 0
  for tensor, value in zip(tensors, before, strict=True):
    np.testing.assert_array_equal(tensor, value)

  published.publish(tf.constant(2**24 + 1))
  tensors, version = pull(published)
  assert version.numpy() == 2**24 + 1
  for tensor, value in zip(tensors, before, strict=True):
    np.testing.assert_array_equal(tensor, value + 1)


def test_two_that_publish_do_not_meet(net):
  first = weights.PublishedWeights(net)
  before = net.scale.numpy()
  net.scale.assign(7.0)
  second = weights.PublishedWeights(net, version=3)
  scales = [
    [float(t) for t in tensors if t.shape == []] for tensors, _ in (pull(first), pull(second))
  ]
  assert scales == [[before], [7.0]]
  assert [int(pull(published)[1]) for published in (first, second)] == [0, 3]


def counted(published, monkeypatch):
  """A list that grows with each copy of a `SharedCopy`."""
  copies, original = [], published._copy
  monkeypatch.setattr(published, '_copy', lambda: (copies.append(0), original())[1])
  return copies


def test_a_version_is_copied_once_for_all_threads(net, monkeypatch):
  published = weights.PublishedWeights(net, version=5)
  copy = weights.SharedCopy(net, published)
  copies = counted(copy, monkeypatch)
  for version in (5, 6, 7):
    net.scale.assign(float(version))
    published.publish(tf.constant(version))
    barrier = threading.Barrier(8)

    def begin(barrier=barrier):
      barrier.wait()
      for _ in range(3):
        copy.refresh()

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    tensors, pulled = pull(copy)
    assert int(pulled) == version
    assert [float(t) for t in tensors if t.shape == []] == [float(version)]
  assert len(copies) == 3


def test_who_waited_for_a_newer_copy_makes_none_of_an_older_one(net, monkeypatch):
  published = weights.PublishedWeights(net)
  copy = weights.SharedCopy(net, published)
  copies, newest = counted(copy, monkeypatch), copy._newest

  def slow():
    # While this thread asks, another one copies what is newer.
    version = newest()
    monkeypatch.setattr(copy, '_newest', newest)
    published.publish(tf.constant(1))
    copy.refresh()
    return version

  monkeypatch.setattr(copy, '_newest', slow)
  copy.refresh()
  assert len(copies) == 1
  assert int(pull(copy)[1]) == 1


def test_after_a_restart_of_the_learner_the_same_version_is_copied_again(net, monkeypatch):
  published = weights.PublishedWeights(net)
  copy = weights.SharedCopy(net, published)
  copy.refresh()
  net.scale.assign(9.0)
  published.publish(tf.constant(0))
  copy.refresh()
  assert [float(t) for t in pull(copy)[0] if t.shape == []] == [2.0]
  copy.forget()
  copy.refresh()
  assert [float(t) for t in pull(copy)[0] if t.shape == []] == [9.0]


def test_readers_never_see_two_versions_mixed(net):
  published = weights.PublishedWeights(net)
  done = threading.Event()

  def write():
    for version in range(1, 300):
      for v in net.trainable_variables:
        v.assign(tf.fill(v.shape, float(version)))
      published.publish(tf.constant(version))
    done.set()

  for v in net.trainable_variables:
    v.assign(tf.zeros_like(v))
  published.publish(tf.constant(0))
  thread = threading.Thread(target=write)
  thread.start()
  seen = set()
  while not done.is_set():
    tensors, version = pull(published)
    for tensor in tensors:
      np.testing.assert_array_equal(tensor, float(version))
    seen.add(int(version))
  thread.join()
  assert len(seen) > 2


def test_with_weights_computes_from_the_tensors_and_puts_the_variables_back(net):
  inputs = tf.ones([1, 4])
  before = net(inputs)
  doubled = [v + v for v in net.trainable_variables]
  with weights.with_weights(net, doubled):
    inside = net(inputs)
  w0, b0, w1, b1 = (v.numpy() for layer in net.layers for v in (layer.w, layer.b))
  np.testing.assert_allclose(
    inside, 4.0 * ((np.ones([1, 4]) @ (2 * w0) + 2 * b0) @ (2 * w1) + 2 * b1), rtol=1e-5
  )
  np.testing.assert_array_equal(net(inputs), before)


def test_an_error_puts_the_variables_back_too(net):
  before = [id(v) for v in net.trainable_variables]
  zeros = [tf.zeros_like(v) for v in net.trainable_variables]
  with pytest.raises(ZeroDivisionError), weights.with_weights(net, zeros):
    _ = 1 / 0
  assert [id(v) for v in net.trainable_variables] == before
  assert isinstance(net.layers[0].w, tf.Variable)


def test_with_weights_leaves_checkpoints_whole(net, tmp_path):
  path = tf.train.Checkpoint(net=net).write(str(tmp_path / 'before'))
  other = Net()
  other(tf.ones([1, 4]))
  with weights.with_weights(other, [v + 0.0 for v in other.trainable_variables]):
    pass
  tf.train.Checkpoint(net=other).read(path).assert_consumed()
  np.testing.assert_array_equal(other.layers[0].w, net.layers[0].w)


@pytest.mark.parametrize('lag', [1, 3])
@pytest.mark.parametrize('start', [0, 100])
def test_lagging_weights_were_published_so_many_times_before(lag, start):
  module = tf.Module()
  module.w = tf.Variable([float(start)] * 3)
  published = weights.LaggingWeights(module, lag, version=start)
  for version in range(start, start + 8):
    if version > start:
      module.w.assign([float(version)] * 3)
      published.publish(tf.constant(version))
    (w,), pulled = pull(published)
    expected = max(start, version - lag)
    assert int(pulled) == expected
    np.testing.assert_array_equal(w, [float(expected)] * 3)


def test_a_variable_out_of_reach_is_named():
  net = Net()
  net(tf.ones([1, 4]))
  net.hidden = [tf.Variable(1.0, name='in_a_list')]
  with (
    pytest.raises(ValueError, match='in_a_list'),
    weights.with_weights(net, list(net.trainable_variables)),
  ):
    pass
