"""How fast training and its parts are, a command: `python -m impala_tf.benchmark`."""
