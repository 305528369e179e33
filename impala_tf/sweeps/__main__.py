"""Entry point of `python -m impala_tf.sweeps`; see `command`."""

from absl import app

from impala_tf.sweeps import command

if __name__ == '__main__':
  command.define_flags()
  app.run(command.main)
