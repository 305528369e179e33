"""Random search over hyper-parameters, a command: `python -m impala_tf.sweeps`."""
