"""Entry point of `python -m impala_tf.evaluation`; see `command`."""

from absl import app

from impala_tf.evaluation import command

if __name__ == '__main__':
  command.define_flags()
  app.run(command.main)
