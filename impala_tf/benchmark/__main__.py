"""Entry point of `python -m impala_tf.benchmark`; see `command`."""

from absl import app

from impala_tf.benchmark import command

if __name__ == '__main__':
  command.define_flags()
  app.run(command.main)
