"""Population-based training, a command: `python -m impala_tf.pbt`."""
