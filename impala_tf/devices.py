"""Names of devices."""

import tensorflow as tf


def local_cpu():
  """The full name of this process's processor, which is another one for each process of a cluster."""
  with tf.init_scope(), tf.device('/CPU:0'):
    return tf.constant(0.0).device
