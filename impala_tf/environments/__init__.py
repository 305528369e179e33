"""An environment's step as a TensorFlow operation: environments, the processes that host them, and
suites of levels.
"""
