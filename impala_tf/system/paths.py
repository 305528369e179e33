"""Paths: of this machine's file systems, and of others that TensorFlow knows."""

import os


def is_remote(path: str | os.PathLike[str]) -> bool:
  """Returns whether a path is not one of this machine's, but another that TensorFlow may know."""
  return '://' in os.fspath(path)
