"""Modules that are to load no TensorFlow, in a process that can't.

python -m tests.support.without_tensorflow impala_tf.config atari57    # prints those that do
"""

import importlib
import sys

TENSORFLOW = ('tensorflow', 'sonnet', 'tensorflow_probability', 'tensorboard')


def refuse(on_import):
  """From now on has `on_import` called with the name of each module of TensorFlow that is to be
  loaded, before it is.
  """

  class Finder:
    def find_spec(self, name, path=None, target=None):
      if name.split('.')[0] in TENSORFLOW:
        on_import(name)

  sys.meta_path.insert(0, Finder())


def main(names):
  """Prints the names of those modules that load TensorFlow."""

  def fail(name):
    raise ModuleNotFoundError(name)

  refuse(fail)
  for name in names:
    try:
      importlib.import_module(name)
    except ModuleNotFoundError as error:
      if str(error) not in TENSORFLOW:
        raise
      print(name)


if __name__ == '__main__':
  main(sys.argv[1:])
