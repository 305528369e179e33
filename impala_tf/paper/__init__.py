"""The paper's experiments, a command: `python -m impala_tf.paper`."""
