"""Trains, tests or exports an IMPALA agent, as `python -m impala_tf` does; see
impala_tf/__main__.py, or --help.
"""

from impala_tf.__main__ import run

if __name__ == '__main__':
  run()
