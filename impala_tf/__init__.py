"""IMPALA (Espeholt et al., ICML 2018) in TensorFlow 2.

Atari-57 and DMLab-30 are packages beside it. Importing it imports no TensorFlow, so that
environment processes stay small; its modules `structs`, `py_process` and `environments` keep to
that too.
"""

import os

# TensorFlow looks at it when it is loaded; by default it goes on about the processor and the
# graphics card.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

__version__ = '0.1.0'
