"""What all tests need, set before any of them begins."""

import signal

from impala_tf import machine

# Tests have up to 64 actor threads that wait for each other inside of operations, each of which
# holds a thread.
machine.configure_tensorflow(64)

# A shell has what it starts in the background ignore Ctrl-C. Tests that send it would wait for
# ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
