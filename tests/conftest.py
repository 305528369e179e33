"""What all tests need of TensorFlow, set before any of them uses it."""

from impala_tf import experiment

# Tests have up to 64 actor threads that wait for each other inside of operations, each of which holds a thread.
experiment.configure_tensorflow(64)
