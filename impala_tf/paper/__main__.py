"""Entry point of `python -m impala_tf.paper`; see `command`."""

from absl import app

from impala_tf import config_flags
from impala_tf.paper import command

if __name__ == '__main__':
  command.define_flags()
  app.run(command.main, flags_parser=config_flags.parse_flags)
