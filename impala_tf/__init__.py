"""IMPALA (Espeholt et al., ICML 2018) in TensorFlow 2.

This package knows no suite of levels. Importing it imports no TensorFlow, so that environment processes stay small; its
modules `structs`, `py_process` and `environments` keep to that too.
"""

__version__ = '0.1.0'
